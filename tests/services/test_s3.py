"""An object store instead of a disk: S3 in and out, an independent reader, https in, and refusals."""

from __future__ import annotations

import functools
import gc
import http.server
import io
import json
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import toy_plan
from tests.services.s3_server import find_python, find_server, run_server
from tests.tiny import run_cli
from tests.zarr_images import write_image

import unetpp
from unetpp.errors import DataError, WriteError
from unetpp.formats.object_store import open_objects
from unetpp.infer import block_cut

pytest.importorskip("zarr", reason="the extra cluster is not installed")
pytest.importorskip("obstore", reason="the extra cluster is not installed")
pytestmark = pytest.mark.services
KEY, SECRET = "AKIAABCDEFGHIJKLMNOP", "a-secret-that-no-message-has"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    command = find_server()
    if command is None:
        pytest.skip("no S3 server: `make services` installs moto's")
    with run_server(command, "images", "results") as address:
        yield address


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(block_cut, "CHUNK", {3: (8, 16)})
    monkeypatch.setattr(block_cut, "BLOCK", {3: 16})
    return server


def make_array() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (1, 13, 26, 30)).astype(np.uint8)


def put_image(place: str) -> np.ndarray:
    array = make_array()
    write_image(open_objects(place, writes=True).zarr(writes=True), array, "czyx", (1, 8, 16, 16))
    return array


def test_a_bucket_in_and_out(s3: str, make_model: Callable[..., Path]) -> None:
    model, array = make_model(toy_plan(3)), put_image("s3://images/a/in.zarr")
    places = ("s3://images/a/in.zarr", "--out", "s3://results/b/out.zarr")
    answer = run_cli("predict", model, *places, "--device", "cpu", "--json")
    assert answer.code == 0
    assert answer.json["complete"]
    assert answer.json["blocks"] == 4
    whole = unetpp.load(model, "cpu").predict(array[0])
    keys = [key for key, _ in open_objects("s3://results/b/out.zarr").list_keys("")]
    assert sum("/0/c/" in key for key in keys) == 4  # a shard for each block
    assert not any(".unetpp" in key for key in keys)
    assert np.array_equal(read_with_tensorstore(s3), whole)
    again = unetpp.predict(model, "s3://images/a/in.zarr", "s3://results/b/out.zarr", device="cpu", resume=True)
    assert again.earlier == 4


def read_with_tensorstore(server: str) -> np.ndarray:
    """Read the labels in a process of the environment of services, without zarr."""
    python = find_python("tensorstore")
    if python is None:
        pytest.skip("no independent reader: `make services` installs tensorstore")
    place = {"bucket": "results", "path": "b/out.zarr/labels/segmentation/0/", "endpoint": server}
    store: dict[str, Any] = {"driver": "s3", "aws_region": "us-east-1", **place}
    asked = json.dumps({"driver": "zarr3", "kvstore": store})
    found = subprocess.run([*python, "-c", READ, asked], check=True, capture_output=True, timeout=120)
    array: np.ndarray = np.load(io.BytesIO(found.stdout))
    return array


READ = """
import json, sys, numpy, tensorstore
array = tensorstore.open(json.loads(sys.argv[1])).result().read().result()
numpy.save(sys.stdout.buffer, array)
"""


def test_without_rights_there_is_one_message_without_secrets(
    s3: str, make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = make_model(toy_plan(3))
    put_image("s3://images/b/in.zarr")
    write_image(tmp_path / "in.zarr", make_array(), "czyx", (1, 8, 16, 16))
    for place in ("s3://nobody/in.zarr", "s3://images/nothing.zarr"):
        with pytest.raises(DataError) as failed:
            unetpp.predict(model, place, tmp_path / "out.zarr", device="cpu")
        assert SECRET not in str(failed.value)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    from unetpp.formats import object_store

    object_store._open.cache_clear()  # that knows the credentials of before
    with pytest.raises(WriteError, match=r"a refusal \(403") as refused:
        unetpp.predict(model, tmp_path / "in.zarr", "s3://results/c/out.zarr", device="cpu")
    assert len(str(refused.value).splitlines()) == 1
    with pytest.raises(DataError, match=r"a refusal \(403"):
        unetpp.predict(model, "s3://images/b/in.zarr", tmp_path / "out.zarr", device="cpu")
    object_store._open.cache_clear()
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        del refused, failed
        gc.collect()  # zarr has not awaited all that it prepared; its coroutines say so when they go


def test_an_image_on_a_web_server(make_model: Callable[..., Path], tmp_path: Path) -> None:
    model, array = make_model(toy_plan(3)), make_array()
    write_image(tmp_path / "web" / "in.zarr", array, "czyx", (1, 8, 16, 16), "0.4")
    handler = functools.partial(Quiet, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/in.zarr"
        found = unetpp.predict(model, address, tmp_path / "out.zarr", device="cpu")
        server.shutdown()
    assert found.complete
    import zarr

    labels = zarr.open_array(str(tmp_path / "out.zarr"), path="labels/segmentation/0", mode="r")
    assert np.array_equal(labels[...], unetpp.load(model, "cpu").predict(array[0]))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass
