from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unetpp.data import compressed
from unetpp.data.compressed import CompressedArray, write_compressed
from unetpp.errors import DataError


def write(path: Path, array: np.ndarray, dims: int) -> CompressedArray:
    leading = (slice(None),) * (array.ndim - dims)
    write_compressed(path, array.shape, array.dtype, dims, lambda slices: array[(*leading, *slices)])
    return CompressedArray(path)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    dims = draw(st.sampled_from([2, 3]))
    sides = st.integers(1, 9) | st.sampled_from([31, 32, 33, 64, 65, 130])
    shape = tuple(draw(st.lists(sides, min_size=dims, max_size=dims)))
    channels = draw(st.sampled_from([(), (1,), (2,), (3,), (5,)]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    dtype = draw(st.sampled_from([np.float16, np.uint8, np.uint16]))
    return (100 * rng.random((*channels, *shape))).astype(dtype), dims


@given(arrays(), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_block_of_any_size_is_what_was_written(
    tmp_path: Path, made: tuple[np.ndarray, int], data: st.DataObject
) -> None:
    array, dims = made
    stored = write(tmp_path / "a.tif", array, dims)
    assert (stored.shape, stored.dtype, stored.ndim) == (array.shape, array.dtype, array.ndim)
    assert np.array_equal(np.asarray(stored), array)
    ends = [sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size + 3)))) for size in array.shape]
    block = tuple(slice(*each) for each in ends)
    assert np.array_equal(stored[block], array[block])
    assert np.array_equal(stored[block[0]], array[block[0]])


def test_writing_reads_a_large_array_in_parts_and_the_file_is_plain_tiff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tifffile

    monkeypatch.setattr(compressed, "_READ_AT_ONCE", 2 * 32 * 64 * 70)
    array, largest = (np.arange(70 * 300 * 70) % 2048).astype(np.float16).reshape(1, 70, 300, 70), 0

    def read(slices: tuple[slice, ...]) -> np.ndarray:
        nonlocal largest
        block = array[(slice(None), *slices)]
        largest = max(largest, block.size)
        return block

    write_compressed(tmp_path / "a.tif", array.shape, array.dtype, 3, read)
    assert largest == 2 * 32 * 64 * 70
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), array)
    with pytest.raises(IndexError, match="without steps"):
        CompressedArray(tmp_path / "a.tif")[:, ::2]


@pytest.mark.parametrize("damage", ["no file", "foreign", "truncated", "tile"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.tif"
    write(path, np.random.default_rng(0).random((70, 70, 70)).astype(np.float16), 3)
    whole = path.read_bytes()
    if damage == "no file":
        path.unlink()
    else:
        middle = len(whole) // 2
        wrong = {"foreign": b"no image", "truncated": whole[:middle], "tile": whole[:middle] + bytes(99999)}
        path.write_bytes(wrong[damage] + whole[len(wrong[damage]) :] * (damage == "tile"))
    with pytest.raises(DataError, match=r"a\.tif: got an array that cannot be read .*remove the cache"):
        np.asarray(CompressedArray(path))
