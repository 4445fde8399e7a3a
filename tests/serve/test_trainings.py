"""A further training in the background: the new model is compared with the old one, and offered or refused."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.serve.conftest import MakeState, predict

from unetpp.plan import read_plan
from unetpp.replay import NEW_SHARE
from unetpp.run_folder import RunFolder
from unetpp.serve import trainings
from unetpp.serve.state import ServerState
from unetpp.serve.trainings import FurtherTraining, TrainingState

OpenClient = Callable[[ServerState], TestClient]


def correct_one(client: TestClient, number: int = 0) -> None:
    job = predict(client, case=client.get("/v1/cases").json()[number]["id"])
    body = {"shape": job["view"]["shape"], "affine": job["view"]["affine"], "runs": [[0, 40, 1]]}
    assert client.post(f"/v1/jobs/{job['id']}/corrections", json=body).status_code == 201


def wait(client: TestClient, id: str, seconds: float = 300) -> dict[str, Any]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found: dict[str, Any] = client.get(f"/v1/trainings/{id}").json()
        if found["state"] not in trainings.RUNNING:
            return found
        time.sleep(0.1)
    raise TimeoutError(found)


def test_a_training_on_corrections_offers_a_model(client: TestClient, tmp_path: Path, trained: Path) -> None:
    assert client.post("/v1/trainings", json={"minutes": 1}).status_code == 409  # nothing is corrected
    known = json.loads(RunFolder(trained).splits.read_text())[0]
    listed = [case["id"] for case in client.get("/v1/cases").json()]
    held_out, *kept = known["validation"]
    for name in (known["train"][0], held_out):
        correct_one(client, listed.index(name))
    begun = client.post("/v1/trainings", json={"minutes": 0.1})
    assert begun.status_code == 202, begun.text
    assert client.post("/v1/trainings", json={"minutes": 0.1}).status_code == 409  # one at a time
    found = wait(client, begun.json()["id"])
    assert found["state"] in ("better", "refused"), found
    assert found["validated"] and found["old_dice"] is not None and found["new_dice"] is not None
    assert found["state"] == ("better" if found["new_dice"] >= found["old_dice"] else "refused")
    assert f"{found['new_dice']:.4f}" in found["finding"]
    data = tmp_path / "served" / "trainings" / found["id"] / "data"
    (split,) = json.loads((data / "splits_final.json").read_text())
    corrected = [known["train"][0], held_out]
    assert found["corrected"] == 2 and split["val"] == kept
    assert sorted(split["train"]) == sorted([*known["train"], held_out]) and found["replayed"] == 7
    assert found["basis"].startswith("2 new cases and 7 cases that the model knows; compared on 1 validation case")
    plan = read_plan(tmp_path / "served" / "trainings" / found["id"] / "run" / "plan.json")
    weight = 7 * NEW_SHARE / (1 - NEW_SHARE) / 2
    assert plan.train.case_weights == pytest.approx(dict.fromkeys(corrected, weight), abs=0.001)
    curves = client.get(f"/v1/trainings/{found['id']}/curves").json()
    assert curves["folds"][0]["losses"]


@pytest.mark.parametrize(("new", "state"), [(0.9, "better"), (0.5, "refused")])
def test_a_worse_model_is_refused_with_the_number(
    make_state: MakeState,
    open_client: OpenClient,
    monkeypatch: pytest.MonkeyPatch,
    trained: Path,
    new: float,
    state: str,
) -> None:
    server = make_state()
    client = open_client(server)
    correct_one(client)
    monkeypatch.setattr(trainings.Trainings, "_run_process", lambda self, made, found, file: None)
    monkeypatch.setattr(trainings.Trainings, "run_of", lambda self, id: trained)
    scores = iter([[0.7], [new]])
    monkeypatch.setattr(trainings, "score_model", lambda model, cases, data: next(scores))
    monkeypatch.setattr(trainings.shutil, "rmtree", lambda *args, **kwargs: None)  # the run is that of all tests
    found = wait(client, client.post("/v1/trainings", json={"minutes": 1}).json()["id"])
    assert found["state"] == state and f"{new:.4f}, before 0.7000" in found["finding"]
    answer = client.post(f"/v1/trainings/{found['id']}/accept")
    if state == "refused":
        assert answer.status_code == 409 and f"{new:.4f}" in answer.json()["detail"]
        assert len(client.get("/v1/models").json()) == 1
        assert client.get(f"/v1/trainings/{found['id']}/model").status_code == 409
    else:
        assert answer.json()["state"] == "accepted"
        file = (trained / "fold_0" / "model.safetensors").read_bytes()
        for address in (f"/v1/trainings/{found['id']}/model", f"/v1/models/{answer.json()['new_model']}/file"):
            taken = client.get(address)
            assert taken.content == file and ".safetensors" in taken.headers["content-disposition"]
        models = client.get("/v1/models").json()
        assert [model["id"] for model in models][1] == answer.json()["new_model"] and len(models) == 2
        assert client.post(f"/v1/trainings/{found['id']}/accept").status_code == 409


def test_a_training_is_cancelled(
    make_state: MakeState, open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client(make_state())
    correct_one(client)
    begun = client.post("/v1/trainings", json={"minutes": 5}).json()
    assert client.post(f"/v1/trainings/{begun['id']}/cancel").json()["state"] == "cancelled"
    assert wait(client, begun["id"])["state"] == "cancelled"


def test_a_cancelled_training_ends_before_the_next_begins(
    make_state: MakeState, open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins, saved = threading.Event(), threading.Event()
    monkeypatch.setattr(trainings, "ENDING_S", 0.01)
    monkeypatch.setattr(trainings.Trainings, "_run_process", lambda *_: (begins.set(), saved.wait(30)))
    client = open_client(make_state())
    correct_one(client)
    begun = client.post("/v1/trainings", json={"minutes": 5}).json()
    assert begins.wait(60)
    assert client.post(f"/v1/trainings/{begun['id']}/cancel").json()["state"] == "cancelled"
    assert client.post("/v1/trainings", json={"minutes": 5}).status_code == 409  # its process still saves
    saved.set()
    monkeypatch.setattr(trainings, "ENDING_S", 30.0)
    assert client.post("/v1/trainings", json={"minutes": 5}).status_code == 202


def test_what_was_cut_off_is_told_after_a_restart(make_state: MakeState, tmp_path: Path) -> None:
    made = FurtherTraining(model="run", minutes=1, state=TrainingState.TRAINING)
    folder = tmp_path / "served" / "trainings" / made.id
    folder.mkdir(parents=True)
    (folder / "training.json").write_text(made.model_dump_json())
    (folder.parent / "other").mkdir()
    (folder.parent / "other" / "training.json").write_text("{")
    state = make_state()
    (found,) = state.trainings.list()
    assert found.state is TrainingState.CANCELLED and "stopped" in found.finding
    state.store.close()


@pytest.mark.parametrize(
    "body", [{"minutes": 0}, {"minutes": -1}, {"minutes": 1e9}, {"minutes": "many"}, {"minutes": None}]
)
def test_lengths_that_are_none_are_refused(client: TestClient, body: dict[str, Any]) -> None:
    assert client.post("/v1/trainings", json=body).status_code == 422
    assert client.get("/v1/trainings/none").status_code == 404
