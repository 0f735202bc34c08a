"""`mailbot suppression`: staff see why mail does not reach an address, stop it, and let it go again."""

from pathlib import Path

from tests.support.robot import Robot


def test_add_list_remove(tmp_path: Path) -> None:
    made = Robot(tmp_path, 25)
    made.command("db", "upgrade")
    made.command("suppression", "add", "yokokou", "Ｈanako@docomo.ne.jp", "--reason", "\x1b[2Jwritten on paper")
    (row,) = made.json("suppression", "list", "yokokou")
    assert (row["address"], row["cause"], row["source"]) == ("Hanako@docomo.ne.jp", "unknown-user", "staff")
    assert row["means"] == "職員が送信を止めました"
    assert row["words"].isprintable()
    found = made.json("queue", "find", "yokokou", "hanako@DOCOMO.ne.jp")
    assert [one["event"] for one in found["found"]] == ["address-unknown-user"]
    assert "職員が送信を止めました" in found["found"][0]["what"]
    assert "`mailbot suppression remove`" in found["next"]
    wrong = made.command("suppression", "remove", "yokokou", "nobody@docomo.ne.jp", check=False)
    assert (wrong.returncode, "nothing is known" in wrong.stderr) == (1, True)
    assert "gets mail again" in made.command("suppression", "remove", "yokokou", "hanako@docomo.ne.jp").stdout
    assert made.json("suppression", "list") == []
