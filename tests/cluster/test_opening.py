"""What `cluster` may name, and what is said of anything else."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest

from unetpp.cluster.address import LocalWorkers, SchedulerAddress, count_cores, read_address
from unetpp.cluster.engine import HereEngine
from unetpp.cluster.opening import open_engine, show_script
from unetpp.errors import MissingExtraError, UsageError

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")


def test_without_a_cluster_the_work_is_done_here() -> None:
    with open_engine(None) as engine:
        assert isinstance(engine, HereEngine)
    assert show_script(None) == show_script("local") == ""


def test_local_workers_and_addresses() -> None:
    assert read_address("local:3") == LocalWorkers(3)
    found = read_address("local")
    assert isinstance(found, LocalWorkers) and 1 <= found.count <= max(count_cores(), 16)
    assert read_address("tls://host:8786") == SchedulerAddress("tls://host:8786", "tls://host:8786")


def test_the_file_of_a_scheduler(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"type": "Scheduler", "address": "tcp://10.0.0.1:8786"}))
    assert read_address(str(tmp_path / "s.json")) == SchedulerAddress("tcp://10.0.0.1:8786", str(tmp_path / "s.json"))


@pytest.mark.parametrize(
    "text", ["", "local:0", "local:", "remote", "tcp://host", "host:8786", "http://h:1", "local:x"]
)
def test_what_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"cluster: got .*expected local, local:4, tcp"):
        read_address(text)


@pytest.mark.parametrize("content", ["", "[1, 2", "a: b", "address: 3", "address: nowhere", "\x00", "- jobqueue"])
def test_files_of_other_content_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(UsageError, match=r"c\.yaml: got"):
        read_address(str(tmp_path / "c.yaml"))


def test_a_scheduler_that_does_not_answer_is_said_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unetpp.cluster.opening.CONNECT_S", 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    words = f"tcp://127.0.0.1:{port}, where no scheduler answers"
    with pytest.raises(UsageError, match=words), open_engine(f"tcp://127.0.0.1:{port}"):
        pytest.fail("opened")
    assert time.monotonic() - started < 30  # 2 on an idle machine


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unetpp.cluster.address.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="distributed"):
        read_address("local:2")
