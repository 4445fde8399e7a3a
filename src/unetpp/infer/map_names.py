"""Names of the files of probability maps."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence


class MapNames:
    """Names of probability maps, NAME_CLASS, that differ for all images and classes of one folder.

    Args:
        classes: names of the classes.
        earlier: images whose maps may lie in the folder already.
    """

    def __init__(self, classes: Sequence[str], earlier: Iterable[str] = ()) -> None:
        self._classes = _make_safe(classes)
        self._taken: dict[str, str] = {}
        for image in earlier:
            self.choose(image)

    def choose(self, image: str) -> list[str]:
        """Choose the names of an image's maps, one for each class; equal ones get another underscore."""
        names = []
        for name in self._classes:
            ends = (f"{image}{'_' * count}{name}" for count in itertools.count(1))
            free = next(each for each in ends if self._taken.get(each, image) == image and each not in names)
            self._taken[free] = image
            names.append(free)
        return names


def _make_safe(classes: Sequence[str]) -> list[str]:
    """Replace what does not belong into file names; classes that would become equal are numbered."""
    safe = [re.sub(r"[^\w.-]", "_", name) for name in classes]
    lower = [name.lower() for name in safe]
    return [
        name if lower.count(name.lower()) == 1 else f"{name}_class_{number}"
        for number, name in enumerate(safe, start=1)
    ]
