"""Routes of corrections, and of trainings on them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query
from starlette.responses import FileResponse, StreamingResponse

from unetpp.serve.corrections import CorrectedCase
from unetpp.serve.events import stream_changes
from unetpp.serve.live_run import LiveRun, read_live_run
from unetpp.serve.model_file import send_model
from unetpp.serve.problems import Refused
from unetpp.serve.state import State
from unetpp.serve.strokes import Correction
from unetpp.serve.trainings import RUNNING, FurtherTraining

ModelId = Annotated[str | None, Query(max_length=200, description="Id of a model; by default the first.")]


router = APIRouter(prefix="/v1", tags=["corrections"])


@router.post("/jobs/{id}/corrections", status_code=201, summary="Save a correction")
def save_correction(state: State, id: str, correction: Correction) -> CorrectedCase:
    """Save what was painted as a case, image and mask, of the folder of corrections."""
    job, _ = state.require_result(id)
    predicted = state.require_file(job, state.require_size(job, correction.size).file, "result")
    case, data = state.case_of(job), state.data_of(job)
    return state.corrected(job.model).save(correction, case, state.open_image(job), predicted, data, job.id, job.case)


@router.get("/corrections", summary="List corrected cases")
def list_corrections(state: State, model: ModelId = None) -> list[CorrectedCase]:
    """List the corrected cases of a model, the newest first."""
    return state.corrected(model).list()


@router.delete("/corrections/{name}", status_code=204, summary="Remove a corrected case")
def remove_correction(state: State, name: str, model: ModelId = None) -> None:
    """Remove a corrected case with its files."""
    state.corrected(model).remove(name)


@router.post("/trainings", status_code=202, summary="Train further on corrections")
def begin_training(
    state: State,
    minutes: Annotated[float, Body(gt=0, allow_inf_nan=False)] = 5.0,
    model: Annotated[str | None, Body(max_length=200)] = None,
) -> FurtherTraining:
    """Train a model further, in the background, on corrected cases and some that it knows."""
    most = state.limits.training_minutes
    if minutes > most:
        raise Refused(422, "minutes", f"{minutes:g}", f"at most {most:g}", "Train with `unetpp train --from`.")
    return state.trainings.begin(model, minutes)


@router.get("/trainings", summary="List further trainings")
def list_trainings(state: State) -> list[FurtherTraining]:
    """List them, the newest first."""
    return state.trainings.list()


@router.get("/trainings/{id}", summary="Describe a further training")
def show_training(state: State, id: str) -> FurtherTraining:
    """Return its state, and the Dice of the old and the new model."""
    return state.trainings.find(id)


@router.get("/trainings/{id}/curves", summary="Take its curves")
def show_curves(state: State, id: str) -> LiveRun:
    """Return what its log says."""
    state.trainings.find(id)
    return read_live_run(state.trainings.run_of(id))


@router.get("/trainings/{id}/events", summary="Follow a further training", response_class=StreamingResponse)
def follow_training(state: State, id: str) -> StreamingResponse:
    """Stream the training, as server-sent events, each time it changes."""
    state.trainings.find(id)

    def is_over(text: str) -> bool:
        return FurtherTraining.model_validate_json(text).state not in RUNNING

    return stream_changes(lambda: state.trainings.find(id).model_dump_json(), is_over, state.stopping.is_set)


@router.post("/trainings/{id}/cancel", summary="Cancel a further training")
def cancel_training(state: State, id: str) -> FurtherTraining:
    """Cancel a training that runs."""
    return state.trainings.cancel(id)


@router.get("/trainings/{id}/model", summary="Take the new model", response_class=FileResponse)
def take_new_model(state: State, id: str) -> FileResponse:
    """Return the file of the new model, if it is better on the validation cases."""
    return send_model(*state.trainings.find_offered(id))


@router.post("/trainings/{id}/accept", summary="Accept the new model")
def accept_model(state: State, id: str) -> FurtherTraining:
    """Serve the new model beside the old one, if it is better on the validation cases."""
    return state.trainings.accept(id)
