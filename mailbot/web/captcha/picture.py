"""Draws digits as a greyscale PNG: thick strokes, tilted and waved, with thin lines across."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from random import Random

WIDTH, HEIGHT = 280, 90
_INK, _PAPER = 20, 255

Point = tuple[float, float]


def _arc(x: float, y: float, rx: float, ry: float, begin: int, end: int) -> list[Point]:
    """Degrees run clockwise from three o'clock, as y points down."""
    steps = [math.radians(begin + (end - begin) * i / 12) for i in range(13)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in steps]


_GLYPHS: dict[str, list[list[Point]]] = {
    "0": [_arc(0.5, 0.5, 0.38, 0.5, 0, 360)],
    "1": [[(0.22, 0.24), (0.54, 0.0), (0.54, 1.0)], [(0.26, 1.0), (0.82, 1.0)]],
    "2": [[*_arc(0.5, 0.3, 0.36, 0.3, 190, 390), (0.12, 1.0), (0.9, 1.0)]],
    "3": [_arc(0.46, 0.26, 0.34, 0.26, 200, 450), _arc(0.46, 0.75, 0.4, 0.25, 270, 520)],
    "4": [[(0.68, 1.0), (0.68, 0.0), (0.08, 0.68), (0.95, 0.68)]],
    "5": [[(0.84, 0.0), (0.22, 0.0), (0.17, 0.46), *_arc(0.46, 0.68, 0.4, 0.32, 225, 500)]],
    "6": [[(0.72, 0.0), (0.4, 0.24), *_arc(0.5, 0.69, 0.37, 0.31, 190, 550)]],
    "7": [[(0.1, 0.2), (0.1, 0.0), (0.88, 0.0), (0.42, 1.0)]],
    "8": [_arc(0.5, 0.25, 0.31, 0.25, 0, 360), _arc(0.5, 0.75, 0.38, 0.25, 0, 360)],
    "9": [[(0.28, 1.0), (0.6, 0.76), *_arc(0.5, 0.31, 0.37, 0.31, 370, 10)]],
}


@lru_cache(maxsize=64)
def draw(digits: str, seed: bytes) -> bytes:
    """The same picture for the same digits and seed."""
    random = Random(seed)
    pixels = bytearray([_PAPER]) * (WIDTH * HEIGHT)
    wave = (random.uniform(3, 5), random.uniform(35, 60), random.uniform(0, 6))
    pitch = (WIDTH - 30) / len(digits)
    for place, digit in enumerate(digits):
        turn, size = math.radians(random.uniform(-16, 16)), random.uniform(44, 56)
        x, y = 15 + pitch * (place + 0.5) + random.uniform(-5, 5), HEIGHT / 2 + random.uniform(-7, 7)
        for stroke in _GLYPHS[digit]:
            _stroke(pixels, (_placed(p, x, y, turn, size, wave) for p in stroke), 3.4, _INK)
    for _ in range(3):
        begin, middle, end = ((at, random.uniform(8, HEIGHT - 8)) for at in (4, WIDTH / 2, WIDTH - 4))
        _stroke(pixels, _curve(begin, middle, end), 0.9, 90)
    for _ in range(220):
        pixels[random.randrange(WIDTH * HEIGHT)] = random.randrange(90, 190)
    return _png(bytes(pixels))


def _placed(point: Point, x: float, y: float, turn: float, size: float, wave: tuple[float, float, float]) -> Point:
    dx, dy = (point[0] - 0.5) * size * 0.62, (point[1] - 0.5) * size
    px = x + dx * math.cos(turn) - dy * math.sin(turn)
    py = y + dx * math.sin(turn) + dy * math.cos(turn)
    height, length, shift = wave
    return px + 0.5 * height * math.sin(py / 14 + shift), py + height * math.sin(px / length * math.tau + shift)


def _curve(begin: Point, middle: Point, end: Point) -> Iterator[Point]:
    for i in range(21):
        t = i / 20
        a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
        yield a * begin[0] + b * middle[0] + c * end[0], a * begin[1] + b * middle[1] + c * end[1]


def _stroke(pixels: bytearray, points: Iterable[Point], radius: float, ink: int) -> None:
    last: Point | None = None
    for x, y in points:
        steps = max(1, math.ceil(math.dist(last, (x, y)) / 1.5)) if last else 1
        from_x, from_y = last or (x, y)
        for i in range(1, steps + 1):
            _dot(pixels, from_x + (x - from_x) * i / steps, from_y + (y - from_y) * i / steps, radius, ink)
        last = (x, y)


def _dot(pixels: bytearray, x: float, y: float, radius: float, ink: int) -> None:
    reach = math.ceil(radius) + 1
    for row in range(max(0, int(y) - reach), min(HEIGHT, int(y) + reach + 1)):
        for column in range(max(0, int(x) - reach), min(WIDTH, int(x) + reach + 1)):
            cover = min(1.0, radius + 0.5 - ((column - x) ** 2 + (row - y) ** 2) ** 0.5)
            if cover > 0:
                at = row * WIDTH + column
                pixels[at] = min(pixels[at], round(_PAPER - cover * (_PAPER - ink)))


def _png(pixels: bytes) -> bytes:
    """PNG 8-bit greyscale, no filter (ISO/IEC 15948 sections 5.3, 11.2)."""
    rows = b"".join(b"\0" + pixels[at : at + WIDTH] for at in range(0, WIDTH * HEIGHT, WIDTH))
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )
