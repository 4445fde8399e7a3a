"""Arrays in compressed tiles, of which any part is read alone: BigTIFF, whose tiles have a depth in 3D.

The channels of a tile lie together, and its size is a compromise: a patch touches few tiles, and few voxels beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from unetpp.errors import DataError, Problem
from unetpp.formats.sources import Slices

TILE = {2: (1, 256, 256), 3: (32, 64, 64)}
"""Tile of an array of 2 or 3 spatial axes, as (Z, Y, X)."""
_READ_AT_ONCE = 2**24
"""Largest number of values that writing reads at once, unless one row of tiles has more."""


def write_compressed(
    path: Path, shape: tuple[int, ...], dtype: DTypeLike, dims: int, read: Callable[[Slices], np.ndarray]
) -> None:
    """Write an array tile by tile, so that it is never whole in memory.

    Args:
        path: the file.
        shape: of the array, (*spatial) or (C, *spatial).
        dtype: its number type.
        dims: number of spatial axes, 2 or 3.
        read: reads the block (*block) or (C, *block) within slices, one for each spatial axis.
    """
    import tifffile

    spatial = shape[-dims:]
    depth, *plane = TILE[dims]
    depth = min(depth, spatial[0]) if dims == 3 else 1
    channels = prod(shape[: len(shape) - dims])
    samples: dict[str, Any] = {"planarconfig": "contig"} if channels > 1 else {}
    tifffile.imwrite(
        path,
        _cut_tiles(spatial, channels, (depth, plane[0], plane[1]), read, dtype),
        shape=(*spatial, channels) if channels > 1 else spatial,
        dtype=dtype,
        tile=(depth, *plane) if depth > 1 else tuple(plane),
        volumetric=depth > 1,
        photometric="minisblack",
        compression="zstd",
        compressionargs={"level": 1},
        bigtiff=True,
        description=json.dumps({"shape": shape, "dims": dims}),
        metadata=None,
        maxworkers=1,
        **samples,
    )


def _cut_tiles(
    spatial: tuple[int, ...],
    channels: int,
    tile: tuple[int, int, int],
    read: Callable[[Slices], np.ndarray],
    dtype: DTypeLike,
) -> Iterator[np.ndarray]:
    """Yield tiles (Z, Y, X, C), those at the ends shorter, from blocks of whole rows of tiles."""
    grid = (*(1,) * (3 - len(spatial)), *spatial)
    at_once = max(1, _READ_AT_ONCE // (tile[0] * tile[1] * grid[2] * channels)) * tile[1]
    for z, y in product(_split(grid[0], tile[0]), _split(grid[1], at_once)):
        block = np.asarray(read((z, y, slice(0, grid[2]))[-len(spatial) :])).astype(dtype)
        block = np.moveaxis(block.reshape(channels, z.stop - z.start, y.stop - y.start, grid[2]), 0, -1)
        for rows, columns in product(_split(block.shape[1], tile[1]), _split(grid[2], tile[2])):
            part = block[:, rows, columns]
            yield part if tile[0] > 1 else part[0]


def _split(size: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


class CompressedArray:
    """An array that `write_compressed` wrote; slices of it are read as those of a NumPy array.

    Args:
        path: the file, which is mapped.

    Raises:
        DataError: not such a file, or a damaged one; also when a block is read.
    """

    def __init__(self, path: Path) -> None:
        import tifffile

        self._path = path
        with _refusing(path), tifffile.TiffFile(path) as tiff:
            page: Any = tiff.pages.first
            stated = json.loads(page.description)
            self.shape = tuple(int(size) for size in stated["shape"])
            self.dtype: np.dtype[Any] = np.dtype(page.dtype)
            self._dims = int(stated["dims"])
            self._page = page
            self._tile = (1, 1, *page.tile)[-3:]
            self._places = page.dataoffsets, page.databytecounts
            grid = (*(1,) * (3 - self._dims), *self.shape[-self._dims :])
            self._counts = tuple(-(-size // step) for size, step in zip(grid, self._tile, strict=True))
            if prod(self._counts) != len(self._places[0]):
                raise ValueError(f"{len(self._places[0])} tiles instead of {prod(self._counts)}")
            self._bytes = np.memmap(path, np.uint8, mode="r")

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, key: slice | tuple[slice, ...]) -> np.ndarray:
        keys = key if isinstance(key, tuple) else (key,)
        spans = [part.indices(size) for part, size in zip(keys, self.shape, strict=False)]
        if any(step != 1 for _, _, step in spans):
            raise IndexError("an array in tiles is read in blocks, without steps")
        spans += [(0, size, 1) for size in self.shape[len(spans) :]]
        parts = [slice(start, max(start, stop)) for start, stop, _ in spans]
        block = self._read((*(slice(0, 1),) * (3 - self._dims), *parts[-self._dims :]))
        block = block[parts[0]] if self.ndim > self._dims else block
        return np.ascontiguousarray(block).reshape([part.stop - part.start for part in parts])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return self[(slice(None),) * self.ndim].astype(self.dtype if dtype is None else dtype, copy=False)

    def _read(self, parts: tuple[slice, ...]) -> np.ndarray:
        """Read a block (C, Z, Y, X)."""
        channels = self.shape[0] if self.ndim > self._dims else 1
        found = np.empty((channels, *(part.stop - part.start for part in parts)), self.dtype)
        touched = [
            range(part.start // size, -(-part.stop // size)) for part, size in zip(parts, self._tile, strict=True)
        ]
        for place in product(*touched) if found.size else ():
            tile = self._decode(int(np.ravel_multi_index(place, self._counts)))
            into, taken = zip(*map(_overlap, place, self._tile, parts), strict=True)
            found[(slice(None), *into)] = np.moveaxis(tile[taken], -1, 0)
        return found

    def _decode(self, number: int) -> np.ndarray:
        """Decompress a tile (Z, Y, X, C)."""
        start, count = self._places[0][number], self._places[1][number]
        with _refusing(self._path):
            decoded = self._page.decode(self._bytes[start : start + count].tobytes(), number)[0]
            return np.asarray(decoded).reshape(*self._tile, -1)


def _overlap(number: int, size: int, part: slice) -> tuple[slice, slice]:
    """Return what a tile and a part of one axis share: its place in the part, and in the tile."""
    low, high = max(part.start, number * size), min(part.stop, (number + 1) * size)
    return slice(low - part.start, high - part.start), slice(low - number * size, high - number * size)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn what a decoder raises into an error about the file."""
    try:
        yield
    except Exception as error:  # decoders raise anything
        raise make_unreadable(path, error) from error


def make_unreadable(path: Path | str, error: Exception) -> DataError:
    """Describe a prepared array that cannot be read."""
    got = f"an array that cannot be read ({getattr(error, 'strerror', None) or error})"
    action = "Has the run folder been moved or unmounted? Otherwise remove the cache: it is made again."
    return DataError(Problem(str(path), got, "the array that was prepared", action))
