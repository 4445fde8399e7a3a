"""Pictures of a few validation cases while a network learns: `unetpp serve --run` shows how their segmentations grow.

    fold_K/growing/cases.json      the names of the cases
    fold_K/growing/0_image.png     the first case; 0_label.png the outlines of its label
    fold_K/growing/0_1200.png      its segmentation by the deepest head at step 1200, with the colors of the classes

A validation has made these segmentations already, so that only a slice of each is kept, and written as a small picture.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unetpp.data.preprocess import RGB_CHANNELS
from unetpp.data.store import StoredCase
from unetpp.errors import LOG
from unetpp.files import write_atomically, write_json
from unetpp.infer.overlay import choose_colors, find_outlines, to_bytes
from unetpp.plan import DataPlan
from unetpp.slabs import Sliced, slabs

SHOWN = 3
"""Number of cases."""
LONGEST_SIDE = 320
"""Pixels; larger images are thinned out."""


class GrowingViews:
    """Writes pictures of some validation cases after each validation.

    Nothing here may end a training: what cannot be written is left out.

    Args:
        folder: for the pictures.
        cases: the validation cases that this process scores.
        data: classes and axes.

    Attributes:
        seconds: time that this has taken so far.
    """

    def __init__(self, folder: Path, cases: Sequence[StoredCase], data: DataPlan) -> None:
        self._folder, self._data = folder, data
        count = min(SHOWN, len(cases))
        self._cases = [cases[number * len(cases) // count] for number in range(count)]
        self._planes: dict[str, int] = {}
        self._found: dict[str, np.ndarray] = {}
        self.seconds = 0.0

    def take(self, case: StoredCase, segmentation: np.ndarray) -> None:
        """Keep the slice that is shown of a segmentation, (*grid) class indices."""
        with self._at_no_risk():
            if any(case.id == each.id for each in self._cases):
                self._found[case.id] = self._cut(segmentation, case)

    def listen(self, also: Callable[..., object]) -> Callable[..., object]:
        """Return a listener of the log that writes the pictures after each validation, and tells another listener."""

        def hear(**values: Any) -> None:
            if values.get("kind") == "validation":
                self.write(int(values["step"]))
            also(**values)

        return hear

    def write(self, step: int) -> None:
        """Write what was kept, as the state at a step."""
        with self._at_no_risk():
            if not (self._folder / "cases.json").exists():
                self._begin()
            for number, case in enumerate(self._cases):
                if (found := self._found.get(case.id)) is not None:
                    self._save(self._color(found), self._folder / f"{number}_{step}.png")

    @contextmanager
    def _at_no_risk(self) -> Iterator[None]:
        """Count the time of a block, whose errors are left to the log of the program: a full disk, most often."""
        started = time.perf_counter()
        try:
            yield
        except Exception as error:
            LOG.debug("pictures of the training", exc_info=error)
        self.seconds += time.perf_counter() - started

    def _begin(self) -> None:
        """Write the images and the outlines of their labels, once."""
        count = 3 if self._data.channels == RGB_CHANNELS else 1
        for number, case in enumerate(self._cases):
            label = self._cut(case.label(), case)
            label = np.where(label < self._data.num_classes, label, 0)  # voxels that nobody labeled
            picture = self._cut(case.image(), case, (slice(0, count),))
            self._save(Image.fromarray(to_bytes(picture)), self._folder / f"{number}_image.png")
            outlines = np.where(find_outlines(label), 255, 0).astype(np.uint8)
            white = np.stack([np.full_like(outlines, 255)] * 3 + [outlines], axis=-1)
            self._save(Image.fromarray(white), self._folder / f"{number}_label.png")
        write_json(self._folder / "cases.json", [case.id for case in self._cases])

    def _cut(self, array: Sliced | np.ndarray, case: StoredCase, channels: tuple[slice, ...] = ()) -> np.ndarray:
        """Cut what is shown: of a volume the plane with most of the label, the front of a patient at the top.

        Prepared cases may lie in compressed tiles, which are read by ranges alone.
        """
        if case.id not in self._planes:
            self._planes[case.id] = _find_fullest(case.label())
        shape, plane = array.shape[-self._data.dims :], self._planes[case.id]
        planes = () if len(shape) == 2 else (slice(plane, plane + 1),)
        block = np.asarray(array[(*channels, *planes, *(slice(0, size) for size in shape[-2:]))])
        shown = block if not planes else block.squeeze(-3)
        step = -(-max(shape[-2:]) // LONGEST_SIDE)
        thinned = shown[..., ::step, ::step]
        return np.array(thinned[..., ::-1, :] if self._data.orientation else thinned)

    def _color(self, indices: np.ndarray) -> Image.Image:
        colors = [(0, 0, 0), *choose_colors(self._data)]
        picture = Image.fromarray(np.minimum(indices, 255).astype(np.uint8)).convert("P")
        picture.putpalette([value for color in colors[:256] for value in color])
        return picture

    def _save(self, picture: Image.Image, path: Path) -> None:
        with write_atomically(path) as temporary:
            picture.save(temporary, "PNG", **({"transparency": 0} if picture.mode == "P" else {}))


def _find_fullest(label: Sliced) -> int:
    """Find the plane across the first axis with the most label."""
    counts = np.zeros(label.shape[0], np.int64)
    for slices in slabs(label.shape):
        found = np.asarray(label[slices]) > 0
        counts[slices[0]] += found.sum(axis=tuple(range(1, found.ndim)))
    return int(counts.argmax())
