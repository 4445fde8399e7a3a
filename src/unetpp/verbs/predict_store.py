"""The verb `predict` for an image in an OME-Zarr store, whose labels go into a store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unetpp.cluster.opening import open_engine, show_script
from unetpp.errors import UsageError, naming_missing
from unetpp.formats.object_store import is_address, name_place, open_objects
from unetpp.infer.options import PredictOptions
from unetpp.parts import Part
from unetpp.progress import Progress
from unetpp.results import PredictedBlocks
from unetpp.verbs.arguments import Backend

ZARR = ".zarr"


def is_store(out: str | os.PathLike[str], inputs: Sequence[str | os.PathLike[str]]) -> bool:
    """Tell whether labels go into a store: `out` ends in .zarr.

    Raises:
        UsageError: an address is named where files are read or written.
    """
    if name_place(out).rstrip("/").lower().endswith(ZARR):
        return True
    addresses = [name_place(each) for each in inputs if is_address(each)]
    if is_address(out) or addresses:
        got = addresses[0] if addresses else name_place(out)
        expected = f"an `out` that ends in {ZARR}, for an image in an object store"
        raise UsageError("out", f"{name_place(out)} with {got}", expected, "Name it so.")
    return False


@dataclass(frozen=True)
class Devices:
    """Where a model runs; as the arguments of `predict`."""

    device: str
    backend: Backend
    cluster: str | None


@dataclass(frozen=True)
class Course:
    """What of the work is done; as the arguments of `predict`."""

    part: Part
    resume: bool
    dry_run: bool


def predict_into_store(
    model: Path,
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: PredictOptions,
    devices: Devices,
    course: Course,
    overlay: bool,
    progress: Progress,
) -> PredictedBlocks:
    """Predict one image of a store; arguments as of `predict`.

    Raises:
        UsageError: several images, one in no store, or options that need files.
    """
    with naming_missing("Prediction with a model file"):  # torch, without which exported files predict into files
        from unetpp.infer.loading import load
        from unetpp.infer.remote import RemoteModel
        from unetpp.infer.zarr_prediction import Request, predict_store

    image, target = _require_one(inputs, out), _name_fully(name_place(out))
    if overlay:
        raise UsageError("overlay", f"an overlay with {target}", "labels alone in a store", "Leave it out.")
    known = RemoteModel(str(model.absolute()), devices.device, devices.backend)
    request = Request(known, image, target, options, course.part, course.resume, course.dry_run)
    if course.dry_run:
        return predict_store(request, known.load(), progress=progress, script=show_script(devices.cluster))
    predictor = load(model, "cpu", "torch") if devices.cluster else known.load()
    with open_engine(devices.cluster, progress) as engine:
        shared = [Path(each) for each in (known.path, image) if not is_address(each)]
        if engine.is_remote and not is_address(target):
            open_objects(target, writes=True)  # makes the folder, to which workers look
        engine.require_shared(shared, None if is_address(target) else Path(target))
        return predict_store(request, predictor, engine, progress)


def _require_one(inputs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> str:
    """Return the folder or address of the only image."""
    if len(inputs) != 1:
        got = f"{len(inputs)} inputs with an `out` that ends in {ZARR}"
        raise UsageError("inputs", got, "one OME-Zarr image", "Run the command for each image.")
    image = name_place(inputs[0])
    if not is_address(image) and not Path(image).is_dir():
        action = f"Give a folder {ZARR} or an address, or choose an `out` that does not end in {ZARR}."
        raise UsageError("inputs", f"{image}, which is no folder", "one OME-Zarr image", action)
    return _name_fully(image)


def _name_fully(place: str) -> str:
    """Return an address, or a path that workers understand as this process does."""
    return place if is_address(place) else os.path.abspath(place)
