"""The route that predicts an image again with another model, to show both results side by side."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Body, Response

from unetpp.serve.job import UNDONE, Job
from unetpp.serve.state import State

router = APIRouter(prefix="/v1/jobs/{id}", tags=["predictions"])


@router.post("/again", status_code=202, summary="Predict the image with another model")
def predict_again(
    state: State, response: Response, id: str, model: Annotated[str, Body(max_length=200, embed=True)]
) -> Job:
    """Queue a prediction of the image of a job with another model, or return the one that there is."""
    state.require_running()
    first, card = state.require_job(id), state.shelf.card(model)
    for known in state.store.list():
        is_same = known.of == first.id and known.model == card.id and known.options == first.options
        if is_same and (known.is_done or known.state in UNDONE):
            return known
    state.require_room()
    kept = {name: getattr(first, name) for name in ("name", "files", "images", "case", "options", "voxels", "lease")}
    job = Job(model=card.id, of=first.id, **kept)
    try:
        _link(state.store.inputs_of(first.id), state.store.inputs_of(job.id))
    except BaseException:
        state.store.remove(job.id)
        raise
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return state.add_job(job)


def _link(folder: Path, target: Path) -> None:
    """Link the uploaded files of a job, or copy them where the disk has no links: each job removes its own."""

    def link(source: str, place: str) -> None:
        try:
            os.link(source, place)
        except OSError:
            shutil.copyfile(source, place)

    if folder.is_dir():
        shutil.copytree(folder, target, copy_function=link)
