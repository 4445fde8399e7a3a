"""Suggestions after a stroke: what the page sends, what it gets, and images that are kept ready for the next."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, Field

from unetpp import labels
from unetpp.formats.readers import open_image
from unetpp.serve.display import DisplayGrid
from unetpp.serve.job import Job
from unetpp.serve.problems import Refused
from unetpp.serve.strokes import Correction, Run, find_runs

if TYPE_CHECKING:
    from unetpp.data.preprocess import PreparedImage
    from unetpp.infer.predictor import Predictor
    from unetpp.serve.state import ServerState

AT_ONCE = 4
"""Suggestions that wait for each other: further ones would hold the threads of all requests."""
PREPARED = 2
"""Images whose intensities stay measured: those of a huge one take long."""

Place = Annotated[int, Field(ge=-(2**31), le=2**31)]


class Strokes(Correction):
    """What was painted so far, and where the last stroke lies."""

    around: tuple[Place, Place, Place]
    """Voxel x, y, z of the grid that was painted on, around which is answered."""


class Suggestion(BaseModel):
    """What else the strokes may mean."""

    size: str
    """Size of the network that answered: the smallest."""
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    """(start, stop) along x, y, z: the part of the image, on the grid of the page, that was predicted anew."""
    runs: list[Run]
    """Suggested voxels, counted within that box."""
    voxels: int
    """Number of them."""
    seconds: float


class Suggester:
    """Answers strokes, and keeps some images ready.

    Args:
        state: of the server.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._prepared: OrderedDict[str, PreparedImage] = OrderedDict()
        self._lock = threading.Lock()
        self._answering = threading.Lock()
        self._places = threading.BoundedSemaphore(AT_ONCE)

    def suggest(self, job: Job, strokes: Strokes, predicted: Path) -> Suggestion:
        """Suggest what else the strokes mean.

        Args:
            job: whose result was painted over.
            strokes: what was painted.
            predicted: the segmentation that was painted over.

        Raises:
            Refused: a model that cannot answer so, or too many that ask.
            DataError: strokes that do not fit the image, or an image that cannot be read.
        """
        if not self._places.acquire(blocking=False):
            got = f"{AT_ONCE} suggestions that are being made"
            raise Refused(429, "suggestion", got, "fewer", "Try again.", {"Retry-After": "1"})
        try:
            return self._suggest(job, strokes, predicted)
        finally:
            self._places.release()

    def _suggest(self, job: Job, strokes: Strokes, predicted: Path) -> Suggestion:
        from unetpp.serve.quick_answer import answer_strokes, find_box, require_network

        started = time.perf_counter()
        source = self._state.open_image(job)
        spatial = source.shape[1:]
        model = require_network(self._state.shelf.load(job.model), len(spatial))
        drawn, affine = strokes.draw(model.data.num_classes, predicted.name)
        grid = DisplayGrid.of(spatial, source.geometry)
        block, painted = grid.place(drawn, affine, predicted.name)
        area = find_box(spatial, grid.find_voxel(strokes.around, affine))
        shown = labels.make_labels(model.data).encode(open_image(predicted).read(area)[0], predicted)
        with self._answering:  # each takes all cores for a moment
            found = answer_strokes(model, self._prepare(job, model), area, shown, _cut(painted, block, area))
        runs = find_runs(grid.turn(found))
        name = str(model.sizes.list_names()[0])
        x, y, z = grid.find_shown(area)
        seconds = time.perf_counter() - started
        return Suggestion(size=name, box=(x, y, z), runs=runs, voxels=int((found >= 0).sum()), seconds=seconds)

    def _prepare(self, job: Job, model: Predictor) -> PreparedImage:
        from unetpp.data.preprocess import prepare_image

        with self._lock:
            found = self._prepared.get(job.id)
        found = found or prepare_image(self._state.open_image(job), model.data, job.name)
        with self._lock:
            self._prepared[job.id] = found
            self._prepared.move_to_end(job.id)
            while len(self._prepared) > PREPARED:
                self._prepared.popitem(last=False)
        return found


def _cut(painted: np.ndarray, block: tuple[slice, ...], area: tuple[slice, ...]) -> np.ndarray:
    """Cut the part of painted voxels that lies in an area; -1 where nothing was painted on."""
    found = np.full([part.stop - part.start for part in area], -1, np.int16)
    common = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(area, block, strict=True)]
    if all(start < stop for start, stop in common):
        into = tuple(
            slice(start - part.start, stop - part.start) for (start, stop), part in zip(common, area, strict=True)
        )
        out_of = tuple(
            slice(start - part.start, stop - part.start) for (start, stop), part in zip(common, block, strict=True)
        )
        found[into] = painted[out_of]
    return found
