"""Leases: what a client holds is given back once it is not heard of any more."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.serve.conftest import MakeState, finish
from tests.serve.test_app import image_of, require_problem

from unetpp.serve import app, leases
from unetpp.serve.job import Job, JobState
from unetpp.serve.leases import Lease
from unetpp.serve.problems import Refused
from unetpp.serve.state import ServerState

OpenClient = Callable[[ServerState], TestClient]


@pytest.fixture(autouse=True)
def sweep_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "SWEEP_S", 0.02)


def upload(client: TestClient, trained: Path, lease: str) -> str:
    files = [("files", ("a.png", image_of(trained).read_bytes()))]
    answer = client.post("/v1/predict", files=files, data={"lease": lease})
    assert answer.status_code == 202, answer.text
    id: str = answer.json()["id"]
    return id


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_an_idle_client_holds_is_given_back(make_state: MakeState, open_client: OpenClient, trained: Path) -> None:
    state = make_state()
    client, now = open_client(state), time.monotonic
    model = client.get("/v1/models").json()[0]["id"]
    lease = client.post("/v1/leases", json={"idle_s": 60, "model": model}).json()
    assert lease["idle_s"] == 60 and state.shelf.pinned == {model}
    kept = client.post("/v1/predict", data={"case": image_of(trained).stem}).json()["id"]  # without the lease
    held = upload(client, trained, lease["id"])
    finish(client, kept), finish(client, held)
    assert client.post(f"/v1/leases/{lease['id']}/renew").json()["jobs"] == [held]
    state.leases._held[lease["id"]].used = now() - 59
    client.get(f"/v1/jobs/{held}")  # a use
    assert state.leases._held[lease["id"]].left_s > 30
    state.leases._held[lease["id"]].used = now() - 61
    wait_until(lambda: client.get(f"/v1/jobs/{held}").status_code == 404)
    assert client.get(f"/v1/jobs/{kept}").status_code == 200 and not state.shelf.pinned
    wait_until(lambda: [path.name for path in (state.store.folder / "jobs").iterdir()] == [kept])
    require_problem(client.post(f"/v1/leases/{lease['id']}/renew"), 404)
    require_problem(client.post("/v1/predict", data={"case": kept, "lease": lease["id"]}), 404)


def test_waiting_and_running_jobs_end_with_their_lease(
    make_state: MakeState, open_client: OpenClient, trained: Path
) -> None:
    state = make_state()
    state.worker.run = lambda: None  # type: ignore[method-assign]
    client = open_client(state)
    lease = client.post("/v1/leases", json={}).json()["id"]
    waiting, running = upload(client, trained, lease), upload(client, trained, lease)
    state.store.save(state.require_job(running).model_copy(update={"state": JobState.RUNNING}))
    assert client.delete(f"/v1/leases/{lease}").status_code == 204
    require_problem(client.get(f"/v1/jobs/{waiting}"), 404)
    assert running in state.worker._cancelled  # it ends after its present tile
    state.store.save(state.require_job(running).model_copy(update={"state": JobState.CANCELLED}))
    wait_until(lambda: client.get(f"/v1/jobs/{running}").status_code == 404)
    require_problem(client.delete(f"/v1/leases/{lease}"), 404)


def test_a_lease_that_ends_during_an_upload_keeps_nothing(
    make_state: MakeState, open_client: OpenClient, monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    state = make_state()
    client = open_client(state)
    lease = client.post("/v1/leases", json={}).json()["id"]
    renew, calls = state.leases.renew, iter(range(10))

    def end_before_the_second(id: str, job: str | None = None) -> leases.Lease:
        if next(calls):
            state.leases._held.pop(id, None)
        return renew(id, job)

    monkeypatch.setattr(state.leases, "renew", end_before_the_second)
    files = [("files", ("a.png", image_of(trained).read_bytes()))]
    require_problem(client.post("/v1/predict", files=files, data={"lease": lease}), 404)
    wait_until(lambda: not list((state.store.folder / "jobs").iterdir()))


def test_leases_have_limits_and_survive_a_restart(
    make_state: MakeState, open_client: OpenClient, trained: Path
) -> None:
    state = make_state(limits={"leases": 1, "lease_idle_s": 30})
    state.worker.run = lambda: None  # type: ignore[method-assign]
    client = open_client(state)
    lease = client.post("/v1/leases", json={"idle_s": 1e6}).json()
    assert lease["idle_s"] == 30
    require_problem(client.post("/v1/leases", json={}), 429)
    require_problem(client.post("/v1/leases", json={"idle_s": -1}), 422)
    id = upload(client, trained, lease["id"])
    client.__exit__(None, None, None)
    after = make_state()
    assert after.leases.renew(lease["id"]).jobs == [id]
    after.store.close()


def test_a_lease_that_ends_while_a_job_is_queued_leaves_nothing(
    make_state: MakeState, open_client: OpenClient, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = make_state()
    client, add = open_client(state), state.store.add
    lease = client.post("/v1/leases", json={}).json()["id"]

    def end_and_add(job: Job, most: int) -> bool:
        state.leases.end(lease)
        return add(job, most)

    monkeypatch.setattr(state.store, "add", end_and_add)
    files = [("files", ("a.png", image_of(trained).read_bytes()))]
    require_problem(client.post("/v1/predict", files=files, data={"lease": lease}), 404)
    wait_until(lambda: not client.get("/v1/jobs").json())
    wait_until(lambda: not list((state.store.folder / "jobs").iterdir()))


def test_a_lease_that_two_requests_end_is_ended_once(
    make_state: MakeState, open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = make_state().leases
    lease, renew = held.begin(None, None).id, held.renew

    def renew_and_end(id: str, job: str | None = None) -> Lease:
        found = renew(id, job)
        monkeypatch.setattr(held, "renew", renew)
        held.end(id)  # the other request, between the two steps of this one
        return found

    monkeypatch.setattr(held, "renew", renew_and_end)
    held.end(lease)
    with pytest.raises(Refused):
        held.renew(lease)
