from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbot.config.society import ASCII_PUNCTUATION, DigitFree, LoginIdRule, PasswordRule
from mailbot.credentials import (
    Code,
    Context,
    Fact,
    Format,
    Problem,
    birth_date_forms,
    describe,
    describe_login_id,
    fold,
    login_id_problems,
    login_id_text,
    normalised,
    problems,
    sentence,
)
from mailbot.credentials.common import how_many, is_common

DEFAULT = PasswordRule()
YOKOKOU = PasswordRule(min_length=8, require=("lower", "digit"), allowed_characters="_#+,/=?!@*%&^`-")
SHOCHIKU = PasswordRule(min_length=8, require=("lower", "digit"))
OMRON = PasswordRule(
    min_length=10,
    max_length=39,
    require=("lower", "upper", "digit", "symbol"),
    allowed_characters="#+,/=?!@*%&^`-.",
)
HPE = PasswordRule(min_length=8, require=("lower", "upper", "digit", "symbol"))

YOKOKOU_ID = LoginIdRule(digit_free=DigitFree(length=8, positions=(7, 8)))
SHOCHIKU_ID = LoginIdRule(keep_printed=True)
OMRON_ID = LoginIdRule(min_length=8, max_length=39, allowed_characters="#+,/=?!@*%&^`-.")
PRINTED = (Format("digits", 8),)


def codes(found: list[Problem]) -> list[Code]:
    return [problem.code for problem in found]


def said(found: list[Problem], label: str = "パスワード") -> list[str]:
    return [sentence(problem, label) for problem in found]


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        (YOKOKOU, "minato7k", []),
        (YOKOKOU, "hamaka7", [Code.TOO_SHORT]),
        (YOKOKOU, "minatokaze", [Code.MISSING]),
        (YOKOKOU, "MINATO7KAZE", [Code.MISSING]),
        (YOKOKOU, "7391846205", [Code.MISSING]),
        (YOKOKOU, "minato_7k`", []),
        (YOKOKOU, "minato.7k", [Code.CHARACTERS]),
        (YOKOKOU, "minato 7k", [Code.CHARACTERS]),
        (YOKOKOU, "みなと7kaze", [Code.CHARACTERS]),
        (YOKOKOU, "ｍｉｎａｔｏ７ｋ", []),
        (SHOCHIKU, "kabuki7za", []),
        (SHOCHIKU, "kabuki.7", []),
        (SHOCHIKU, "kabukiza", [Code.MISSING]),
        (SHOCHIKU, "kabuki7", [Code.TOO_SHORT]),
        (OMRON, "Kusatsu#71", []),
        (OMRON, "Kusatsu.71", []),
        (OMRON, "Kusatsu_71", [Code.CHARACTERS, Code.MISSING]),
        (OMRON, "Kusatsu#7", [Code.TOO_SHORT]),
        (OMRON, "Kusatsu#71" * 4, [Code.TOO_LONG]),
        (OMRON, "kusatsu#71", [Code.MISSING]),
        (OMRON, "kusatsukyoto", [Code.MISSING] * 3),
        (HPE, "Ojima_71", []),
        (HPE, "Ojima~71", []),
        (HPE, "Ojima171", [Code.MISSING]),
        (DEFAULT, "aaaabbbbccccd1", []),
        (DEFAULT, "わたしの いえは 坂のうえ", []),
        (DEFAULT, "x" * 7 + "kq", [Code.TOO_SHORT]),
        (DEFAULT, "a b" * 21 + "!", []),
        (DEFAULT, "correct\x00horse staple", [Code.CHARACTERS]),
        (DEFAULT, "correct\nhorse staple", [Code.CHARACTERS]),
        (DEFAULT, "correct\ud800horse staple", [Code.CHARACTERS]),
        (DEFAULT, "", [Code.EMPTY]),
        (YOKOKOU, "password12345", [Code.COMMON]),
    ],
)
def test_a_password_under_its_society_s_rule(rule: PasswordRule, text: str, expected: list[Code]) -> None:
    assert codes(problems(rule, text)) == expected


@pytest.mark.parametrize("sign", ASCII_PUNCTUATION)
def test_each_sign_counts_where_its_society_names_it(sign: str) -> None:
    assert codes(problems(HPE, "Ojima71" + sign)) == []
    assert (codes(problems(YOKOKOU, "minato7k" + sign)) == []) == (sign in "_#+,/=?!@*%&^`-")
    assert (codes(problems(OMRON, "Kusatsu271" + sign)) == []) == (sign in "#+,/=?!@*%&^`-.")


def test_a_megabyte_is_refused_by_its_length_alone() -> None:
    found = problems(DEFAULT, "password" * 130_000)
    assert said(found) == ["パスワードは、128文字以内で入力してください。いま1040000文字です。"]
    assert codes(problems(PasswordRule(max_length=256), "𠮷" * 257)) == [Code.TOO_LONG]


def test_sentences_say_what_to_do() -> None:
    assert said(problems(YOKOKOU, "mina7k")) == ["パスワードは、8文字以上で入力してください。いま6文字です。"]
    assert said(problems(YOKOKOU, "minatokaze")) == ["パスワードに、数字を1文字以上入れてください。"]
    assert said(problems(YOKOKOU, "mina.to 7k.")) == ["パスワードに、「.」「空白」は使えません。"]
    assert said(problems(DEFAULT, "correct\x00horse staple")) == ["パスワードに、「見えない文字」は使えません。"]
    assert said(problems(OMRON, "Kusatsu171"), "新パスワード") == [
        "新パスワードに、記号を1文字以上入れてください（# + , / = ? ! @ * % & ^ ` - . のどれか）。"
    ]
    assert said(problems(DEFAULT, "password12345")) == [
        "よく使われるパスワードのため、登録できません。別の言葉を組み合わせてください。"
    ]
    assert said(problems(DEFAULT, ""), "新しいパスワード") == ["新しいパスワードを入力してください。"]


def test_every_problem_has_a_polite_sentence() -> None:
    params = {"min": 8, "max": 9, "length": 3, "characters": (".",), "class": "digit", "symbols": None}
    params |= {"fact": Fact.NUMBER, "positions": (7, 8), "format": PRINTED[0]}
    sentences = {code: sentence(Problem(code, params), "ログインID") for code in Code}
    assert len(set(sentences.values())) == len(Code)
    assert all(text.endswith(("ください。", "ません。", "文字です。")) for text in sentences.values())
    assert sentences[Code.TAKEN].startswith("そのログインIDは、ほかの方が使っています。")


# --- what others would try first ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("password12345", "Password1!", "P@ssw0rd123", "passw0rd", "passwordpassword", "123password", "letmein!!!"),
        *(
            "12345678",
            "123456789012",
            "87654321",
            "qwertyuiop",
            "1qaz2wsx3edc",
            "asdfghjkl1234",
            "q1w2e3r4t5",
            "!@#$%^&*",
        ),
        *("aaaaaaaaaaaa", "abcabcabcabc", "111111111111", "abcd12345678"),
        *("iloveyou", "adm1n123", "sakura2024", "Sakura2026!", "2024hanako", "kenpo2026", "yokohama1"),
        *("パスワード123", "あいうえおかきくけこ", "ＰＡＳＳＷＯＲＤ１"),
    ],
)
def test_common_passwords(text: str) -> None:
    assert is_common(normalised(text))


@pytest.mark.parametrize(
    "text",
    [
        *("aaaabbbbccccd1", "minato7k", "Kusatsu#71", "kabuki7za", "73918462", "k3v9-tt2q"),
        *("correct horse battery", "さかのうえの雲をみた"),
    ],
)
def test_uncommon_passwords(text: str) -> None:
    assert not is_common(text)


def test_the_list_is_as_long_as_the_standard_asks() -> None:
    assert how_many() >= 3000


ME = Context(
    login_ids=("minato.taro",),
    numbers=("12", "345678", "12345678"),
    birth_date=date(1980, 1, 2),
    addresses=("hanako.yamada@example.jp",),
    societies=("横浜港湾健康保険組合", "kowan", "ミナトポータル"),
    previous="73918462ab",
)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("minato.taro", Fact.LOGIN_ID),
        ("Minato-Taro1", Fact.LOGIN_ID),
        ("minatotaroMINATOTARO", Fact.LOGIN_ID),
        ("19800102", Fact.BIRTH_DATE),
        ("1980-01-02", Fact.BIRTH_DATE),
        ("１９８００１０２ab", Fact.BIRTH_DATE),
        ("1980/1/2xy", Fact.BIRTH_DATE),
        ("s550102xx", Fact.BIRTH_DATE),
        ("昭和55年1月2日", Fact.BIRTH_DATE),
        ("02011980a", Fact.BIRTH_DATE),
        ("ab345678x", Fact.NUMBER),
        ("hanako.yamada", Fact.ADDRESS),
        ("hanakoyamada1!x", Fact.ADDRESS),
        ("hanako.yamada@example.jp", Fact.ADDRESS),
        ("kowan123", Fact.SOCIETY),
        ("横浜港湾健康保険組合1", Fact.SOCIETY),
        ("73918462ab", Fact.PREVIOUS),
    ],
)
def test_what_is_known_of_the_person_is_refused_with_the_reason(text: str, fact: Fact) -> None:
    found = [problem for problem in problems(SHOCHIKU, text, ME) if problem.code is Code.PERSONAL]
    assert [problem.params for problem in found] == [{"fact": fact}]
    assert ("いままで" if fact is Fact.PREVIOUS else fact) in said(found)[0]


@pytest.mark.parametrize(
    "text", ["kowan-no-yuyake7", "umi19800102sora", "73918462ac", "12tsubame34kaeru", "hanako no niwa5"]
)
def test_a_fact_inside_a_longer_password_is_no_reason(text: str) -> None:
    assert problems(SHOCHIKU, text, ME) == []


def test_without_facts_nothing_is_personal() -> None:
    assert problems(SHOCHIKU, "kabuki7za", Context(login_ids=("",), numbers=("", "7"), societies=("",))) == []


def test_birth_date_forms_hold_the_usual_spellings() -> None:
    forms = birth_date_forms(date(1980, 1, 2))
    wanted = {"19800102", "800102", "0102", "01021980", "02011980", "198012", "s550102", "昭和55年1月2日", "550102"}
    assert wanted <= set(forms)
    assert "昭和5512" in forms
    assert "r010503" in birth_date_forms(date(2019, 5, 3))
    assert "h310430" in birth_date_forms(date(2019, 4, 30))


def test_a_problem_and_a_context_show_no_password_in_logs() -> None:
    assert "minato" not in repr(ME)
    assert "1980" not in repr(ME)
    assert all("12345" not in repr(problem) for problem in problems(DEFAULT, "password12345"))


# --- what stands before the fields ----------------------------------------------------------------------------------


def test_the_list_before_the_fields() -> None:
    lines = describe(YOKOKOU, "新パスワード")
    assert lines[:3] == [
        "新パスワードは、8文字以上で決めてください（128文字まで）。",
        "英小文字と数字を、それぞれ1文字以上入れてください。",
        "使える文字は、半角の英字（a–z、A–Z）、数字、次の記号です： _ # + , / = ? ! @ * % & ^ ` -",
    ]
    assert describe(OMRON, "x")[1] == "英小文字、英大文字、数字、記号を、それぞれ1文字以上入れてください。"
    assert describe(PasswordRule(require=("digit",)), "x")[1] == "数字を、1文字以上入れてください。"
    assert describe(DEFAULT, "x")[1] == "空白やかなも使えます。文字の種類は自由です。"
    assert all(fact in describe(DEFAULT, "x")[-1] for fact in Fact if fact is not Fact.PREVIOUS)


@given(st.text(alphabet="abcXYZ019._#~ あ", max_size=45), st.sampled_from([DEFAULT, YOKOKOU, SHOCHIKU, OMRON, HPE]))
def test_list_and_check_name_the_same_limits(text: str, rule: PasswordRule) -> None:
    lines = "\n".join(describe(rule, "パスワード"))
    for problem in problems(rule, text, ME):
        if problem.code is Code.TOO_SHORT:
            assert f"{problem.params['min']}文字以上" in lines
        if problem.code is Code.TOO_LONG:
            assert f"{problem.params['max']}文字まで" in lines
        if problem.code is Code.MISSING:
            assert sentence(problem, "x").split("を1文字")[0].removeprefix("xに、") in lines
        if problem.code is Code.CHARACTERS:
            assert "使える文字は" in lines


# --- login IDs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        (YOKOKOU_ID, "abcdef12", [Code.DIGIT_POSITION]),
        (YOKOKOU_ID, "abcdefg1", [Code.DIGIT_POSITION]),
        (YOKOKOU_ID, "abcdef1h", [Code.DIGIT_POSITION]),
        (YOKOKOU_ID, "ａｂｃｄｅｆ１２", [Code.DIGIT_POSITION]),
        (YOKOKOU_ID, " abcdef12 ", [Code.DIGIT_POSITION]),
        (YOKOKOU_ID, "123456ab", []),
        (YOKOKOU_ID, "abcdef123", []),
        (YOKOKOU_ID, "abcde12", []),
        (YOKOKOU_ID, "12345678", [Code.DIGIT_POSITION, Code.TEMPORARY_SHAPE]),
        (SHOCHIKU_ID, "12345678", [Code.TEMPORARY_SHAPE]),
        (SHOCHIKU_ID, "１２３４５６７８", [Code.TEMPORARY_SHAPE]),
        (SHOCHIKU_ID, "123456789", []),
        (SHOCHIKU_ID, "abc", [Code.TOO_SHORT]),
        (SHOCHIKU_ID, "taro yamada", [Code.CHARACTERS]),
        (SHOCHIKU_ID, "太郎です。", [Code.CHARACTERS]),
        (SHOCHIKU_ID, "tаro", [Code.CHARACTERS]),
        (SHOCHIKU_ID, "taro\x00x", [Code.CHARACTERS]),
        (SHOCHIKU_ID, " \u3000", [Code.EMPTY]),
        (OMRON_ID, "taro.omron", []),
        (OMRON_ID, "taro_omron", [Code.CHARACTERS]),
        (OMRON_ID, "taro.om", [Code.TOO_SHORT]),
        (OMRON_ID, "a" * 40, [Code.TOO_LONG]),
        (OMRON_ID, "a" * 39, []),
    ],
)
def test_a_login_id_under_its_society_s_rule(rule: LoginIdRule, text: str, expected: list[Code]) -> None:
    assert codes(login_id_problems(rule, text, PRINTED)) == expected


def test_only_one_s_own_printed_id_may_be_kept_and_only_where_the_rule_says_so() -> None:
    assert login_id_problems(SHOCHIKU_ID, "１2345678", PRINTED, printed="12345678") == []
    assert codes(login_id_problems(SHOCHIKU_ID, "12345679", PRINTED, printed="12345678")) == [Code.TEMPORARY_SHAPE]
    assert codes(login_id_problems(LoginIdRule(), "12345678", PRINTED, printed="12345678")) == [Code.TEMPORARY_SHAPE]
    assert Code.DIGIT_POSITION in codes(login_id_problems(YOKOKOU_ID, "12345678", PRINTED, printed="12345678"))


def test_letters_in_either_case_have_the_shape_of_a_caseless_format() -> None:
    easy = (Format("easy", 10),)
    assert codes(login_id_problems(LoginIdRule(), "ABCDEFGH23", easy)) == [Code.TEMPORARY_SHAPE]
    assert codes(login_id_problems(LoginIdRule(), "ABCDEFGHI1", easy)) == []


def test_a_huge_login_id_is_one_problem() -> None:
    assert codes(login_id_problems(OMRON_ID, "ﷺ" * 1_000_000)) == [Code.TOO_LONG]


def test_login_id_sentences() -> None:
    label = "新ログインID"
    assert said(login_id_problems(YOKOKOU_ID, "abcdef12"), label) == [
        "新ログインIDの7文字目と8文字目には、数字を使えません。"
    ]
    assert said(login_id_problems(SHOCHIKU_ID, "12345678", PRINTED), label) == [
        "新ログインIDに、お知らせのIDと同じ形（数字8文字）は使えません。別のIDにしてください。"
    ]


def test_the_login_id_list_before_the_field() -> None:
    assert describe_login_id(YOKOKOU_ID, "新ログインID", PRINTED) == [
        "新ログインIDは、4文字以上40文字以内で決めてください。",
        f"使える文字は、半角の英字（a–z、A–Z）、数字、次の記号です： {' '.join(ASCII_PUNCTUATION)}",
        "大文字と小文字は区別しません。ほかの方と同じもの、見分けにくいものは使えません。",
        "8文字にするときは、7文字目と8文字目に数字を使えません。",
        "お知らせのIDと同じ形（数字8文字）のものは選べません。",
    ]
    assert "そのまま使うことはできます" in describe_login_id(SHOCHIKU_ID, "x", PRINTED)[-1]
    assert describe_login_id(LoginIdRule(allowed_characters=""), "x")[1].endswith("（a–z、A–Z）、数字です")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Taro", "taro"),
        ("ＴＡＲＯ１２３", "taro123"),
        (" taro\u3000", "taro"),
        ("taro0", "taroo"),
        ("TARO1", "taroL"),
        ("tar01", "TAROI"),
        ("ta-ro", "taーro"),
        ("ta|ro", "talro"),
    ],
)
def test_look_alikes_fold_together(left: str, right: str) -> None:
    assert fold(left) == fold(right)


@given(st.integers(0, 10**8 - 1), st.integers(0, 10**8 - 1))
def test_printed_ids_never_fold_together(left: int, right: int) -> None:
    assert (fold(f"{left:08}") == fold(f"{right:08}")) == (left == right)


@given(st.text(alphabet=[chr(n) for n in range(32, 127)], max_size=30))
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert login_id_text(login_id_text(text)) == login_id_text(text)
    assert fold(text.upper()) == fold(text.lower())


@given(st.text(max_size=60))
def test_no_text_makes_a_check_fail(text: str) -> None:
    for problem in problems(YOKOKOU, text, ME) + login_id_problems(YOKOKOU_ID, text, PRINTED):
        assert sentence(problem, "ID")
    assert isinstance(fold(text), str)
