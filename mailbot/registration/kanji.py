"""Forms of a kanji that people write for one another in names: 髙橋 is looked for as 高橋, and the other way round.

From the old forms beside the list of Joyo kanji (常用漢字表, Cabinet notice of 30 November 2010) and the forms in
surnames among the extended characters of cp932 and JIS X 0213 (髙 﨑 𠮷 德 栁 濵 桒 …). Only forms of one character:
斎 and 斉, or 島 and 嶼, are different characters and stay apart. Nothing here changes what is kept or printed.
"""

from __future__ import annotations

_PAIRS = """
髙高 﨑崎 嵜崎 𠮷吉 德徳 濵浜 濱浜 邊辺 邉辺 齋斎 齊斉 澤沢 廣広 國国 櫻桜 龍竜 瀧滝 嶋島 嶌島 惠恵 眞真 榮栄 壽寿
實実 與与 圓円 禮礼 靜静 澁渋 渕淵 渊淵 冨富 峯峰 羣群 栁柳 曻昇 桒桑 舘館 鷗鴎 礒磯 藏蔵 條条 萬万 彌弥 學学 關関
𣘺橋 槗橋 𡈽土 彥彦 晄晃 靑青 淸清 鄕郷 凜凛 緖緒 祿禄 巖巌 檜桧 橫横 黑黒 敎教 敍叙 戶戸 步歩 每毎 溫温 產産 硏研
綠緑 緣縁 聰聡 莊荘 藝芸 豐豊 贊賛 轉転 鄰隣 鐵鉄 鹽塩 鷄鶏 麥麦 麴麹 齡齢 龜亀 佛仏 傳伝 兒児 劍剣 勳勲 勵励 單単
增増 壯壮 壹壱 奧奥 孃嬢 寬寛 寶宝 將将 專専 嶽岳 峽峡 崗岡 帶帯 廳庁 彈弾 從従 應応 懷懐 戀恋 拂払 擧挙 據拠 收収
數数 斷断 晝昼 曉暁 會会 槇槙 樂楽 樣様 檢検 歡歓 歸帰 淺浅 渴渇 瀨瀬 灣湾 燒焼 獨独 瑤瑶 畫画 發発 盡尽 祕秘 稻稲
穗穂 竝並 絲糸 經経 繪絵 繩縄 肅粛 膽胆 臺台 蘆芦 螢蛍 蠶蚕 覺覚 觀観 證証 讓譲 豫予 邨村 醫医 釋釈 鑛鉱 隨随 險険
靈霊 顯顕 飮飲 餘余 驛駅 髮髪 鬪闘 點点 齒歯
"""
COMMON_FORM = {ord(pair[0]): pair[1] for pair in _PAIRS.split()}
"""For `str.translate`."""
