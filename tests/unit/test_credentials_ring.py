from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbot.credentials import KeyRefused, KeyRing, RingError, SealBroken, kids_of, load, save, sealed_kid
from mailbot.credentials.ring import KIDS, encode

NOW = 1_790_000_000_000
DAY = 86_400_000
ROW = ("temporary-password", "alpha", 12345, 0, "digits:8")


def test_a_new_key_becomes_active_at_its_time_and_the_old_one_stays_valid() -> None:
    ring = KeyRing.create(NOW)
    first = ring.active(NOW)
    secret = ring.derive(first.kid, *ROW)
    ring = ring.rotate(NOW + 1, NOW + DAY)
    assert ring.active(NOW + DAY - 1) == first
    second = ring.active(NOW + DAY)
    assert second.kid != first.kid
    assert second.secret != first.secret
    assert ring.key(first.kid) == first
    assert ring.derive(first.kid, *ROW) == secret
    assert ring.derive(second.kid, *ROW) != secret


def test_a_clock_a_moment_behind_still_has_an_active_key() -> None:
    ring = KeyRing.create(NOW)
    assert ring.active(NOW - 1500) == ring.keys[0]


def test_a_key_made_earlier_but_active_later_wins_only_at_its_time() -> None:
    ring = KeyRing.create(NOW).rotate(NOW, NOW + 2 * DAY).rotate(NOW, NOW + DAY)
    assert [ring.active(NOW + n * DAY).kid for n in range(4)] == [0, 2, 1, 1]
    assert KeyRing.create(NOW).rotate(NOW, NOW).active(NOW).kid == 1


def test_a_key_cannot_become_active_in_the_past() -> None:
    with pytest.raises(RingError, match="past"):
        KeyRing.create(NOW).rotate(NOW, NOW - 1)


def test_after_a_compromise_no_earlier_key_verifies_but_sealed_values_still_open() -> None:
    ring = KeyRing.create(NOW).rotate(NOW, NOW + DAY)
    blob = ring.seal(b"1980-01-02", "alpha/member/birth_date/1", NOW)
    after = ring.rotate_compromised(NOW + 5)
    assert after.active(NOW + 5).kid == 2
    assert after.active(NOW + 2 * DAY).kid == 2, "a key that was waiting is compromised as well"
    for kid in (0, 1):
        assert after.key(kid) is None
        with pytest.raises(KeyRefused):
            after.derive(kid, *ROW)
    assert after.open(blob, "alpha/member/birth_date/1") == b"1980-01-02"
    again = after.seal(after.open(blob, "alpha/member/birth_date/1"), "alpha/member/birth_date/1", NOW + 5)
    assert sealed_kid(again) == 2
    assert kids_of([blob, again]) == {0, 2}


def test_retiring_is_refused_while_a_live_row_names_the_key() -> None:
    ring = KeyRing.create(NOW).rotate(NOW, NOW)
    with pytest.raises(RingError, match="key a cannot retire: live rows"):
        ring.retire(0, {0, 1}, NOW)
    after = ring.retire(0, {1}, NOW + 9)
    assert after.key(0) is None
    assert after.keys[0].retired_at == NOW + 9
    assert after.retire(0, set(), NOW + 99) == after
    with pytest.raises(KeyRefused):
        after.derive(0, *ROW)


@pytest.mark.parametrize(("kid", "words"), [(1, "active one"), (7, "no key h"), (99, "no key 99")])
def test_the_active_or_an_unknown_key_cannot_retire(kid: int, words: str) -> None:
    with pytest.raises(RingError, match=words):
        KeyRing.create(NOW).rotate(NOW, NOW).retire(kid, set(), NOW)


def test_a_kid_comes_again_only_when_all_are_used_and_one_is_retired() -> None:
    ring = KeyRing.create(NOW)
    for n in range(1, KIDS):
        ring = ring.rotate(NOW + n, NOW + n)
    assert {key.kid for key in ring.keys} == set(range(KIDS))
    with pytest.raises(RingError, match="all 32 keys"):
        ring.rotate(NOW + 99, NOW + 99)
    ring = ring.retire(5, set(), NOW + 99).retire(3, set(), NOW + 98)
    old = next(key for key in ring.keys if key.kid == 3)
    again = ring.rotate(NOW + 100, NOW + 100)
    assert again.active(NOW + 100).kid == 3
    assert again.active(NOW + 100).secret != old.secret
    assert len(again.keys) == KIDS


def test_the_fingerprint_outlives_rotation_and_differs_between_rings() -> None:
    ring = KeyRing.create(NOW)
    print_ = ring.fingerprint()
    assert len(print_) == 32
    assert ring.rotate(NOW, NOW).rotate_compromised(NOW).fingerprint() == print_
    assert KeyRing.create(NOW).fingerprint() != print_


def test_every_part_of_a_row_changes_its_secret() -> None:
    ring = KeyRing.create(NOW).rotate(NOW, NOW)
    rows = [
        ROW,
        ("pin", *ROW[1:]),
        (ROW[0], "beta", *ROW[2:]),
        (*ROW[:2], 12346, *ROW[3:]),
        (*ROW[:3], 1, ROW[4]),
        (*ROW[:4], "digits:9"),
    ]
    secrets = {ring.derive(kid, *row) for kid in (0, 1) for row in rows}
    assert len(secrets) == 12
    assert {len(secret) for secret in secrets} == {32}


@given(st.lists(st.text()), st.lists(st.text()))
def test_different_fields_never_encode_alike(left: list[str], right: list[str]) -> None:
    assert (encode(*left) == encode(*right)) == (left == right)


def test_fields_do_not_run_into_each_other() -> None:
    ring = KeyRing.create(NOW)
    assert ring.derive(0, "ab", "c", 1, 0, "") != ring.derive(0, "a", "bc", 1, 0, "")
    assert ring.derive(0, "a", "b", 1, 10, "") != ring.derive(0, "a", "b", 11, 0, "")
    assert ring.index("p", "s", "ab", "c") != ring.index("p", "s", "a", "bc")
    assert ring.index("p", "s", "a") != ring.index("p", "s", "a", "")


def test_an_index_finds_the_same_row_after_rotation_only_in_its_society_and_purpose() -> None:
    ring = KeyRing.create(NOW)
    found = ring.index("identity", "alpha", "12", "345678", "1980-01-02")
    assert len(found) == 16
    assert ring.rotate_compromised(NOW).index("identity", "alpha", "12", "345678", "1980-01-02") == found
    assert ring.index("identity", "beta", "12", "345678", "1980-01-02") != found
    assert ring.index("address", "alpha", "12", "345678", "1980-01-02") != found
    assert KeyRing.create(NOW).index("identity", "alpha", "12", "345678", "1980-01-02") != found
    assert len(ring.index("identity", "alpha", "\ud800")) == 16, "a lone surrogate from a form is no crash"


@given(st.binary(max_size=300), st.text(max_size=40))
def test_what_is_sealed_opens_in_its_place(plain: bytes, context: str) -> None:
    ring = KeyRing.create(NOW)
    blob = ring.seal(plain, context, NOW)
    assert ring.open(blob, context) == plain
    assert len(blob) == len(plain) + 30
    with pytest.raises(SealBroken):
        ring.open(blob, context + "x")


def test_the_same_value_never_seals_to_the_same_bytes() -> None:
    ring = KeyRing.create(NOW)
    assert ring.seal(b"same", "c", NOW) != ring.seal(b"same", "c", NOW)


def test_any_changed_byte_breaks_the_seal() -> None:
    ring = KeyRing.create(NOW).rotate(NOW, NOW)
    blob = ring.seal(b"secret", "c", NOW)
    for place in range(len(blob)):
        for bit in (1, 128):
            broken = bytearray(blob)
            broken[place] ^= bit
            with pytest.raises(SealBroken):
                ring.open(bytes(broken), "c")
    for length in range(len(blob)):
        with pytest.raises(SealBroken):
            ring.open(blob[:length], "c")


def test_another_ring_does_not_open() -> None:
    with pytest.raises(SealBroken):
        KeyRing.create(NOW).open(KeyRing.create(NOW).seal(b"x", "c", NOW), "c")


def test_no_key_shows_in_a_representation() -> None:
    ring = KeyRing.create(NOW)
    text = repr(ring) + repr(ring.active(NOW)) + str(ring)
    for secret in (ring.index_key, ring.keys[0].secret):
        assert repr(secret) not in text
        assert secret.hex() not in text


# --- the file -------------------------------------------------------------------------------------------------------


def test_a_saved_ring_loads_unchanged_with_mode_0600_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    old = os.umask(0)
    try:
        save(path, KeyRing.create(NOW))
    finally:
        os.umask(old)
    ring = KeyRing.create(NOW).rotate(NOW, NOW).rotate_compromised(NOW + 1).retire(0, set(), NOW + 2)
    save(path, ring)
    assert load(path) == ring
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["ring.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o610])
def test_a_ring_others_can_reach_is_refused_with_the_way_to_mend_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "ring.json"
    save(path, KeyRing.create(NOW))
    path.chmod(mode)
    with pytest.raises(RingError) as caught:
        load(path)
    assert f"chmod 600 {path}" in str(caught.value)
    assert f"{mode:04o}" in str(caught.value)


def test_a_ring_is_never_written_over_by_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    first = KeyRing.create(NOW)
    save(path, first, new=True)
    with pytest.raises(RingError, match="exists already"):
        save(path, KeyRing.create(NOW), new=True)
    assert load(path) == first
    assert [item.name for item in tmp_path.iterdir()] == ["ring.json"]


def test_a_failed_write_leaves_the_old_ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ring.json"
    first = KeyRing.create(NOW)
    save(path, first)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RingError, match="No space left"):
            save(path, first.rotate(NOW, NOW))
    assert load(path) == first
    assert [item.name for item in tmp_path.iterdir()] == ["ring.json"]


def test_a_missing_file_or_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none" / "ring.json"
    for act in (lambda: load(path), lambda: save(path, KeyRing.create(NOW))):
        with pytest.raises(RingError, match=f"key ring {path}: No such file"):
            act()


def test_a_damaged_file_is_an_error_that_shows_no_key(tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    save(path, KeyRing.create(NOW).rotate(NOW, NOW))
    good = json.loads(path.read_text())
    key = good["keys"][0]
    damaged = [
        "",
        "[]",
        "{",
        "\xff",
        path.read_text()[:-40],
        *(json.dumps({k: v for k, v in good.items() if k != gone}) for gone in good),
        json.dumps(good | {"version": 2}),
        json.dumps(good | {"keys": []}),
        json.dumps(good | {"keys": [key, key]}),
        json.dumps(good | {"index_key": "AAAA"}),
        json.dumps(good | {"index_key": good["index_key"][:-1] + "*"}),
        *(json.dumps(good | {"keys": [{k: v for k, v in key.items() if k != gone}]}) for gone in key),
        *(
            json.dumps(good | {"keys": [key | change]})
            for change in (
                {"kid": "1"},
                {"kid": "ab"},
                {"kid": 0},
                {"secret": "AAAA"},
                {"secret": 5},
                {"created_at": "x"},
                {"active_from": None},
                {"active_from": True},
                {"retired_at": "x"},
                {"compromised": 1},
                {"compromised": True},
                {"retired_at": 5},
            )
        ),
    ]
    for text in damaged:
        path.write_text(text, encoding="latin-1")
        with pytest.raises(RingError) as caught:
            load(path)
        message = str(caught.value)
        assert message.startswith(f"key ring {path}: ")
        assert key["secret"][:12] not in message
        assert good["index_key"][:12] not in message
        assert caught.value.__cause__ is None
