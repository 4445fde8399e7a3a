"""Prediction of one image of any size from an OME-Zarr store into another, block by block.

1. The image is measured, if its normalization needs that, in layers.
2. Each block of the labels is predicted, to the last bit as the whole image would be (`block.py`), and written.
3. Each level of the pyramid is made from the one before.

Each of these units is finished for good when its mark lies in the store, so that a killed command goes on.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetpp.cluster.engine import Engine, HereEngine
from unetpp.data.training_range import find_outside
from unetpp.errors import DataError, Problem, UsageError
from unetpp.formats.format import FileRefused
from unetpp.formats.object_store import Objects, open_objects
from unetpp.formats.ome_zarr import choose_channels
from unetpp.formats.zarr_image import ZarrImage, open_zarr_image
from unetpp.infer.block_marks import Marks, writing
from unetpp.infer.block_plan import describe_tightness, plan_blocks
from unetpp.infer.block_tasks import (
    MEASURED,
    PREDICTED,
    ImagesOfStore,
    Measure,
    PredictBlock,
    Shrink,
    name_level,
)
from unetpp.infer.case_predictor import CasePredictor
from unetpp.infer.label_store import LabelStore, holds_image_of, make_label_store, plan_labels, read_record, record_end
from unetpp.infer.model_digest import digest_model
from unetpp.infer.options import PredictOptions
from unetpp.infer.prediction import AUTO, name_depth
from unetpp.infer.predictor import Predictor
from unetpp.infer.remote import RemoteModel
from unetpp.infer.selected import SelectedPredictor
from unetpp.labels import make_labels
from unetpp.parts import WHOLE, Part
from unetpp.progress import Progress, Silence
from unetpp.results import BlockPlan, PredictedBlocks

LABELS = "segmentation"
"""Name of the labels; with several sizes each has the name of its size."""


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    model: RemoteModel
    image: str
    """Folder or address of the image."""
    out: str
    """Folder or address of the labels."""
    options: PredictOptions
    part: Part = WHOLE
    resume: bool = False
    dry_run: bool = False


def predict_store(
    request: Request,
    predictor: CasePredictor,
    engine: Engine | None = None,
    progress: Progress | None = None,
    script: str = "",
) -> PredictedBlocks:
    """Predict an OME-Zarr image into a store, or say what that takes.

    Args:
        request: what is asked for.
        predictor: the model; workers load it themselves.
        engine: does the work; None: this process.
        progress: is told of every unit.
        script: of a job of the cluster, which a dry run shows.

    Raises:
        DataError: the image cannot be read, or does not fit the model.
        UsageError: options that need the whole image, or something else lies where the labels go.
        WriteError: the labels cannot be written.
    """
    started = time.monotonic()
    known = _require_blockwise(predictor, request.options)
    images = _open_images(open_zarr_image(request.image), known)
    names = name_labels(known, request.options)
    if request.dry_run:
        plan = _plan(request, images, names)
        seconds = time.monotonic() - started
        return PredictedBlocks(str(Objects(request.out)), names, seconds=seconds, plan=plan, job_script=script)
    objects = open_objects(request.out, writes=True)
    record = _make_record(request, known, images)
    marks = Marks(objects, record["identity"][:16])
    joins = request.resume or not request.part.is_whole
    if joins and _is_complete(objects, names, record):
        blocks = len(plan_labels(images.store, known.data.dims)[0])
        return PredictedBlocks(str(objects), names, blocks=blocks, earlier=blocks, complete=True)
    holds_image_of(objects, images.store)
    with writing(marks, None if request.part.is_whole else str(request.part), request.resume):
        marks.forget_others()
        if not joins:
            marks.forget()
        store = _make_store(objects, images, names, record, joins)
        predict = PredictBlock(request.model, request.options, images, store, marks)
        engine, progress = engine or HereEngine(), progress or Silence()
        if engine.memory and (tight := describe_tightness(predict, known, engine.memory)):
            progress.note(tight)
        work = _Work(request, predict, record, engine, progress)
        outcome = work.do()
    notes: tuple[str, ...] = ()
    with suppress(DataError):  # what cannot be read has failed already
        notes = tuple(f"{images.name(0)}: {way}" for way in find_outside(images.source(0), known.data))
    return PredictedBlocks(
        str(objects), names, **outcome, seconds=time.monotonic() - started, notes=(*known.verdicts, *notes)
    )


def _plan(request: Request, images: ImagesOfStore, names: Sequence[str]) -> BlockPlan:
    """Find out what a prediction takes, by one block; nothing is written."""
    cuts = plan_labels(images.store, images.data.dims)
    store = LabelStore(Objects(request.out), tuple(names), cuts, images.store.zarr_format)
    return plan_blocks(
        PredictBlock(request.model, request.options, images, store, Marks(store.objects, "")), request.part
    )


def _make_store(
    objects: Objects, images: ImagesOfStore, names: Sequence[str], record: dict[str, Any], joins: bool
) -> LabelStore:
    """Make the groups and arrays of the labels; see `make_label_store`."""
    classes, cuts = make_labels(images.data), plan_labels(images.store, images.data.dims)
    named = dict(zip(map(int, classes.table), images.data.classes, strict=False))
    return make_label_store(objects, images.store, names, cuts, classes.table.dtype, named, record, joins)


def name_labels(predictor: Predictor | SelectedPredictor, options: PredictOptions) -> tuple[str, ...]:
    """Name the labels of each size that is predicted."""
    depths, sizes = predictor.choose_sizes(options), predictor.sizes
    if options.wanted != "all":
        return (LABELS,)
    return tuple(f"{sizes.noun}_{name_depth(each, sizes)}" for each in depths)


class _OthersFinished(Exception):
    """Another client has done all that was left."""


class _Work:
    """The stages of one request."""

    def __init__(
        self, request: Request, predict: PredictBlock, record: dict[str, Any], engine: Engine, progress: Progress
    ) -> None:
        self._request, self._predict, self._record = request, predict, record
        self._engine, self._progress = engine, progress
        self._store, self._marks, self._images = predict.store, predict.marks, predict.images
        self._problems: list[Problem] = []

    def do(self) -> dict[str, Any]:
        """Do what is left, and return what `PredictedBlocks` says of it."""
        own = self._share(len(self._store.cuts[0]))
        waiting, done, complete = own, 0, False
        try:
            if not self._images.is_measured or self._measure():
                earlier = self._list_done(PREDICTED)
                waiting = [number for number in own if number not in earlier] if self._request.resume else own
                done = self._run(self._predict, waiting, "Predicting blocks", "blocks")
                complete = len(self._list_done(PREDICTED)) == len(self._store.cuts[0]) and self._shrink()
        except _OthersFinished:
            waiting = []
        if complete:
            record_end(self._store)
            self._marks.forget()
        elif self._is_complete():  # marks that another part has forgotten meanwhile are no problem of this one
            complete, self._problems = True, []
        skipped, failed = len(own) - len(waiting), tuple(self._problems)
        return {"blocks": len(own), "done": done, "earlier": skipped, "failed": failed, "complete": complete}

    def _list_done(self, stage: str) -> set[int]:
        """List the finished units of a stage.

        Raises:
            _OthersFinished: another part has seen the last block, and done and recorded the rest: it forgets the marks.
        """
        done = self._marks.list_done(stage)
        if self._is_complete():  # asked for afterwards: marks that are gone were removed after the end was recorded
            raise _OthersFinished
        return done

    def _is_complete(self) -> bool:
        return _is_complete(self._store.objects, self._store.names, self._record)

    def _measure(self) -> bool:
        """Measure the images; parts share that, and do what none has done when they need it."""
        layers = len(self._images) * len(self._images.list_layers())
        task = Measure(self._images, self._marks)
        for units in (self._share(layers), range(layers)):
            done = self._list_done(MEASURED)
            self._run(task, [number for number in units if number not in done], "Measuring the image", "layers")
            if self._problems:
                return False
        return True

    def _shrink(self) -> bool:
        for level in range(1, len(self._store.cuts)):
            count, task = len(self._store.cuts[level]), Shrink(self._store, self._marks, level)
            done = self._list_done(name_level(level))
            self._run(task, [number for number in range(count) if number not in done], f"Level {level}", "blocks")
            if self._problems:
                return False
        return True

    def _share(self, count: int) -> Sequence[int]:
        part = self._request.part
        return range(part.index - 1, count, part.count)

    def _run(self, task: Callable[[int], None], units: Sequence[int], title: str, unit: str) -> int:
        """Run the units of a stage, and return how many are done; problems of some leave the others."""
        if not units:
            return 0
        show, done = self._progress.stage(title, unit), 0
        for number, outcome in enumerate(self._engine.run(task, iter(units), name=title), start=1):
            self._problems += outcome.problems
            done += not outcome.problems
            show(number, len(units))
        return done


def _require_blockwise(predictor: CasePredictor, options: PredictOptions) -> Predictor | SelectedPredictor:
    """Refuse what needs the whole image at once."""
    where, expected = "out", "labels of a network, block by block"
    action = "Predict a smaller image into a folder of files for that, or leave it out."
    if not isinstance(predictor, Predictor | SelectedPredictor):
        got = f"an .zarr for the exported file {predictor.name}"
        raise UsageError(where, got, "a run folder or a model file", "Name the run that it was exported from.")
    depths = predictor.choose_sizes(options)
    wrong = {
        f'`{options.setting}="auto"`, whose tiles differ in their {predictor.sizes.noun}s': AUTO in depths,
        "maps of probabilities (`probabilities=True`)": options.probabilities,
        "maps of uncertainty (`uncertainty`)": options.uncertainty is not None,
        "a cascade, whose first stage sees the whole image": predictor.data.resolution == "cascade",
        f"the post-processing of {predictor.name}, which looks at whole objects": bool(predictor.steps),
    }
    for got, is_wrong in wrong.items():
        if is_wrong:
            raise UsageError(where, f"an .zarr and {got}", expected, action)
    return predictor


def _open_images(image: ZarrImage, predictor: Predictor | SelectedPredictor) -> ImagesOfStore:
    """Choose the channels and axes that the network takes."""
    data, where = predictor.data, str(image.objects)
    has_planes = "z" in image.metadata.order
    if data.dims == 3 and not has_planes:
        got = f"an image without an axis z ({image.metadata.order})"
        raise DataError(Problem(where, got, "3D data, as in training", "Use a model of images."))
    try:
        channels = choose_channels(image.metadata.channels, data.channels, image.size("c"))
    except FileRefused as refused:
        raise DataError(Problem(where, refused.got, refused.expected, refused.action)) from None
    return ImagesOfStore(image, channels, has_planes and data.dims == 2, data)


def _make_record(request: Request, predictor: Predictor | SelectedPredictor, images: ImagesOfStore) -> dict[str, Any]:
    """Describe what the labels are made of; `identity` is a digest of all of it."""
    model = Path(request.model.path)
    record = {
        "model": model.absolute().name,
        "model_digest": digest_model(model),
        "sizes": [str(name_depth(each, predictor.sizes)) for each in predictor.choose_sizes(request.options)],
        "options": request.options.recorded,
        "image": Path(str(images.store.objects)).name,
        "image_content": images.store.identify(),
        "channels": list(images.channels),
    }
    identity = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    return {**record, "identity": identity}


def _is_complete(objects: Objects, names: Sequence[str], record: dict[str, Any]) -> bool:
    """Tell whether the same labels are there, all of them."""
    found = [read_record(objects, name) or {} for name in names]
    return all(each.get("identity") == record["identity"] and each.get("complete") for each in found)
