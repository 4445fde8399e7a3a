"""`unetpp clean` and `train --no-cache`: prepared cases go, all else stays."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from tests.tiny import TINY, run_cli

import unetpp
from unetpp.errors import UsageError, WriteError
from unetpp.files import hold_lock
from unetpp.words import format_size


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "a run"))


def list_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_cache_and_remains_go_and_all_else_stays(run: Path) -> None:
    others = {name for name in list_files(run) if not name.startswith("cache/")}
    remains = [run / "fold_0" / ".unetpp-0123.safetensors", run / "cache" / ".unetpp-4567.npy"]
    for path in remains:
        path.write_bytes(b"half")
        os.utime(path, (time.time() - 3600,) * 2)
    (run / "cache" / "notes.txt").write_text("mine")
    megabytes = sum(path.stat().st_size for path in (run / "cache").glob("*.npy") if path not in remains) / 1e6
    assert f"cache:      {format_size(megabytes)} of" in unetpp.info(run).to_text()
    assert f"unetpp clean '{run}'" in unetpp.info(run).to_text()
    tried = unetpp.clean(run, dry_run=True)
    assert "would be removed" in tried.to_text()
    assert remains[0].exists()
    cleaned = unetpp.clean([run, run])
    assert (cleaned.runs, cleaned.written) == (tried.runs, True)
    assert cleaned.runs[0].mb == pytest.approx(megabytes, abs=0.001)
    assert list_files(run) == others | {"cache/notes.txt"}
    assert "cache:" not in unetpp.info(run).to_text()
    assert unetpp.clean(run).runs[0].files == 0


def test_what_needs_the_cache_prepares_it_again(run: Path, tmp_path: Path) -> None:
    before = {path.name for path in (run / "cache").iterdir()}
    said = run_cli("clean", run)
    assert "prepare the cases again, from the data" in " ".join(said.stdout.split())
    small = tmp_path / "small.safetensors"
    said = run_cli("prune", run, "--depth", 1, "--minutes", 0.01, "--out", small)
    assert said.code == 0 and small.exists(), said.stderr
    assert {path.name for path in (run / "cache").iterdir()} == before


def test_without_its_data_a_cleaned_run_says_where_it_was(run: Path, tmp_path: Path) -> None:
    unetpp.clean(run)
    (run / "data.txt").write_text("/no/such/data\n")
    said = run_cli("prune", run, "--depth", 1, "--minutes", 1, "--out", tmp_path / "small.safetensors")
    assert said.code == 2 and "whose data in /no/such/data cannot be used" in said.stderr
    assert f"write its new path into {run / 'data.txt'}" in said.stderr


def test_a_folder_that_is_no_run_is_refused_before_anything_is_removed(run: Path, tmp_path: Path) -> None:
    before = list_files(run)
    (tmp_path / "images" / "cache").mkdir(parents=True)
    (tmp_path / "images" / "cache" / "mine.image.npy").write_bytes(b"")
    answer = run_cli("clean", run, tmp_path / "images")
    assert answer.code == 2
    assert (
        "images: got no run; expected a run folder, with plan.json and splits.json, or a folder of them."
        in answer.stderr
    )
    assert list_files(run) == before
    assert (tmp_path / "images" / "cache" / "mine.image.npy").exists()


@pytest.mark.parametrize("place", [".", "fold_0", "fold_3"])
def test_a_run_that_is_trained_now_is_left_alone(run: Path, place: str) -> None:
    (run / "fold_3").mkdir()  # trained for the first time, without a checkpoint so far
    before = list_files(run)
    with hold_lock(run / place / ".lock"), pytest.raises(UsageError, match="a run that is being trained"):
        unetpp.clean(run)
    assert list_files(run) == before


def test_of_a_folder_of_runs_all_but_the_trained_ones_are_cleaned(trained: Path, tmp_path: Path) -> None:
    runs = [Path(shutil.copytree(trained, tmp_path / "runs" / name)) for name in ("a", "b", "c")]
    with hold_lock(runs[1] / "fold_0" / ".lock"):
        answer = run_cli("clean", tmp_path / "runs")
        assert run_cli("clean", tmp_path / "runs", runs[1]).code == 2  # named by itself
    assert answer.code == 1
    assert f"{runs[1]}: left alone, as it is being trained" in answer.stdout.splitlines()
    assert [bool(list((run / "cache").glob("*.npy"))) for run in runs] == [False, True, False]


def test_a_training_without_a_cache(cells: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    unetpp.train(cells, run, epochs=1, device="cpu", set=TINY, no_cache=True)
    assert not list((run / "cache").glob("*"))
    assert (run / "fold_0" / "model.safetensors").exists()
    (run / "fold_1").mkdir()
    with hold_lock(run / "fold_1" / ".lock"):  # another job of an array still needs it
        unetpp.train(cells, run, fold=2, epochs=1, device="cpu", no_cache=True)
    assert list((run / "cache").glob("*.image.npy"))


def test_a_file_that_cannot_be_removed_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".npy":
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(WriteError, match=r"\.npy: got Permission denied; expected to remove it"):
        unetpp.clean(run)


def test_all_runs_of_a_folder_are_cleaned_and_no_empty_cache_stays(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    cleaned = unetpp.clean(".")
    assert [each.run.name for each in cleaned.runs] == [run.name]
    assert not (run / "cache").exists()
    (run.parent / "runs").mkdir()
    answer = run_cli("clean", "runs")
    assert f".{os.sep}runs: got no run" in answer.stderr
