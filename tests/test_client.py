"""The client of one file against a server that listens: no torch, streamed uploads, errors in words."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from unetpp.client import Client, ServerError

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
pytest.importorskip("fastapi", reason="the extra serve is not installed")

TOKEN = "a-token-of-this-test"
DOCUMENTED = "http://127.0.0.1:8765"


@pytest.fixture
def address(request: pytest.FixtureRequest, trained: Path, tmp_path: Path) -> Iterator[str]:
    """Address of a server; its parameter is the tokens."""
    from unetpp.serve.data_cases import DataCases
    from unetpp.serve.http_server import HttpServer, listen, start_in_thread
    from unetpp.serve.job_store import JobStore
    from unetpp.serve.model_shelf import ModelShelf
    from unetpp.serve.state import ServerState

    shelf = ModelShelf([trained], 1e9, "cpu", "torch")
    store, cases = JobStore(tmp_path / "served"), DataCases(trained.parent / "data")
    state = ServerState(store, shelf, cases, tmp_path / "corrections", tokens=getattr(request, "param", (TOKEN,)))
    server, opened = HttpServer(state), listen("127.0.0.1", 0)
    port = opened.getsockname()[1]
    thread = start_in_thread(server, opened)
    yield f"http://127.0.0.1:{port}"
    server.stop()
    thread.join(30)
    assert not thread.is_alive()


def test_predict_and_save(address: str, trained: Path, tmp_path: Path) -> None:
    client = Client(address, TOKEN)
    image = sorted((trained.parent / "data" / "images").iterdir())[0]
    seen: list[float] = []
    job = client.predict(image, probabilities=True, progress=lambda job: seen.append(job["progress"]))
    assert job["state"] == "done" and client.jobs("doubt")[0]["id"] == job["id"]
    path = client.save(job, tmp_path / "out", size="1")
    assert path == tmp_path / "out" / image.name and path.read_bytes().startswith(b"\x89PNG")
    assert client.save(job, tmp_path / "out", what="all").suffix == ".zip"
    assert client.save(job, tmp_path / "out", what="probabilities").suffix == ".tif"
    assert client.models()[0]["dims"] == 2
    name = client.cases()[0]["id"]
    assert client.predict(case=name)["name"] == name
    assert [*(tmp_path / "out").glob(".*")] == []


def test_a_lease_gives_back_what_it_held(address: str, trained: Path, tmp_path: Path) -> None:
    client, image = Client(address, TOKEN), sorted((trained.parent / "data" / "images").iterdir())[0]
    with client.lease(idle_s=60) as lease:
        job = client.predict(image)
        assert client.save(job, tmp_path).is_file()
        assert client.renew()["jobs"] == [job["id"]] and lease["idle_s"] == 60
    with pytest.raises(ServerError, match="job"):
        client.job(job["id"])
    with pytest.raises(RuntimeError, match="lease"):
        client.renew()


def test_errors_are_said_in_words(address: str, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ServerError, match=r"bad\.png: got") as error:
        Client(address, TOKEN).predict(tmp_path / "bad.png")
    assert error.value.status == 422 and error.value.problems[0]["action"]
    with pytest.raises(ServerError, match="token"):
        Client(address).models()
    with pytest.raises(ServerError, match="no answer"):
        Client("http://127.0.0.1:9").models()
    with pytest.raises(ValueError, match="http://"):
        Client("file:///etc/passwd")
    with pytest.raises(ServerError, match="List them"):
        Client(address, TOKEN).job("none")


@pytest.mark.parametrize("address", [()], indirect=True)
def test_what_the_page_says_runs(
    address: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "serve.md").read_text(encoding="utf-8").replace(DOCUMENTED, address)
    (tmp_path / "new_images").mkdir()
    image = sorted((trained.parent / "data" / "images").iterdir())[0]
    shutil.copyfile(image, tmp_path / "new_images" / "one.png")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    exec(compile("".join(blocks).replace('"small"', '"1"'), "serve.md", "exec"), {})
    assert Path("predictions/one.png").is_file() and "one.png" in capsys.readouterr().out
    if shutil.which("curl") is None:
        pytest.skip("no curl is installed")
    (lines,) = re.findall(r"^```sh\n(curl.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    answers, id = [], "ID"
    for line in lines.splitlines():
        command = shlex.split(line.replace("/ID", f"/{id}").replace("=small", "=1"), comments=True)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        answers.append(done.stdout)
        if id == "ID":
            id = json.loads(done.stdout)["id"]
            Client(address).wait(id)
    assert json.loads(answers[1])["state"] == "done" and '"done"' in answers[3]
    assert Path("one.png").read_bytes().startswith(b"\x89PNG")


def test_the_client_needs_no_torch() -> None:
    code = "import sys, unetpp.client; print([name for name in ('torch', 'numpy', 'pydantic') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
