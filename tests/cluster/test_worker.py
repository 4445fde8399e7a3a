from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from unetpp.cluster import loaded, worker
from unetpp.cluster.loaded import describe_files, load_once
from unetpp.errors import UsageError
from unetpp.free_memory import limit_process, measure_free_bytes


def see(monkeypatch: pytest.MonkeyPatch, name: object, gpus: int, limit: int | None = None) -> None:
    """Let this process be a worker."""
    fake: Any = SimpleNamespace(name=name, memory_manager=SimpleNamespace(memory_limit=limit))
    monkeypatch.setattr(worker, "_find_worker", lambda: fake)
    torch = SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: gpus))
    monkeypatch.setattr(worker, "import_module", lambda name: torch)


@pytest.mark.parametrize(
    ("name", "gpus", "wanted", "device"),
    [
        (3, 4, "auto", "cuda:3"),
        ("SLURMCluster-0-5", 4, "cuda", "cuda:1"),
        ("node", 4, "auto", "auto"),
        ("w-1", 2, "auto", "cuda:1"),
        ("tcp://10.0.0.5:40001", 1, "auto", "auto"),
        ("tcp://10.0.0.5:40001", 2, "cuda:1", "cuda:1"),
        (2, 1, "auto", "auto"),
        (2, 0, "auto", "auto"),
        (3, 4, "cpu", "cpu"),
        (3, 4, "cuda:0", "cuda:0"),
    ],
)
def test_each_worker_has_a_device_of_its_own(
    monkeypatch: pytest.MonkeyPatch, name: object, gpus: int, wanted: str, device: str
) -> None:
    see(monkeypatch, name, gpus)
    assert worker.choose_device(wanted) == device


def test_a_worker_without_a_name_does_not_choose_a_device_by_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, "tcp://10.0.0.5:40001", 2)
    with pytest.raises(UsageError, match=r"worker tcp://10.0.0.5:40001: got 2 GPUs and no name; .*--name "):
        worker.choose_device("auto")


def test_outside_of_a_worker_the_device_is_as_wanted() -> None:
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    assert worker.choose_device("auto") == "auto"


def test_the_memory_of_a_worker_limits_its_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        see(monkeypatch, 0, 0, limit=1)
        worker.respect_memory()
        assert measure_free_bytes() == 0
        see(monkeypatch, 0, 0, limit=None)
        worker.respect_memory()
        assert measure_free_bytes() > 0
    finally:
        limit_process(None)


def test_unseen_paths_are_listed(tmp_path: Path) -> None:
    assert worker.list_unseen([str(tmp_path), str(tmp_path / "no")]) == [str(tmp_path / "no")]


def test_a_model_is_loaded_once_until_its_file_changes(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("one")
    calls: list[str] = []

    def load() -> str:
        calls.append((tmp_path / "m").read_text())
        return calls[-1]

    for _ in range(3):
        assert load_once(describe_files([tmp_path / "m"]), load) == "one"
    (tmp_path / "m").write_text("three")
    assert load_once(describe_files([tmp_path / "m"]), load) == "three"
    assert calls == ["one", "three"]
    assert len(loaded._KEPT) == 1  # the former one is not kept in memory


def test_a_worker_of_a_job_computes_with_the_cores_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(worker, "import_module", lambda name: SimpleNamespace(set_num_threads=asked.append))
    worker.use_cores(0)
    worker.use_cores(4)
    assert asked == [4]
