"""A server of a tiny trained model, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")
pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("multipart", reason="the extra serve is not installed")
pytest.importorskip("prometheus_client", reason="the extra serve is not installed")

from starlette.testclient import TestClient
from tests.serve.browsing import Serve, launch_browser, open_page, require_browser, serve_states

from unetpp.plan import Plan
from unetpp.serve.app import create_app
from unetpp.serve.data_cases import DataCases
from unetpp.serve.job_store import JobStore
from unetpp.serve.limits import Limits
from unetpp.serve.model_shelf import ModelShelf
from unetpp.serve.state import ServerState

ADDRESS = "http://127.0.0.1:8765"
MakeState = Callable[..., ServerState]


@pytest.fixture
def make_state(trained: Path, tmp_path: Path) -> MakeState:
    """Makes the state of a server; its folder is that of the test."""

    def make(models: list[Path] | None = None, **options: Any) -> ServerState:
        limits = Limits(**options.pop("limits", {}))
        shelf = ModelShelf([trained] if models is None else models, 1e9, "cpu", "torch")
        cases = DataCases(options.pop("data", trained.parent / "data"))
        store, corrections = JobStore(tmp_path / "served"), tmp_path / "served" / "corrections"
        return ServerState(store, shelf, cases, corrections, device="cpu", limits=limits, **options)

    return make


@pytest.fixture
def open_client() -> Iterator[Callable[[ServerState], TestClient]]:
    """Opens clients, which are closed after the test."""
    opened: list[TestClient] = []

    def open_(state: ServerState) -> TestClient:
        client = TestClient(create_app(state), base_url=ADDRESS, raise_server_exceptions=False)
        client.__enter__()
        opened.append(client)
        return client

    yield open_
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_state: MakeState, open_client: Callable[[ServerState], TestClient]) -> TestClient:
    """A client of a server with one model and its data."""
    return open_client(make_state())


@pytest.fixture
def two_channel_model(make_model: Callable[..., Path], small_plan: Callable[..., Plan]) -> Path:
    """A model of images with two channels."""
    plan = small_plan().model_dump()
    plan["data"] |= {"channels": ["red", "green"], "normalization": [{}, {}]}
    plan["model"]["in_channels"] = 2
    return make_model(Plan.from_dict(plan))


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves a state, and returns the address."""
    yield from serve_states()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium, for all tests of a module."""
    yield from launch_browser(require_browser())


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of Chromium that collects its errors."""
    yield from open_page(browser)


def finish(client: TestClient, id: str, seconds: float = 180) -> dict[str, Any]:
    """Wait for the end of a job."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        job: dict[str, Any] = client.get(f"/v1/jobs/{id}").json()
        if job["state"] not in ("queued", "running"):
            return job
        time.sleep(0.02)
    raise TimeoutError(job)


def predict(client: TestClient, *files: Path, **fields: Any) -> dict[str, Any]:
    """Predict files, and wait."""
    sent = [("files", (path.name, path.read_bytes())) for path in files]
    answer = client.post("/v1/predict", files=sent or None, data=fields)
    assert answer.status_code == 202, answer.text
    return finish(client, answer.json()["id"])
