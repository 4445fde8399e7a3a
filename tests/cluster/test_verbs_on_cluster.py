"""The verbs with `cluster`: the same files as without, and folds side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import toy_plan
from tests.tiny import TINY

import unetpp
from unetpp.cluster.engine import HERE
from unetpp.data.demo import write_demo_data
from unetpp.data.folds import make_splits
from unetpp.errors import Interrupted, Problem, UnetppError, UsageError, WriteError
from unetpp.files import hold_lock
from unetpp.layouts.cases import find_cases
from unetpp.progress import Silence
from unetpp.run_folder import LOCK, RunFolder
from unetpp.verbs import cluster_training
from unetpp.verbs.fold_time import Clock
from unetpp.verbs.training_request import TrainingRequest


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_predict_and_evaluate_give_the_same_as_without(
    trained: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, masks = (trained.parent / "data" / name for name in ("images", "masks"))
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"depth": "all", "device": "cpu", "backend": "torch", "overlay": True}
    here = unetpp.predict(trained, [images, "bad.png"], "here", **options)
    there = unetpp.predict(trained, [images, "bad.png"], "there", cluster=address, **options)
    assert [path.relative_to("there") for path in there.files] == [path.relative_to("here") for path in here.files]
    assert there.failed == here.failed
    assert read(tmp_path / "there") == read(tmp_path / "here")
    again = unetpp.predict(trained, [images, "bad.png"], "there", cluster=address, resume=True, **options)
    assert any(note.startswith("10 images had been segmented before") for note in again.notes)
    assert read(tmp_path / "there") == read(tmp_path / "here")
    first, second = (unetpp.evaluate("here", masks, cluster=cluster) for cluster in (None, address))
    assert first.metrics == second.metrics
    assert first.problems == second.problems


def test_check_and_plan_read_on_the_cluster(cells: Path, address: str, tmp_path: Path) -> None:
    (cells / "images" / "cells_03.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    assert unetpp.check(cells).problems == unetpp.check(cells, cluster=address).problems != ()
    (cells / "images" / "cells_03.png").unlink()
    (cells / "masks" / "cells_03.png").unlink()
    for run, cluster in (("here", None), ("there", address)):
        unetpp.plan(cells, tmp_path / run, set=TINY, cluster=cluster)
    for name in ("plan.json", "fingerprint.json", "splits.json"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_folds_side_by_side_and_not_again(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells, out = write_demo_data(tmp_path / "cells", 2, cases=3, shape=(32, 40)), tmp_path / "run"
    options: dict[str, Any] = {"fold": "all", "device": "cpu", "cluster": address}
    settings = {**TINY, "train.steps_per_epoch": 1}
    found = unetpp.train(cells, out, epochs=1, set=settings, **options)
    run = RunFolder(out)
    assert [fold.fold for fold in found.folds] == run.started_folds() == [0, 1, 2]
    assert all((run.fold(fold) / "log.jsonl").is_file() and run.metrics(fold) for fold in range(3))
    assert (out / "report.html").is_file() and found.pooled
    assert not list(out.rglob(".*lock"))
    before = read(out / "fold_1")
    run.metrics_file(0).unlink()  # as if the command had died before its end
    noted: list[set[str]] = []
    monkeypatch.setattr(TrainingRequest, "note_start", lambda self, plan, held_out: noted.append(set(held_out)))
    again = unetpp.train(cells, out, resume=True, **options)
    assert noted == [{"cells_00", "cells_01", "cells_02"}]  # those of all folds
    assert len(again.folds) == 3 and run.metrics(0)
    assert read(out / "fold_1") == before
    with pytest.raises(UsageError, match="trained fold 0"):
        unetpp.train(cells, out, **options)
    with pytest.raises(UsageError, match="add_cases: got only folds that have been trained to the end"):
        unetpp.train(cells, out, resume=True, add_cases=True, **options)
    with hold_lock(out / ".cluster.lock"), pytest.raises(UsageError, match="another command trains on a cluster"):
        unetpp.train(cells, out, resume=True, **options)


def test_a_fold_that_fails_leaves_the_others_alone(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[object] = []

    def train(job: Any, *arguments: Any, **options: Any) -> str:
        if job.fold == 0:
            raise UnetppError("a", [Problem("step 3", "a loss of nan", "a finite number", "Train with less.")])
        if job.fold == 1:
            raise UnetppError("all is lost")
        if job.fold == 3:
            raise WriteError("log.jsonl", "no space", "to write it")
        trained.append(job.fold)
        return "done"

    monkeypatch.setattr(cluster_training, "train_and_measure", train)
    dataset, run = find_cases(cells), RunFolder(tmp_path)
    splits = make_splits(dataset.cases)

    def train_folds(*folds: int) -> None:
        training = cluster_training.ClusterTraining(HERE, run, dataset, splits, folds, "cpu", Silence())
        training.train(toy_plan(), Clock(0.0), 1, None, None)

    with pytest.raises(Interrupted, match=r"(?s)fold 0: got a loss of nan.*fold 1: got all is lost.*2 of 4 folds"):
        train_folds(0, 1, 2, 4)
    assert trained == [2, 4]
    with pytest.raises(WriteError, match="no space"):
        train_folds(3, 2)


def test_a_fold_that_a_frozen_worker_holds_is_given_up(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_training, "train_and_measure", lambda job, *rest, **more: job.fold)
    monkeypatch.setattr(cluster_training, "_LOOK_S", 0.01)
    dataset, run, looks = find_cases(cells), RunFolder(tmp_path), []
    task = cluster_training.FoldTask(dataset, toy_plan(), make_splits(dataset.cases), run, "cpu", None, None, None)

    def find_newest(folder: Path) -> float:
        """The other worker writes twice, and is frozen then."""
        looks.append(folder)
        monkeypatch.setattr(cluster_training, "SILENT_S", 60.0 if len(looks) < 3 else 0.0)
        return float(min(len(looks), 3))

    monkeypatch.setattr(cluster_training, "_find_newest", find_newest)
    with hold_lock(run.fold(1) / LOCK), pytest.raises(UnetppError, match=r"fold_1: got a process of another worker"):
        task(1)
    assert len(looks) in (3, 4)
    assert task(1) == 1  # when it has ended


def test_select_is_for_later(cells: Path, address: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="select: got a training on a `cluster`"):
        unetpp.train(cells, tmp_path / "run", fold="all", select=True, cluster=address)


def test_there_may_be_nothing_to_resume(cells: Path, heard: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cluster: got 'nowhere'"):
        unetpp.train(cells, tmp_path / "run", resume=True, cluster="nowhere", progress=heard)
    assert heard.notes[-1] == f"Nothing to resume in {tmp_path / 'run'}: a new training begins."


def test_a_dry_run_shows_the_script_and_starts_nothing(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue", reason="the extra `cluster` is not installed")
    queue = tmp_path / "slurm.yaml"
    queue.write_text(json.dumps({"jobs": 2, "jobqueue": {"slurm": {"cores": 2, "memory": "4GB"}}}))
    images = trained.parent / "data/images"
    found = unetpp.predict(trained, images, tmp_path / "out", cluster=str(queue), part="1/2", dry_run=True)
    assert len(found.files) == 5 and not (tmp_path / "out").exists()
    assert "#SBATCH --cpus-per-task=2" in found.to_text()
