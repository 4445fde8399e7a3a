"""The image of a job is predicted again with another model, once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from starlette.testclient import TestClient
from tests.serve.conftest import MakeState, finish, predict

from unetpp.serve.state import ServerState


def test_an_image_is_predicted_by_two_models(
    make_state: MakeState, open_client: Callable[[ServerState], TestClient], trained: Path, tmp_path: Path
) -> None:
    client = open_client(make_state([trained, trained]))
    first, second = (card["id"] for card in client.get("/v1/models").json())
    Image.fromarray(np.eye(40, dtype=np.uint8) * 200).save(tmp_path / "line.png")
    jobs = predict(client, tmp_path / "line.png"), predict(client, case=client.get("/v1/cases").json()[0]["id"])
    for job in jobs:
        answer = client.post(f"/v1/jobs/{job['id']}/again", json={"model": second})
        assert answer.status_code == 202, answer.text
        other = finish(client, answer.json()["id"])
        assert other["state"] == "done" and (other["model"], other["of"]) == (second, job["id"])
        assert (other["name"], other["view"]) == (job["name"], job["view"]) and job["model"] == first
        same = client.post(f"/v1/jobs/{job['id']}/again", json={"model": second}).json()
        assert same["id"] == other["id"], "it is not predicted twice"
        assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
        assert client.get(f"/v1/jobs/{other['id']}/view/image").status_code == 200, "each has files of its own"
    assert client.post(f"/v1/jobs/{other['id']}/again", json={"model": "none"}).status_code == 404
    assert client.post("/v1/jobs/none/again", json={"model": second}).status_code == 404
