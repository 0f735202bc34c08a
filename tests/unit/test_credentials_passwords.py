from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from argon2 import Parameters, Type
from argon2.exceptions import InvalidHashError

from mailbot.credentials import ARGON2ID, Passwords, PasswordTooLong

LIGHT = Parameters(type=Type.ID, version=19, salt_len=16, hash_len=32, time_cost=1, memory_cost=64, parallelism=1)


@pytest.fixture
async def passwords() -> AsyncIterator[Passwords]:
    made = Passwords(LIGHT)
    yield made
    await made.close()


async def test_the_right_password_and_no_other(passwords: Passwords) -> None:
    stored = await passwords.hash("さくらの 木のした")
    assert stored.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    assert await passwords.verify(stored, "さくらの 木のした")
    assert not await passwords.verify(stored, "さくらの 木のした ")
    assert not await passwords.verify(stored, "")
    assert await passwords.hash("さくらの 木のした") != stored


async def test_full_width_typing_is_the_same_password(passwords: Passwords) -> None:
    stored = await passwords.hash("ＡＢＣ１２３ｱｲｳ")
    assert await passwords.verify(stored, "ABC123アイウ")


async def test_an_unknown_account_costs_the_same_and_is_never_right(passwords: Passwords) -> None:
    stored = await passwords.hash("x")
    before = passwords.hashes_run
    assert not await passwords.verify(None, "x")
    assert passwords.hashes_run == before + 1
    assert not await passwords.verify(stored, "y")
    assert passwords.hashes_run == before + 2


async def test_even_the_dummy_s_own_password_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailbot.credentials.passwords.secrets.token_bytes", lambda size: b"guessed")
    made = Passwords(LIGHT)
    assert not await made.verify(None, "guessed")
    await made.close()


@pytest.mark.parametrize("text", ["a" * 1025, "あ" * 342, "a" * 1_000_000, "ﷺ" * 1000])
async def test_long_input_is_refused_before_any_hash(passwords: Passwords, text: str) -> None:
    for stored in (None, "not even looked at"):
        with pytest.raises(PasswordTooLong):
            await passwords.verify(stored, text)
    with pytest.raises(PasswordTooLong):
        await passwords.hash(text)
    assert passwords.hashes_run == 0


async def test_1024_bytes_are_hashed_whole(passwords: Passwords) -> None:
    stored = await passwords.hash("a" * 1023 + "b")
    assert await passwords.verify(stored, "a" * 1023 + "b")
    assert not await passwords.verify(stored, "a" * 1024)
    assert await passwords.verify(await passwords.hash("\ud800"), "\ud800"), "a lone surrogate is no crash"


async def test_a_damaged_hash_is_an_outage_not_a_wrong_password(passwords: Passwords) -> None:
    with pytest.raises(InvalidHashError):
        await passwords.verify("!", "x")


async def test_rehash_is_wanted_when_parameters_changed(passwords: Passwords) -> None:
    stored = await passwords.hash("x")
    assert not passwords.needs_rehash(stored)
    stronger = Passwords(ARGON2ID, concurrency=1)
    assert stronger.needs_rehash(stored)
    assert await stronger.verify(stored, "x"), "hashes of earlier parameters still count"
    assert (await stronger.hash("x")).startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    await stronger.close()


async def test_no_more_than_the_allowed_hashes_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Passwords(LIGHT, concurrency=2)
    lock, running, most = threading.Lock(), 0, 0

    def slow(raw: bytes) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return "done"

    monkeypatch.setattr(made, "_hasher", SimpleNamespace(hash=slow))
    tasks = [asyncio.create_task(made.hash(str(n))) for n in range(20)]
    await asyncio.sleep(0)
    for task in tasks[:6]:
        task.cancel()  # callers that hang up must not let more hashes run beside theirs
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[6:] == ["done"] * 14
    assert most == 2
    await made.close()


async def test_closed_means_closed() -> None:
    made = Passwords(LIGHT)
    await made.close()
    with pytest.raises(RuntimeError, match="shutdown"):
        await made.hash("x")
