from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image

from tests.data.images import GRAY, problem_of
from unetpp.formats import limits, png_rows
from unetpp.formats.format import FileRefused
from unetpp.formats.readers import read_image, read_label

SIDE = 60_000


def patch(path: Path, **places: int) -> Path:
    """Overwrite numbers of 4 bytes, little-endian, at byte positions named "at_N"."""
    data = bytearray(path.read_bytes())
    for place, value in places.items():
        struct.pack_into("<i", data, int(place.removeprefix("at_")), value)
    path.write_bytes(data)
    return path


def make_bmp(path: Path) -> Path:
    Image.fromarray(GRAY).save(path)
    return patch(path, at_18=SIDE, at_22=SIDE)


def make_png(path: Path) -> Path:
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(bytes(999))), (b"IEND", b"")
    path.write_bytes(png_rows.SIGNATURE + b"".join(png_rows._pack_chunk(*chunk) for chunk in chunks))
    return path


def make_tiff(path: Path, compression: str | None) -> Path:
    tifffile.imwrite(path, GRAY, compression=compression, metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            if tag in file.pages.first.tags:
                file.pages.first.tags[tag].overwrite(SIDE)
    return path


def make_jpeg(path: Path) -> Path:
    Image.fromarray(GRAY).save(path)
    data = path.read_bytes()
    at = data.index(b"\xff\xc0") + 5
    path.write_bytes(data[:at] + struct.pack(">HH", SIDE, SIDE) + data[at + 4 :])
    return path


def make_gif(path: Path) -> Path:
    Image.fromarray(GRAY).save(path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<HH", data, 6, SIDE, SIDE)
    path.write_bytes(data)
    return path


def make_jp2(path: Path) -> Path:
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(path)
    data = path.read_bytes()
    at = data.index(b"\xff\x4f\xff\x51") + 8
    path.write_bytes(data[:at] + struct.pack(">II", SIDE, SIDE) + data[at + 8 :])
    return path


MAKERS = {
    "a.bmp": make_bmp,
    "a.png": make_png,
    "a.tif": lambda path: make_tiff(path, None),
    "b.tif": lambda path: make_tiff(path, "deflate"),
    "a.jpg": make_jpeg,
    "a.gif": make_gif,
    "a.jp2": make_jp2,
}


@pytest.mark.parametrize("name", MAKERS)
def test_small_files_that_claim_gigabytes_cost_neither_memory_nor_disk(tmp_path: Path, name: str) -> None:
    path = MAKERS[name](tmp_path / name)
    process = psutil.Process()
    before, free = process.memory_info().rss, psutil.disk_usage("/var/tmp").free
    for read in (read_image, read_label):
        assert "claims too much" in problem_of(read, path).got
    assert process.memory_info().rss - before < 2**27
    assert free - psutil.disk_usage("/var/tmp").free < 2**28


def test_limits_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(1000))
    with pytest.raises(FileRefused, match="claims too much"):
        limits.check_claim(path, (2**27,), 2**27)
    monkeypatch.setattr(limits, "MOST_PER_BYTE", 2**20)
    limits.check_claim(path, (2**27,), 2**27)


def test_more_than_half_of_the_free_memory_is_refused() -> None:
    with pytest.raises(MemoryError, match="50% of the free memory"):
        limits.check_memory(psutil.virtual_memory().available)
    limits.check_memory(1000)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 8])
def test_rows_that_end_early_are_an_error(tmp_path: Path, bits: int, interlaced: bool) -> None:
    height, width = 13, 11
    header = png_rows.Header(width, height, bits, 0, 0, 0, int(interlaced))
    path = tmp_path / "a.png"
    for size in (header.data_bytes, header.data_bytes - 3):
        chunks = (b"IHDR", struct.pack(">IIBBBBB", *header)), (b"IDAT", zlib.compress(bytes(size))), (b"IEND", b"")
        path.write_bytes(png_rows.SIGNATURE + b"".join(png_rows._pack_chunk(*chunk) for chunk in chunks))
        if size == header.data_bytes:
            assert read_image(path).shape == (height, width)
        else:
            assert "ends before its last row" in problem_of(read_image, path).got


def test_a_blank_mask_of_one_bit_is_no_bomb(tmp_path: Path) -> None:
    Image.new("1", (9000, 9000)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (9000, 9000)


@pytest.mark.parametrize("compression", [None, "deflate", "jpeg"])
def test_a_tile_that_claims_more_than_its_file_is_refused(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), tile=(64, 64), compression=compression, metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages.first.tags["TileWidth"].overwrite(60000)
        tiff.pages.first.tags["TileLength"].overwrite(50000)
    assert "claims too much" in problem_of(read_image, path).got


def test_a_size_of_thousands_of_digits_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 " + b"9" * 5000 + b" 4 255\n")
    assert "its header is damaged" in problem_of(read_image, path).got
