"""What a file format declares of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unetpp.data.sources import ArraySource, ImageSource
from unetpp.data.volume import Geometry, Volume
from unetpp.errors import optional_package

HEAD = 512
"""Bytes at the start of a file that `Format.sniff` is given."""


def _read_only(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    raise NotImplementedError(f"{path}: its format is only read; `written_as` names the suffixes to write")


@dataclass(frozen=True)
class Format:
    """A file format. Its functions may raise anything: `readers` and `writers` turn it into one message.

    They import the packages that they need when they are called.
    """

    name: str
    """As messages say it."""
    suffixes: tuple[str, ...]
    """In lower case, with the dot."""
    read: Callable[[Path, str], Volume]
    """Read the file (path, its suffix) as a whole, with its numbers as they are: how labels are read."""
    open: Callable[[Path, str], ImageSource | Volume] | None = None
    """Open an image (path, its suffix) whose blocks are read on demand, or whose palette becomes colours; None: `read` it."""
    write: Callable[[np.ndarray, Geometry, Path], None] = _read_only
    """Write (array (*spatial), the grid of the image that it belongs to, path)."""
    sniff: Callable[[bytes], bool] | None = None
    """Tell the format by the first `HEAD` bytes of a file, whatever its name; None: its name alone tells."""
    medical: bool = False
    """Says where in a body its voxels lie, and holds fractions; its channels are no colours."""
    written_as: Mapping[str, str] = field(default_factory=dict)
    """For suffixes that no segmentation can be written with, those of the file that is written for such an image."""
    needs: tuple[str, str] | None = None
    """An optional package, and the extra of this one that installs it."""

    def source(self, path: Path, suffix: str) -> ImageSource:
        image = (self.open or self.read)(path, suffix)
        return ArraySource(image.array, image.geometry) if isinstance(image, Volume) else image

    def packages(self, purpose: str) -> AbstractContextManager[None]:
        """Name the extra to install where the package is absent that `purpose` needs."""
        return optional_package(*self.needs, purpose) if self.needs else nullcontext()


def starts_with(*marks: bytes) -> Callable[[bytes], bool]:
    """A `Format.sniff` for files that start with one of these marks."""
    return lambda head: head.startswith(marks)
