"""The verb `predict` for an image in an OME-Zarr store, whose labels go into a store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from unetpp.cluster.opening import open_engine
from unetpp.errors import UsageError
from unetpp.formats.object_store import is_address, name_place
from unetpp.infer.loading import load
from unetpp.infer.options import PredictOptions
from unetpp.infer.block_tasks import Model
from unetpp.infer.zarr_prediction import Request, predict_store
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


def predict_into_store(
    model: Path,
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: PredictOptions,
    *,
    device: str,
    backend: Backend,
    cluster: str | None,
    part: str | None,
    resume: bool,
    dry_run: bool,
    overlay: bool,
    progress: Progress,
) -> PredictedBlocks:
    """Predict one image of a store; arguments as of `predict`.

    Raises:
        UsageError: several images, one in no store, or options that need files.
    """
    if len(inputs) != 1:
        got = f"{len(inputs)} inputs with an `out` that ends in {ZARR}"
        raise UsageError("inputs", got, "one OME-Zarr image", "Run the command for each image.")
    if overlay:
        raise UsageError("overlay", f"an overlay with {out}", "labels alone in a store", "Leave it out.")
    image = name_place(inputs[0])
    if not is_address(image) and not Path(image).is_dir():
        action = f"Give a folder {ZARR} or an address, or choose an `out` that does not end in {ZARR}."
        raise UsageError("inputs", f"{image}, which is no folder", "one OME-Zarr image", action)
    share = Part.parse(part)
    known = Model(str(model.absolute()), device, backend)
    places = [place if is_address(place) else os.path.abspath(place) for place in (image, name_place(out))]
    request = Request(known, places[0], places[1], options, share, resume, dry_run)
    if dry_run:
        return predict_store(request, load(model, device, backend), progress=progress)
    predictor = load(model, "cpu", "torch") if cluster else known.load()
    with open_engine(cluster, progress) as engine:
        shared = [Path(each) for each in (str(model.absolute()), places[0]) if not is_address(each)]
        engine.require_shared(shared, None)
        return predict_store(request, predictor, engine, progress)
