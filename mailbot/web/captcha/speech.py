"""Speaks digits in Japanese: ten recordings, put together with pauses over a soft noise.

The recordings were made with espeak-ng (`espeak-ng -v ja -s 120`), 11,025 Hz, 16 bits, mono; what it speaks is free.
"""

from __future__ import annotations

import io
import wave
from array import array
from functools import lru_cache
from importlib.resources import files
from random import Random

RATE = 11_025
_NOISE = 500
"""Amplitude of 32,767."""


def _samples(digit: int) -> array[int]:
    with (files("mailbot.web.captcha") / "sounds" / f"{digit}.wav").open("rb") as file, wave.open(file) as sound:
        return array("h", sound.readframes(sound.getnframes()))


DIGITS = tuple(_samples(digit) for digit in range(10))


@lru_cache(maxsize=16)  # some 170 KB each, which browsers ask for piece by piece
def speak(digits: str, seed: bytes) -> bytes:
    """A WAV file; the same for the same digits and seed."""
    random = Random(seed)
    samples = array("h", bytes(2 * (RATE // 2)))  # half a second
    for digit in digits:
        loud = random.uniform(0.75, 0.95)
        samples.extend(int(sample * loud) for sample in DIGITS[int(digit)])
        samples.frombytes(bytes(2 * random.randrange(RATE * 6 // 10, RATE)))
    hiss = [random.randrange(-_NOISE, _NOISE) for _ in range(4096)]
    mixed = array("h", (sample + hiss[at & 4095] for at, sample in enumerate(samples)))
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(mixed.tobytes())
    return out.getvalue()
