"""Marks of finished blocks, and clients that write the same output."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import psutil
import pytest

from unetpp.errors import UsageError
from unetpp.formats.object_store import open_objects
from unetpp.infer.block_marks import Marks, Writer, writing

pytest.importorskip("zarr", reason="the extra cluster is not installed")
pytest.importorskip("obstore", reason="the extra cluster is not installed")


def test_marks_belong_to_one_model_and_image(tmp_path: Path) -> None:
    objects = open_objects(tmp_path, writes=True)
    first, second = Marks(objects, "first"), Marks(objects, "second")
    first.set("blocks", 3)
    first.set("measured", 0, [1.5, float(10**300)])
    second.set("blocks", 4)
    assert first.list_done("blocks") == {3}
    assert first.read("measured", 0) == [1.5, 1e300]
    assert first.read("measured", 1) is None
    first.forget_others()
    assert (first.list_done("blocks"), second.list_done("blocks")) == ({3}, set())
    first.forget()
    assert list(objects.list_keys("")) == []
    assert not (tmp_path / ".unetpp").exists()


def claim(marks: Marks, part: str | None, host: str = "elsewhere", process: int = 1) -> None:
    """What another client has written of itself."""
    began = psutil.Process().create_time()
    entry = {"identity": marks.identity, "part": part, "host": host, "process": process, "began": began}
    marks.objects.write(".unetpp/writers/other", json.dumps(entry).encode())


def test_two_clients_do_not_write_the_same(tmp_path: Path) -> None:
    marks = Marks(open_objects(tmp_path, writes=True), "mine")
    claim(marks, None)
    with pytest.raises(UsageError, match="process 1 on elsewhere is writing"), writing(marks, None, resume=False):
        pass
    with writing(marks, None, resume=True):
        assert len(list(marks.objects.list_keys(".unetpp/writers"))) == 2
    claim(Marks(marks.objects, "another model"), None)
    with pytest.raises(UsageError, match="one client for each `out`"), writing(marks, None, resume=True):
        pass
    claim(marks, "1/2")
    with pytest.raises(UsageError), writing(marks, "1/2", resume=False):
        pass
    with writing(marks, "2/2", resume=False):
        pass
    assert [key for key, _ in marks.objects.list_keys(".unetpp/writers")] == [".unetpp/writers/other"]


def test_a_client_that_has_died_is_no_rival(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    marks = Marks(open_objects(tmp_path, writes=True), "mine")
    claim(marks, None, socket.gethostname(), process=2**22 + 1)
    with writing(marks, None, resume=False):
        pass
    claim(marks, None)
    monkeypatch.setattr("unetpp.infer.block_marks.FRESH_S", 0.0)
    assert Writer(marks, None).find_rival(resume=False) is None
    marks.objects.write(".unetpp/writers/other", b"no json")
    assert Writer(marks, None).find_rival(resume=False) is None


def test_a_client_whose_workers_wait_is_known_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unetpp.infer.block_marks._REFRESH_S", 0.01)
    marks, failures = Marks(open_objects(tmp_path, writes=True), "mine"), [OSError("no network")]
    original = Writer.refresh

    def refresh(self: Writer) -> None:
        if threading.current_thread() is not threading.main_thread() and failures:
            raise failures.pop()
        original(self)

    monkeypatch.setattr(Writer, "refresh", refresh)
    with writing(marks, None, resume=False):
        ((key, _),) = marks.objects.list_keys(".unetpp/writers")
        marks.objects.delete([key])  # a rival has taken it for dead
        until = time.monotonic() + 30
        while marks.objects.read(key) is None and time.monotonic() < until:
            time.sleep(0.01)
        with pytest.raises(UsageError, match="is writing"), writing(marks, None, resume=False):
            pass
    assert not failures
    time.sleep(0.05)
    assert list(marks.objects.list_keys("")) == []
