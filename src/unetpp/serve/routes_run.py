"""Routes of the run that is shown: its curves, its validation cases as they grow, and labels that look wrong."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Response
from starlette.responses import StreamingResponse

from unetpp.serve.events import stream_changes
from unetpp.serve.live_run import LiveRun, read_live_run
from unetpp.serve.problems import Refused
from unetpp.serve.run_pictures import SuspectLabel, draw_suspect, list_suspects, read_growing
from unetpp.serve.state import ServerState, State

router = APIRouter(prefix="/v1/run", tags=["corrections"])


def _require_run(state: ServerState) -> Path:
    if state.run is None:
        raise Refused(404, "run", "a server that follows no training", "one", "Start it with `unetpp serve --run RUN`.")
    return state.run


@router.get("", summary="Show the training that the server follows")
def show_run(state: State) -> LiveRun:
    """Return loss, Dice of each size, throughput, time left and cases to look at, as the folder of the run has them."""
    return read_live_run(_require_run(state))


@router.get("/events", summary="Follow the training", response_class=StreamingResponse)
def follow_run(state: State) -> StreamingResponse:
    """Stream what `GET /v1/run` returns, each time it changes."""
    run = _require_run(state)
    return stream_changes(lambda: read_live_run(run).model_dump_json(), lambda text: False, state.stopping.is_set)


@router.get("/growing/{fold}/{name}", summary="Take a picture of a validation case", response_class=Response)
def take_growing(state: State, fold: str, name: str) -> Response:
    """Return NUMBER_image.png, NUMBER_label.png (outlines), or NUMBER_STEP.png: what was found at a step."""
    return _send(read_growing(_require_run(state), fold, name))


@router.get("/labels", summary="List labels that look wrong")
def list_labels(state: State) -> list[SuspectLabel]:
    """List the cases of which the fold that has not seen them is sure, while their labels say something else."""
    return list_suspects(_require_run(state))


@router.get("/labels/{fold}/{name}.png", summary="Take the picture of such a case", response_class=Response)
def take_suspect(state: State, fold: str, name: str) -> Response:
    """Return the image with the outlines of its label, yellow, and of what was found, blue."""
    return _send(draw_suspect(_require_run(state), fold, name))


def _send(picture: bytes) -> Response:
    return Response(picture, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})
