"""The API as programs use it: predict, follow, take, cancel; and what is refused, always as problem details."""

from __future__ import annotations

import io
import itertools
import json
import sqlite3
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from tests.serve.conftest import MakeState, finish, predict
from tests.tiny import write_png
from tests.zarr_images import write_image

import unetpp
from unetpp.serve import routes_jobs, worker
from unetpp.serve import state as server_state
from unetpp.serve.job import Job, JobState
from unetpp.serve.problems import Refused
from unetpp.serve.state import ServerState

OpenClient = Callable[[ServerState], TestClient]


def image_of(trained: Path) -> Path:
    return sorted((trained.parent / "data" / "images").iterdir())[0]


def require_problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    body: dict[str, Any] = answer.json()
    assert {"title", "status", "detail", "problems"} <= set(body)
    assert all({"where", "got", "expected", "action"} <= set(problem) for problem in body["problems"])
    assert "Traceback" not in answer.text
    return body


def test_a_job_gives_what_predict_writes(client: TestClient, trained: Path, tmp_path: Path) -> None:
    path = image_of(trained)
    job = predict(client, path, probabilities=True)
    assert job["state"] == "done" and job["progress"] == 1 and job["can_correct"]
    assert [size["size"] for size in job["sizes"]] == ["1", "2"]
    unetpp.predict(trained, path, tmp_path / "out", depth="all", device="cpu", backend="torch", progress=False)
    for size in ("1", "2"):
        answer = client.get(f"/v1/jobs/{job['id']}/result", params={"size": size})
        assert answer.headers["content-disposition"] == f'attachment; filename="{path.name}"'
        assert answer.content == (tmp_path / "out" / f"depth_{size}" / path.name).read_bytes()
    for name in ("uncertainty", "probabilities"):
        assert client.get(f"/v1/jobs/{job['id']}/{name}").status_code == 200
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"/v1/jobs/{job['id']}/all").content))
    assert {f"depth_1/{path.name}", "depth_2/predictions.json"} <= set(archive.namelist())


def test_cases_of_the_data_are_predicted_by_name(client: TestClient, trained: Path) -> None:
    cases = client.get("/v1/cases", params={"count": 3}).json()
    assert len(cases) == 3 and cases[0]["has_label"]
    job = predict(client, case=cases[1]["id"])
    assert job["state"] == "done" and job["name"] == cases[1]["id"]
    assert job["view"]["shape"] == [40, 32, 1]


def test_events_end_with_the_job(client: TestClient, trained: Path) -> None:
    id = client.post("/v1/predict", data={"case": image_of(trained).stem}).json()["id"]
    with client.stream("GET", f"/v1/jobs/{id}/events") as stream:
        lines = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    assert lines[-1]["state"] == "done"


def test_models_say_what_they_are(client: TestClient) -> None:
    (card,) = client.get("/v1/models").json()
    assert card["classes"][0]["name"] == "background" and card["classes"][1]["color"].startswith("#")
    assert [size["size"] for size in card["sizes"]] == ["1", "2"]
    assert client.get(f"/v1/models/{card['id']}").json()["name"] == card["name"]
    require_problem(client.get("/v1/models/other"), 404)


def test_the_most_doubtful_come_first(client: TestClient, trained: Path) -> None:
    for name in client.get("/v1/cases").json()[:3]:
        predict(client, case=name["id"])
    found = client.get("/v1/jobs", params={"sort": "doubt"}).json()
    doubts = [job["sizes"][-1]["expected_dice"] or job["sizes"][-1]["confidence"] or 0 for job in found]
    assert len(found) == 3 and doubts == sorted(doubts)


def test_a_waiting_job_is_cancelled_and_removed(make_state: MakeState, open_client: OpenClient, trained: Path) -> None:
    state = make_state()
    state.worker.run = lambda: None  # type: ignore[method-assign]  # nothing is predicted
    client = open_client(state)
    ids = [client.post("/v1/predict", data={"case": image_of(trained).stem}).json()["id"] for _ in range(2)]
    assert client.get(f"/v1/jobs/{ids[1]}").json()["position"] == 1
    assert client.post(f"/v1/jobs/{ids[0]}/cancel").json()["state"] == "cancelled"
    assert client.get(f"/v1/jobs/{ids[1]}").json()["position"] == 0
    assert client.delete(f"/v1/jobs/{ids[0]}").status_code == 204
    require_problem(client.get(f"/v1/jobs/{ids[0]}"), 404)
    require_problem(client.get(f"/v1/jobs/{ids[1]}/result"), 409)


def test_a_full_queue_refuses(make_state: MakeState, open_client: OpenClient, trained: Path) -> None:
    state = make_state(limits={"queued": 1})
    state.worker.run = lambda: None  # type: ignore[method-assign]
    client = open_client(state)
    assert client.get("/v1/server").json()["room"] == 1
    assert client.post("/v1/predict", data={"case": image_of(trained).stem}).status_code == 202
    assert client.get("/v1/server").json()["room"] == 0
    answer = client.post("/v1/predict", files=[("files", ("a.png", image_of(trained).read_bytes()))])
    require_problem(answer, 429)
    assert answer.headers["retry-after"]
    assert len([*(state.store.folder / "jobs").iterdir()]) <= 1  # nothing is left of it


def test_small_images_are_predicted_together(make_state: MakeState, open_client: OpenClient, trained: Path) -> None:
    state = make_state(limits={"together": 4})
    run, begun = state.prediction.run, threading.Barrier(4, timeout=60)

    def run_together(job: Job, progress: Any) -> dict[str, Any]:
        begun.wait()  # broken unless four run at the same time
        return run(job, progress)

    state.prediction.run = run_together  # type: ignore[method-assign]
    client = open_client(state)
    names = [case["id"] for case in client.get("/v1/cases").json()[:4]]
    ids = [client.post("/v1/predict", data={"case": name}).json()["id"] for name in names]
    jobs = [client.get(f"/v1/jobs/{id}", params={"wait_s": 60}).json() for id in ids]
    assert [job["state"] for job in jobs] == ["done"] * 4
    predictor = unetpp.load(trained, "cpu", "torch")
    for id, name in zip(ids, names, strict=True):
        path = trained.parent / "data" / "images" / f"{name}.png"
        served = client.get(f"/v1/jobs/{id}/result", params={"size": "2"}).content
        found = np.asarray(Image.open(io.BytesIO(served))) > 0
        assert (found != (predictor.predict(path, depth=2) > 0)).mean() < 0.01


def test_who_waits_for_a_job_is_told_at_its_end(make_state: MakeState, open_client: OpenClient, trained: Path) -> None:
    state = make_state()
    state.worker.run = lambda: None  # type: ignore[method-assign]
    client = open_client(state)
    id = client.post("/v1/predict", data={"case": image_of(trained).stem}).json()["id"]
    started = time.monotonic()
    assert client.get(f"/v1/jobs/{id}", params={"wait_s": 0.1}).json()["state"] == "queued"
    assert time.monotonic() - started >= 0.1
    cancel = threading.Timer(0.2, state.store.cancel, [id])
    cancel.start()
    assert client.get(f"/v1/jobs/{id}", params={"wait_s": 60}).json()["state"] == "cancelled"
    assert time.monotonic() - started < 30


def test_a_running_job_is_cancelled_between_tiles(
    make_state: MakeState, open_client: OpenClient, monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    state = make_state()
    client = open_client(state)
    watch = state.worker._watch

    def cancel_first(job: Any) -> Any:
        state.worker.cancel(job.id)
        return watch(job)

    monkeypatch.setattr(state.worker, "_watch", cancel_first)
    id = client.post("/v1/predict", data={"case": image_of(trained).stem}).json()["id"]
    assert finish(client, id)["state"] == "cancelled"


def test_a_full_disk_does_not_end_the_predictions(
    make_state: MakeState, open_client: OpenClient, monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    monkeypatch.setattr(worker, "RETRY_S", 0.01)
    state = make_state()
    save, failures = state.store.save, iter(range(6))

    def fail_at_first(job: Job) -> None:
        if threading.current_thread() in state.worker._threads and next(failures, None) not in (None, 3):
            raise sqlite3.OperationalError("database or disk is full")
        save(job)

    monkeypatch.setattr(state.store, "save", fail_at_first)
    assert predict(open_client(state), case=image_of(trained).stem)["state"] == "done"
    assert next(failures, None) is None and state.worker.is_alive()


def test_a_job_that_takes_too_long_fails(make_state: MakeState, open_client: OpenClient, trained: Path) -> None:
    client = open_client(make_state(limits={"job_seconds": 0.0}))
    job = predict(client, case=image_of(trained).stem)
    assert job["state"] == "failed" and "more than 0 s" in job["problem"]["got"]


def test_damaged_files_are_refused_or_fail(client: TestClient) -> None:
    contents = [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"x" * 40, b"no image", b"PK\x03\x04" + b"0" * 60]
    for name, content in itertools.product(["a.png", "a.tif", "a.nii.gz", "a", "a.mha"], contents):
        answer = client.post("/v1/predict", files=[("files", (name, content))])
        if answer.status_code == 202:
            job = finish(client, answer.json()["id"])
            assert job["state"] == "failed" and job["problem"]["action"]
        else:
            require_problem(answer, 422)


NAMES = (
    "../../evil.png",
    "..\\evil.png",
    "/etc/passwd",
    "<script>alert(1)</script>.png",
    "a\nb.png",
    "." * 300,
    "é.png",
)


def test_an_image_that_is_a_folder_is_predicted_and_not_corrected(
    make_state: MakeState, open_client: OpenClient, tmp_path: Path
) -> None:
    pytest.importorskip("zarr", reason="the extra cluster is not installed")
    pytest.importorskip("obstore", reason="the extra cluster is not installed")
    image = np.random.default_rng(0).integers(0, 255, (24, 24)).astype(np.uint8)
    write_image(tmp_path / "data" / "images" / "a.zarr", image, "yx", (8, 8), levels=1)
    write_png(tmp_path / "data" / "masks" / "a.png", (image > 128).astype(np.uint8))
    client = open_client(make_state(data=tmp_path / "data"))
    job = predict(client, case="a")
    assert job["state"] == "done" and not job["can_correct"]
    assert client.get(f"/v1/jobs/{job['id']}/result").status_code == 200
    strokes = {"shape": job["view"]["shape"], "affine": job["view"]["affine"], "runs": [[0, 4, 1]]}
    require_problem(client.post(f"/v1/jobs/{job['id']}/corrections", json=strokes), 409)


def test_names_are_harmless(client: TestClient, trained: Path, tmp_path: Path) -> None:
    for name in NAMES:
        answer = client.post("/v1/predict", files=[("files", (name, image_of(trained).read_bytes()))])
        assert answer.status_code == 202, answer.text
        job = finish(client, answer.json()["id"])
        assert job["state"] == "done", job
        stored = [path for path in tmp_path.rglob("*") if "evil" in path.name or "passwd" in path.name]
        assert all(path.is_relative_to(tmp_path / "served" / "jobs") for path in stored)
        assert not set("<>/\\\n") & set("".join([job["name"], *job["files"]]))


def test_what_is_asked_wrongly_is_explained(client: TestClient, trained: Path) -> None:
    job = predict(client, case=image_of(trained).stem)
    paths = {
        "/v1/jobs/none": 404,
        "/v1/cases?count=0": 422,
        "/v1/jobs?state=other": 422,
        f"/v1/jobs/{job['id']}/result?size=7": 404,
        f"/v1/jobs/{job['id']}/probabilities?number=5": 404,
        f"/v1/jobs/{job['id']}/view/image?box=1,2": 422,
        f"/v1/jobs/{job['id']}/view/image?channel=9": 422,
        f"/v1/jobs/{job['id']}/tiles/image/99/0_0.png": 404,
        f"/v1/jobs/{job['id']}/tiles/other/1/0_0.png": 404,
        "/web/../app.py": 404,
        "/web/%2e%2e/app.py": 404,
        "/nothing": 404,
    }
    for path, status in paths.items():
        require_problem(client.get(path), status)
    require_problem(client.post("/v1/predict", data={"case": "none"}), 404)
    require_problem(client.post("/v1/predict", data={"model": "none", "case": "a"}), 404)
    require_problem(client.post("/v1/predict"), 422)
    require_problem(client.put("/v1/predict"), 405)


def test_huge_images_are_refused_by_their_header(make_state: MakeState, open_client: OpenClient) -> None:
    client = open_client(make_state(limits={"voxels": 1000}))
    stream = io.BytesIO()
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(stream, "PNG")
    body = require_problem(client.post("/v1/predict", files=[("files", ("a.png", stream.getvalue()))]), 413)
    assert "40 x 40 pixels" in body["detail"]


def test_uploads_have_a_limit(make_state: MakeState, open_client: OpenClient) -> None:
    client = open_client(make_state(limits={"upload_bytes": 2000, "body_bytes": 1000}))
    require_problem(client.post("/v1/predict", files=[("files", ("a.png", b"x" * 5000))]), 413)

    def drip() -> Any:  # without a length
        yield b"--b\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n\r\n"
        yield b"x" * 5000

    headers = {"content-type": "multipart/form-data; boundary=b"}
    require_problem(client.post("/v1/predict", content=drip(), headers=headers), 413)
    require_problem(client.post("/v1/trainings", json={"model": "a" * 2000}), 413)


def test_what_there_is_no_room_for_is_not_read(
    make_state: MakeState, open_client: OpenClient, monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    state = make_state(limits={"free_bytes": 2**60, "queued": 1})
    state.worker.run = lambda: None  # type: ignore[method-assign]
    client, parts = open_client(state), [("files", ("a.png", b"x" * 5000))]
    monkeypatch.setattr(routes_jobs, "store_uploads", None)  # would fail
    require_problem(client.post("/v1/predict", files=parts), 507)
    assert client.post("/v1/predict", data={"case": image_of(trained).stem}).status_code == 507  # even its form
    state.store.save(Job(name="a", model="m"))
    require_problem(client.post("/v1/predict", files=parts), 429)


def test_health_readiness_and_metrics(client: TestClient, trained: Path) -> None:
    predict(client, case=image_of(trained).stem)
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").status_code == 200
    text = client.get("/metrics").text
    assert 'unetpp_jobs_ended_total{state="done"} 1.0' in text and "unetpp_loaded_weight_bytes" in text


def test_jobs_survive_a_restart(make_state: MakeState, open_client: OpenClient, trained: Path) -> None:
    first = make_state()
    first.worker.run = lambda: None  # type: ignore[method-assign]
    before = open_client(first)
    id = before.post("/v1/predict", files=[("files", ("a.png", image_of(trained).read_bytes()))]).json()["id"]
    first.store.save(
        first.require_job(id).model_copy(update={"state": JobState.RUNNING})
    )  # as a killed server leaves it
    before.__exit__(None, None, None)
    after = open_client(make_state())
    assert finish(after, id)["state"] == "done"


def test_a_server_that_stops_takes_no_jobs(make_state: MakeState, open_client: OpenClient, trained: Path) -> None:
    state = make_state()
    client = open_client(state)
    state.stopping.set()
    require_problem(client.post("/v1/predict", data={"case": image_of(trained).stem}), 503)
    assert client.get("/readyz").status_code == 503


def test_all_files_are_whole_for_everybody_who_takes_them_at_once(client: TestClient, trained: Path) -> None:
    job = finish(client, predict(client, image_of(trained))["id"])

    def take(number: int) -> list[str]:
        content = client.get(f"/v1/jobs/{job['id']}/all").content
        return sorted(zipfile.ZipFile(io.BytesIO(content)).namelist())

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(take, range(8)))
    assert found == [found[0]] * 8
    names = {Path(name).name for name in found[0]}
    assert {"predictions.json", "predictions.csv"} <= names and not any(name.startswith(".") for name in names)


def test_a_small_folder_of_temporary_files_holds_a_small_upload(
    make_state: MakeState, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = make_state()
    free = {tmp_path / "temporary": 10**8, state.store.folder: 10**11}
    monkeypatch.setattr(server_state, "gettempdir", lambda: str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(server_state.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[Path(folder)]))
    state.require_room(coming=2000)
    with pytest.raises(Refused, match="temporary files"):
        state.require_room(coming=2 * 10**8)


def test_every_route_is_described(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    assert all(isinstance(each, dict) for each in _find_items(described))  # pairs are prefixItems in OpenAPI 3.1
    for methods in described["paths"].values():
        for method in methods.values():
            assert method["summary"] and method["description"] and method["tags"]


def _find_items(schema: Any) -> Iterator[Any]:
    """Find the descriptions of what lists hold, anywhere in a schema."""
    if isinstance(schema, dict):
        yield from [schema["items"]] if "items" in schema else []
    for each in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []:
        yield from _find_items(each)
