"""Routes of predictions: ask for one, follow it, take its results, cancel or remove it."""

from __future__ import annotations

import asyncio
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Query, Response, UploadFile
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, StreamingResponse

from unetpp.serve.events import stream_changes
from unetpp.serve.job import UNDONE, Job, JobOptions, JobState
from unetpp.serve.job_records import KEPT, write_records
from unetpp.serve.problems import Refused
from unetpp.serve.state import ServerState, State
from unetpp.serve.uploads import name_case, require_size, store_uploads

SizeName = Annotated[str | None, Query(max_length=40, description="Name of a size; by default the largest.")]


STOP_CHECK_S = 1.0
"""Seconds after which a request that waits looks whether the server stops."""


router = APIRouter(prefix="/v1", tags=["predictions"])


@router.post("/predict", status_code=202, summary="Predict an image")
def predict(
    state: State,
    response: Response,
    files: Annotated[list[UploadFile] | None, File(description="Files of one case: its channels in order.")] = None,
    case: Annotated[str | None, Form(max_length=1000, description="Instead of files: a case of the data.")] = None,
    model: Annotated[str | None, Form(max_length=200, description="By default the first.")] = None,
    tta: Annotated[bool, Form()] = False,
    probabilities: Annotated[bool, Form()] = False,
    uncertainty: Annotated[bool, Form()] = True,
    lease: Annotated[str | None, Form(max_length=80, description="Lease that holds the job.")] = None,
) -> Job:
    """Queue a prediction of one image at all sizes, and return its job."""
    state.require_running()
    if lease is not None:
        state.leases.renew(lease)
    card = state.shelf.card(model)
    options = JobOptions(tta=tta, probabilities=probabilities, uncertainty=uncertainty)
    if (case is None) == (not files):
        got = "neither files nor a case" if case is None else "both files and a case"
        raise Refused(422, "files", got, "one of them", "Send the files of one case, or the name of a case.")
    if case is not None:
        found = state.cases.find(case)
        voxels = require_size(found.images, state.limits)
        job = Job(name=case, model=card.id, case=case, options=options, voxels=voxels)
    else:
        job = _store(state, files or [], card.id, options)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return state.add_job(job.model_copy(update={"lease": lease}))


@router.get("/jobs", summary="List jobs")
def list_jobs(
    state: State,
    job_state: Annotated[JobState | None, Query(alias="state")] = None,
    sort: Annotated[Literal["newest", "doubt"], Query()] = "newest",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[Job]:
    """List jobs, the newest first, or those that are done with the most doubtful first: to review them."""
    if sort == "doubt":
        return sorted(state.store.list(JobState.DONE), key=lambda job: -job.doubt)[:limit]
    found = state.store.list(*([job_state] if job_state else []), limit=limit)
    waiting = [job for job in found if job.state is JobState.QUEUED]
    places = {job.id: state.store.find(job.id) for job in waiting}
    return [places.get(job.id) or job for job in found]


@router.get("/jobs/{id}", summary="Describe a job")
async def show_job(
    state: State,
    id: str,
    wait_s: Annotated[float, Query(ge=0, le=60, description="Seconds to wait for its end before answering.")] = 0,
) -> Job:
    """Return a job: its state, how far it is, and what is expected of its results."""
    until = time.monotonic() + wait_s
    with state.store.ends.watch(id) as ended:
        while True:
            job = await run_in_threadpool(state.require_job, id)
            left = until - time.monotonic()
            if job.state not in UNDONE or left <= 0 or state.stopping.is_set():
                return job
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), min(left, STOP_CHECK_S))


@router.get("/jobs/{id}/events", summary="Follow a job", response_class=StreamingResponse)
def follow_job(state: State, id: str) -> StreamingResponse:
    """Stream the job, as server-sent events, each time it changes."""
    state.require_job(id)

    def read() -> str:
        job = state.store.find(id)
        state.leases.touch(None if job is None else job.lease)
        return "{}" if job is None else job.model_dump_json()

    def is_over(text: str) -> bool:
        return text == "{}" or Job.model_validate_json(text).state not in UNDONE

    return stream_changes(read, is_over, state.stopping.is_set)


@router.post("/jobs/{id}/cancel", summary="Cancel a job")
def cancel_job(state: State, id: str) -> Job:
    """Cancel a job that waits, or that runs: after its present tile."""
    state.require_job(id)
    if not state.store.cancel(id) and state.require_job(id).state is JobState.RUNNING:
        state.worker.cancel(id)
    return state.require_job(id)


@router.delete("/jobs/{id}", status_code=204, summary="Remove a job")
def remove_job(state: State, id: str) -> None:
    """Remove a job with its files; one that runs is cancelled first."""
    state.require_job(id)
    state.store.cancel(id)  # so that it is not taken while its files are removed
    if state.require_job(id).state is JobState.RUNNING:
        state.worker.cancel(id)
        raise Refused(409, "job", "a job that is running", "one that has ended", "It is being cancelled: try again.")
    state.store.remove(id)


@router.get("/jobs/{id}/result", summary="Take the segmentation", response_class=FileResponse)
def take_result(state: State, id: str, size: SizeName = None) -> FileResponse:
    """Return the segmentation at a size, in the format and on the grid of the input."""
    job, _ = state.require_result(id)
    path = state.require_file(job, state.require_size(job, size).file, "result")
    return _send(path)


@router.get("/jobs/{id}/probabilities", summary="Take a map of probabilities", response_class=FileResponse)
def take_probabilities(
    state: State,
    id: str,
    number: Annotated[int, Query(ge=0, description="Of the foreground class, from 0.")] = 0,
    size: SizeName = None,
) -> FileResponse:
    """Return the probability of a class, if it was asked for."""
    job, _ = state.require_result(id)
    maps = state.require_size(job, size).probabilities
    return _send(state.require_file(job, maps[number] if number < len(maps) else None, "probabilities"))


@router.get("/jobs/{id}/uncertainty", summary="Take the map of doubt", response_class=FileResponse)
def take_uncertainty(state: State, id: str, size: SizeName = None) -> FileResponse:
    """Return the entropy of the probabilities, 0 to 1, if it was asked for."""
    job, _ = state.require_result(id)
    return _send(state.require_file(job, state.require_size(job, size).uncertainty, "uncertainty"))


@router.get("/jobs/{id}/all", summary="Take all files", response_class=FileResponse)
def take_all(state: State, id: str) -> FileResponse:
    """Return a zip file of all sizes, maps and tables."""
    job, _ = state.require_result(id)
    write_records(state.store.results_of(job.id))
    return _send_all(state.store.results_of(job.id), f"{name_case([job.name])}.zip")


def _store(state: ServerState, files: list[UploadFile], model: str, options: JobOptions) -> Job:
    """Store the files of a job; nothing is left of one that is refused."""
    job = Job(name="", model=model, options=options)
    try:
        names, images = store_uploads(files, state.store.inputs_of(job.id), state.limits)
        voxels = require_size([state.store.inputs_of(job.id) / name for name in images], state.limits)
    except BaseException:
        state.store.remove(job.id)
        raise
    return job.model_copy(update={"name": name_case(images), "files": names, "images": images, "voxels": voxels})


def _send(path: Path) -> FileResponse:
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


def _send_all(folder: Path, name: str) -> FileResponse:
    with NamedTemporaryFile(suffix=".zip", delete=False) as file:
        remove = BackgroundTask(Path(file.name).unlink, missing_ok=True)
        try:
            with zipfile.ZipFile(file, "w") as archive:
                for path in sorted(each for each in folder.rglob("*") if each.is_file() and each.name != KEPT):
                    archive.write(path, path.relative_to(folder))
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return FileResponse(file.name, media_type="application/zip", filename=name, background=remove)
