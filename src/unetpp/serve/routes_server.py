"""Routes of the server itself: models, cases, log-in, health and metrics."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse

from unetpp.serve.access import COOKIE, find_token, make_cookie
from unetpp.serve.data_cases import CaseEntry
from unetpp.serve.job import JobState
from unetpp.serve.model_card import ModelCard
from unetpp.serve.model_file import send_model
from unetpp.serve.problems import Refused
from unetpp.serve.sample import draw_sample
from unetpp.serve.server_metrics import write_metrics
from unetpp.serve.state import State
from unetpp.version import __version__


class ServerInfo(BaseModel):
    """What a server offers."""

    version: str
    models: int
    cases: int
    """Cases of the data that it was started with."""
    data: str
    """Name of these data; empty: none."""
    queued: int
    room: int
    """Jobs that the queue still takes."""
    has_run: bool
    """Whether it shows a training."""
    upload_bytes: int
    voxels: int


class Login(BaseModel):
    """A token."""

    token: str


router = APIRouter()


@router.get("/healthz", tags=["server"], summary="Tell whether the process answers")
def is_healthy() -> dict[str, str]:
    """Answer as long as the process lives."""
    return {"status": "ok"}


@router.get("/readyz", tags=["server"], summary="Tell whether jobs are taken")
def is_ready(state: State) -> JSONResponse:
    """Answer 200 if jobs are taken and predicted, else 503."""
    ready = state.worker.is_alive() and state.worker.is_ready.is_set() and not state.stopping.is_set()
    return JSONResponse({"status": "ready" if ready else "not ready"}, 200 if ready else 503)


@router.get("/metrics", tags=["server"], summary="Metrics for Prometheus", response_class=PlainTextResponse)
def show_metrics(state: State) -> Response:
    """Return the metrics of the server as text."""
    return Response(write_metrics(state), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.post("/v1/login", tags=["server"], summary="Log in with a token", status_code=204)
def log_in(state: State, login: Login, request: Request, response: Response) -> None:
    """Set the cookie with which a browser asks from now on."""
    token = find_token(login.token, state.tokens)
    if token is None:
        raise Refused(401, "token", "a wrong one", "one of the token file", "Ask whoever runs the server.")
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, make_cookie(token), httponly=True, samesite="strict", secure=secure)


@router.get("/v1/server", tags=["server"], summary="Describe the server")
def describe_server(state: State) -> ServerInfo:
    """Return what it offers."""
    queued = state.store.count(JobState.QUEUED)
    return ServerInfo(
        version=__version__,
        models=len(state.shelf.list()),
        cases=len(state.cases),
        data=state.cases.name,
        queued=queued,
        room=max(0, state.limits.queued - queued),
        has_run=state.run is not None,
        upload_bytes=state.limits.upload_bytes,
        voxels=state.limits.voxels,
    )


@router.get("/v1/models", tags=["models"], summary="List the models")
def list_models(state: State) -> list[ModelCard]:
    """Return the card of each model: classes, sizes with quality and costs, and how its training stands."""
    return state.shelf.list()


@router.get("/v1/models/{id}", tags=["models"], summary="Describe a model")
def show_model(state: State, id: str) -> ModelCard:
    """Return the card of a model."""
    return state.shelf.card(id)


@router.get("/v1/models/{id}/file", tags=["models"], summary="Take a model", response_class=FileResponse)
def take_model(state: State, id: str) -> FileResponse:
    """Return the file of a model, for `predict`, `export` and `train --from`, if it is one file."""
    return send_model(state.shelf.path(id), state.shelf.card(id).name)


@router.get("/v1/sample", tags=["models"], summary="Take a sample image", response_class=Response)
def take_sample(dims: Annotated[int, Query(ge=2, le=3)] = 2) -> Response:
    """Return a generated image, PNG or NIfTI, to try the server with."""
    return Response(draw_sample(dims), media_type="image/png" if dims == 2 else "application/octet-stream")


@router.get("/v1/cases", tags=["models"], summary="List cases of the data")
def list_cases(
    state: State,
    search: Annotated[str, Query(max_length=200)] = "",
    first: Annotated[int, Query(ge=0)] = 0,
    count: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> list[CaseEntry]:
    """List cases of the data that the server was started with; `predict` takes their names."""
    return state.cases.list(first, count, search)


def describe_tags() -> list[dict[str, Any]]:
    """Describe the groups of routes for the page of the API."""
    return [
        {"name": "predictions", "description": "Queue, follow and take predictions."},
        {"name": "leases", "description": "What a client holds is given back when it is not heard of any more."},
        {"name": "views", "description": "What the page shows."},
        {"name": "corrections", "description": "Corrected cases, and training on them."},
        {"name": "models", "description": "Models and data that are served."},
        {"name": "server", "description": "Health, metrics and log-in."},
    ]
