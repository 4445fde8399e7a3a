"""Hostile files and bodies: each is refused or fails in words, in bounded memory, and no file lies elsewhere."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from struct import pack
from typing import Any

import nibabel
import numpy as np
import pytest
from starlette.testclient import TestClient
from tests.serve.conftest import finish
from tests.serve.test_app import image_of, require_problem

from unetpp.errors import Problem
from unetpp.serve.model_file import send_model
from unetpp.serve.problems import Refused, to_item
from unetpp.serve.trainings import _read_problem

MEGABYTE = 2**20


def make_png(width: int, height: int, rows: int) -> bytes:
    """Make a gray PNG whose header says more rows than there are."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content))

    head = pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes((width + 1) * rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def make_nifti(shape: tuple[int, ...], zeros: int, kind: str = "u1") -> bytes:
    """Make a NIfTI file whose header says a shape, with so many bytes of zeros behind it, compressed."""
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(kind)
    stream = io.BytesIO()
    header["vox_offset"] = 352
    header.write_to(stream)
    stream.write(bytes(4))
    return gzip.compress(stream.getvalue() + bytes(zeros), 9)


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "more pixels than the limit": ("a.png", lambda: make_png(2**17, 2**17, 1)),
    "rows that are missing": ("a.png", lambda: make_png(6000, 6000, 1)),
    "more voxels than the limit": ("a.nii.gz", lambda: make_nifti((30_000, 30_000, 30_000), 0)),
    "voxels that are missing": ("a.nii.gz", lambda: make_nifti((3000, 3000, 1), 10, "f8")),
    "zeros behind the image": ("a.nii.gz", lambda: make_nifti((32, 32), 70 * MEGABYTE)),
    "an archive": ("a.png", lambda: b"PK\x03\x04" + bytes(200)),
    "a program": ("a.png", lambda: b"\x7fELF" + bytes(5000)),
    "a page": ("a.png", lambda: b"<html><script>alert(1)</script>"),
    "a pickle": (
        "a.npy",
        lambda: b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_or_fail(client: TestClient, tmp_path: Path, name: str) -> None:
    file, make = BOMBS[name]
    content = make()
    tracemalloc.start()
    answer = client.post("/v1/predict", files=[("files", (file, content))])
    if answer.status_code == 202:
        job = finish(client, answer.json()["id"])
        assert job["state"] == "done" if name == "zeros behind the image" else job["state"] == "failed", job
        assert job["state"] == "done" or job["problem"]["action"]
        assert "unexpected" not in json.dumps(job["problem"]), job
    else:
        assert answer.status_code in (413, 422)
        require_problem(answer, answer.status_code)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * MEGABYTE
    assert {path.name for path in tmp_path.iterdir()} <= {"served"}


def test_hostile_bodies_are_refused_in_words(client: TestClient, trained: Path) -> None:
    deep, digits = "[" * 200_000, "9" * 10_000
    for path in ("/v1/trainings", "/v1/leases", "/v1/jobs/none/corrections"):
        for text in (
            deep,
            f'{{"minutes": {digits}, "idle_s": {digits}}}',
            '{"minutes": 1e999, "idle_s": 1e999}',
            "\xff",
            '"a"',
        ):
            answer = client.post(path, content=text.encode("latin-1"), headers={"content-type": "application/json"})
            assert 400 <= answer.status_code < 500, (path, text[:20], answer.text)
            require_problem(answer, answer.status_code)
    multipart = "multipart/form-data; boundary=b"
    bodies: list[tuple[str, bytes]] = [
        (multipart, b"garbage"),
        (multipart, b'--b\r\nContent-Disposition: form-data; name="case"\r\n\r\n' + b"x" * 3 * MEGABYTE + b"\r\n--b--"),
        (
            multipart,
            b"".join(b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' for _ in range(3000)) + b"--b--",
        ),
        ("multipart/form-data", b"--b\r\n"),
        ("application/json", b"{}"),
        ("text/html", b"<form>"),
    ]
    for kind, body in bodies:
        answer = client.post("/v1/predict", content=body, headers={"content-type": kind})
        assert 400 <= answer.status_code < 500, (kind, body[:60], answer.text)
        require_problem(answer, answer.status_code)


def test_strange_numbers_and_names_in_addresses(client: TestClient, trained: Path) -> None:
    job: dict[str, Any] = client.post("/v1/predict", data={"case": image_of(trained).stem}).json()
    finish(client, job["id"])
    base = f"/v1/jobs/{job['id']}"
    for query in ("wait_s=nan", "wait_s=inf", "wait_s=-1", "wait_s=1e9"):
        require_problem(client.get(f"{base}?{query}"), 422)
    for path in ("%00", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "a" * 5000, "%ff", "..", "'; DROP TABLE jobs; --"):
        assert client.get(f"/v1/jobs/{path}").status_code in (404, 405, 200 if path == ".." else 404)
    for query in ("low=nan&high=nan", "low=inf&high=-inf", "low=1e308&high=-1e308", "classes=1,x,99999"):
        answer = client.get(f"{base}/tiles/image/6/0_0.png?{query}")
        assert answer.status_code in (200, 422), answer.text
    assert np.isfinite(client.get(f"{base}/view/window").json()).all()


def test_folders_of_the_server_stay_in_it() -> None:
    problem = Problem(
        "/srv/work/trainings/x/nuclei",
        "several images with the stem a (/srv/secret/images/a.png, /srv/other data/b.png)",
        "one file; see https://example.org/a/b and /v1/cases",
        "Rename '/home/anna/c.nii.gz'.",
    )
    item = to_item(problem)
    assert item.where == "nuclei" and item.got.startswith("several images with the stem a (a.png, ")
    assert "secret" not in item.got and "anna" not in item.action and "/v1/cases" in item.expected
    assert "https://example.org/a/b" in item.expected


def test_a_failed_training_tells_its_first_problem() -> None:
    first = {"where": "/srv/x/a.png", "got": "nothing", "expected": "an image", "action": ""}
    answer = json.dumps({"error": {"message": "many", "problems": [first, first]}}).encode()
    assert _read_problem(answer) == Problem(*first.values())
    assert _read_problem(b'{"error": {"message": "out of memory", "problems": []}}').got == "out of memory"
    assert _read_problem(b"Traceback").got == "one that failed"


def test_a_model_of_two_files_is_not_sent_in_half(tmp_path: Path) -> None:
    for name in ("model.xml", "model.bin"):
        (tmp_path / name).touch()
    with pytest.raises(Refused, match="exported to two files"):
        send_model(tmp_path / "model.xml", "some")
