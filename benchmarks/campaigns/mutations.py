"""Mutations of a file's bytes: bits, cuts, splices, numbers; JSON values; inside gzip, PNG and .safetensors."""

from __future__ import annotations

import copy
import gzip
import json
import random
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

_NUMBERS = (
    b"-1",
    b"0",
    b"1",
    b"nan",
    b"1e30",
    b"-1e-30",
    b"2147483648",
    b"4294967295",
    b"99999999999999999999",
    b"9" * 5000,
)
_BINARY = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 1e308, 10**30, "", "x", "\u00b2", "9" * 5000, "../..", [], [[]], {}, [None], {"x": 1}, [1],
)  # fmt: skip
_HEAD = 400
"""Bytes of most headers; half of all places lie here."""


def mutate(content: bytes, generator: random.Random) -> bytes:
    """Change a file in one to three ways, below its compression or checksums where it has any."""
    if content[:2] == b"\x1f\x8b" and generator.random() < 0.7:
        return gzip.compress(_mutate(gzip.decompress(content), generator), 1)
    if content[:8] == b"\x89PNG\r\n\x1a\n" and generator.random() < 0.7:
        return _mend_png(_mutate(content, generator))
    if content[8:10] == b'{"' and generator.random() < 0.7:
        return _mutate_safetensors(content, generator)
    return _mutate(content, generator)


def _mutate(content: bytes, generator: random.Random) -> bytes:
    if content.lstrip()[:1] in (b"{", b"[") and generator.random() < 0.6:
        return _mutate_json(content, generator)
    for _ in range(generator.randint(1, 3)):
        content = generator.choice(_WAYS)(content, generator)
    return content


def _place(content: bytes, generator: random.Random) -> int:
    end = len(content) if generator.random() < 0.5 else min(_HEAD, len(content))
    return generator.randrange(max(end, 1))


def _flip(content: bytes, generator: random.Random) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(generator.choice((1, 1, 2, 8))):
        changed[_place(changed, generator)] ^= 1 << generator.randrange(8)
    return bytes(changed)


def _cut(content: bytes, generator: random.Random) -> bytes:
    return content[: _place(content, generator)]


def _splice(content: bytes, generator: random.Random) -> bytes:
    start, length, target = _place(content, generator), generator.choice((1, 4, 64, 3000)), _place(content, generator)
    piece = content[start : start + length] * generator.choice((1, 1, 2, 40))
    return content[:target] + piece + content[target + generator.choice((0, len(piece))) :]


def _remove(content: bytes, generator: random.Random) -> bytes:
    start = _place(content, generator)
    return content[:start] + content[start + generator.choice((1, 2, 4, 64)) :]


def _fill(content: bytes, generator: random.Random) -> bytes:
    start, length = _place(content, generator), generator.choice((2, 4, 16, 200))
    return content[:start] + generator.choice((b"\0", b"\xff", b" ")) * length + content[start + length :]


def _number(content: bytes, generator: random.Random) -> bytes:
    """Replace a binary number."""
    size = generator.choice((1, 2, 4, 8))
    value = (generator.choice(_BINARY) % 256**size).to_bytes(size, generator.choice(("little", "big")))
    start = _place(content, generator)
    return content[:start] + value + content[start + size :]


def _text_number(content: bytes, generator: random.Random) -> bytes:
    """Replace a number that is written as text, in the first 20 kB."""
    found = [match.span() for match in re.finditer(rb"-?\d+(?:\.\d+)?", content[:20_000])]
    if not found:
        return _number(content, generator)
    start, end = generator.choice(found)
    return content[:start] + generator.choice(_NUMBERS) + content[end:]


_WAYS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip, _cut, _splice, _remove, _fill, _number, _number, _text_number, _text_number,
)  # fmt: skip


def _mutate_json(content: bytes, generator: random.Random) -> bytes:
    """Replace, remove or add values of a JSON document, or of JSON texts within it."""
    try:
        value = json.loads(content)
    except ValueError:
        return _flip(content, generator)
    for _ in range(generator.choice((1, 1, 2))):
        value = _change_value(value, generator)
    return json.dumps(value).encode() if generator.random() < 0.98 else b"[" * 100_000


def _change_value(value: Any, generator: random.Random) -> Any:
    if isinstance(value, str) and value[:1] == "{" and generator.random() < 0.8:  # a plan in a header
        return _mutate_json(value.encode(), generator).decode("utf-8", "replace")
    if not isinstance(value, dict | list) or not value or generator.random() < 0.1:
        return copy.deepcopy(generator.choice(_VALUES))  # later changes are made in place
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = generator.choice(keys)
    if generator.random() < 0.1:
        del value[key]
    elif isinstance(value, dict) and generator.random() < 0.05:
        value[generator.choice(("x", "9" * 5000, "\u00b2"))] = copy.deepcopy(generator.choice(_VALUES))
    else:
        value[key] = _change_value(value[key], generator)
    return value


def _mutate_safetensors(content: bytes, generator: random.Random) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    header, tensors = content[8 : 8 + length], content[8 + length :]
    if generator.random() < 0.3:
        return content[: 8 + length] + _mutate(tensors, generator)[: len(tensors)].ljust(len(tensors), b"\0")
    changed = _mutate_json(header, generator)
    return struct.pack("<Q", len(changed)) + changed + tensors


def _mend_png(content: bytes) -> bytes:
    """Give the chunks of a PNG the checksums that fit them."""
    mended, place = bytearray(content), 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        end = place + 8 + length
        if end + 4 > len(content):
            break
        mended[end : end + 4] = struct.pack(">I", zlib.crc32(content[place + 4 : end]))
        place = end + 4
    return bytes(mended)
