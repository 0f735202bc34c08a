"""Hashes of the passwords people choose: argon2id in a bounded pool of threads."""

from __future__ import annotations

import asyncio
import os
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import Parameters, PasswordHasher, Type
from argon2.exceptions import VerifyMismatchError

MAX_BYTES = 1024

T = TypeVar("T")

# OWASP's minimum for argon2id: 19 MiB, two passes, one lane
ARGON2ID = Parameters(
    type=Type.ID, version=19, salt_len=16, hash_len=32, time_cost=2, memory_cost=19_456, parallelism=1
)


class PasswordTooLong(ValueError):
    """Over 1024 bytes of UTF-8: refused before any work is spent on it."""


def canonical(text: str) -> bytes:
    """The bytes that are hashed: NFKC, so that full-width typing gives the same password. Raises PasswordTooLong."""
    if len(text) > MAX_BYTES:  # before normalising, which is not cheap on a megabyte
        raise PasswordTooLong
    raw = unicodedata.normalize("NFKC", text).encode("utf-8", "surrogatepass")
    if len(raw) > MAX_BYTES:
        raise PasswordTooLong
    return raw


class Passwords:
    """Lifetime of the hashing threads: make one for the process, `close` it at the end.

    Two hashes a core run at a time, whatever the number of logins; the others wait without holding a thread.
    `hashes_run` counts every argon2 run, which shows that known and unknown accounts cost the same.
    """

    def __init__(self, parameters: Parameters = ARGON2ID, *, concurrency: int | None = None) -> None:
        size = concurrency or 2 * (os.cpu_count() or 1)
        self.hashes_run = 0
        self._hasher = PasswordHasher.from_parameters(parameters)
        self._dummy = self._hasher.hash(secrets.token_bytes(32))
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="password")
        self._slots = asyncio.Semaphore(size)

    async def hash(self, text: str) -> str:
        """The argon2 string to store. Raises PasswordTooLong."""
        raw = canonical(text)
        return await self._run(lambda: self._hasher.hash(raw))

    async def verify(self, hash: str | None, text: str) -> bool:
        """Whether the text is the password behind the hash. None burns a dummy and is never right.

        Raises PasswordTooLong, and argon2's InvalidHashError when the stored string is damaged.
        """
        raw = canonical(text)
        right = await self._run(lambda: self._matches(self._dummy if hash is None else hash, raw))
        return right and hash is not None

    def needs_rehash(self, hash: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(hash)

    async def close(self) -> None:
        """Wait for the running hashes and end the threads."""
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)

    def _matches(self, hash: str, raw: bytes) -> bool:
        try:
            return self._hasher.verify(hash, raw)
        except VerifyMismatchError:
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        async with self._slots:
            self.hashes_run += 1
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
