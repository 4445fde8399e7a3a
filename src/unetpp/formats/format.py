"""Declaration of a file format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unetpp.errors import optional_package
from unetpp.formats.sources import ArraySource, ImageSource
from unetpp.volume import Geometry, Volume

HEAD = 512
"""Number of bytes from the start of a file that `Format.sniff` receives."""


def _alone(path: Path) -> tuple[Path, ...]:
    return ()


def _read_only(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    raise NotImplementedError(f"{path}: its format is only read; `written_as` names the suffixes to write")


class FileRefused(ValueError):
    """A file that is not read although it may be whole; `readers` makes its words a Problem.

    Any other exception of a format says that its decoder failed: the file is damaged, or no image.

    Args:
        got: what the file holds.
        expected: what would be read.
        action: what the user can do, in a sentence.
    """

    def __init__(self, got: str, expected: str, action: str) -> None:
        super().__init__(f"{got}; expected {expected}. {action}")
        self.got, self.expected, self.action = got, expected, action


@dataclass(frozen=True)
class Format:
    """A file format.

    Its functions import heavy packages when called, and may raise anything: `readers` and `writers` make it a message.
    """

    name: str
    """Name in messages."""
    suffixes: tuple[str, ...]
    """Suffixes in lower case, with the dot."""
    read: Callable[..., Volume]
    """Read a whole file (path, suffix) with unchanged numbers, as labels need it; transparency apart."""
    open: Callable[..., ImageSource | Volume] | None = None
    """Open an image (path, suffix) for reading in blocks, with a palette converted to colors; None: `read` it."""
    takes_axes: bool = False
    """`read` and `open` take a third argument: the axes that the user has set, or None."""
    grid: Callable[[Path, str], tuple[tuple[int, ...], Geometry]] | None = None
    """Read spatial shape and geometry from the header alone; None: the format cannot."""
    write: Callable[[np.ndarray, Geometry, Path], None] = _read_only
    """Write a segmentation or map (array (*spatial), geometry of its image, path)."""
    sniff: Callable[[bytes], bool] | None = None
    """Recognize the format by the first `HEAD` bytes of a file, whatever its name; None: by the suffix alone."""
    medical: bool = False
    """Stores the position of voxels in space, and fractions; three channels are not colors."""
    written_as: Mapping[str, str] = field(default_factory=dict)
    """Suffix of segmentations, for those image suffixes that cannot be written."""
    companions: Callable[[Path], tuple[Path, ...]] = _alone
    """List what is read beside a file, such as the voxels of a header; of a folder, the files in it."""
    is_folder: bool = False
    """A folder stands for a file."""
    needs: tuple[str, str] | None = None
    """Optional package, and the extra that installs it."""

    def source(self, path: Path, suffix: str, axes: str | None = None) -> ImageSource:
        """Open an image, whichever of `open` and `read` the format has.

        Args:
            path: path of the file.
            suffix: its suffix; that of another format (a name that does not fit) becomes one of this format.
            axes: axes that the user has set, for formats that take them.
        """
        image = (self.open or self.read)(path, self._own_suffix(suffix), *((axes,) if self.takes_axes else ()))
        return ArraySource(image.array, image.geometry) if isinstance(image, Volume) else image

    def label(self, path: Path, suffix: str, axes: str | None = None) -> Volume:
        """Read a label; arguments as of `source`."""
        return self.read(path, self._own_suffix(suffix), *((axes,) if self.takes_axes else ()))

    def _own_suffix(self, suffix: str) -> str:
        return suffix if suffix in self.suffixes else self.suffixes[0]

    def packages(self, purpose: str) -> AbstractContextManager[None]:
        """Name the extra to install, if the package that `purpose` needs is absent."""
        return optional_package(*self.needs, purpose) if self.needs else nullcontext()


def starts_with(*marks: bytes) -> Callable[[bytes], bool]:
    """Make a `Format.sniff` for files that start with one of these marks."""
    return lambda head: head.startswith(marks)
