"""What a training had no time for is measured by the report, once, with the same outcome as without a limit."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import unetpp
from unetpp.data.folds import read_splits
from unetpp.errors import Interrupted
from unetpp.layouts.cases import find_cases
from unetpp.measure.validation import DepthValidation
from unetpp.measured import DepthRow, DepthTable
from unetpp.metrics.scores import Validation
from unetpp.model.file import load_model, save_model
from unetpp.model.header import read_header
from unetpp.model_notes import Metrics, Notes
from unetpp.progress import Silence
from unetpp.run_folder import MODEL, RunFolder
from unetpp.runtime.device import choose_device
from unetpp.train.trainer import FoldTraining
from unetpp.verbs import fold
from unetpp.verbs.fold import NO_MEMORY, NO_TIMES, list_unfinished, measure, read_costs, write_metrics
from unetpp.verbs.fold_time import Clock


def hurry(trained: Path, tmp_path: Path) -> tuple[RunFolder, Metrics]:
    """Copy a run, and measure it as if its time was over."""
    run = RunFolder(tmp_path / "run")
    shutil.copytree(trained, run.path)
    shutil.rmtree(run.fold(0) / "views")
    run.metrics_file(0).unlink()
    cases = {case.id: case for case in find_cases(trained.parent / "data").cases}
    held_out = [cases[name] for name in read_splits(run.splits)[0].validation]
    header = read_header(run.fold(0) / MODEL)
    assert header.notes.training
    place = choose_device("cpu")
    found = measure(run, 0, held_out, header.plan, header.notes.training, place, Silence(), time.monotonic())
    return run, found


def test_the_report_measures_what_the_time_did_not_suffice_for(trained: Path, tmp_path: Path) -> None:
    run, found = hurry(trained, tmp_path)
    before = RunFolder(trained).metrics(0)
    assert before
    assert before.unfinished == ()
    assert found.unfinished == (
        "1 of 2 validation cases scored",
        "0 of 2 validation cases scored with surface distances",
        NO_TIMES,
        NO_MEMORY,
    )
    assert all(row.dice is not None and row.gmacs for row in found.rows.values())  # of one case
    assert (found.scored, found.surfaces_scored) == ((1, 2), (0, 2))
    assert unetpp.info(run.path).notes.count_cases().keys() == {"dice", "hd95_mm", "nsd"}
    assert "1 of 2 validation cases scored" in unetpp.train(trained.parent / "data", run.path, resume=True).to_text()
    weights, plan = load_model(run.fold(0) / MODEL)[0].state_dict(), read_header(run.fold(0) / MODEL).plan
    notes = read_header(run.fold(0) / MODEL).notes.merge(Notes(imported_from="kept"))
    save_model(run.fold(0) / MODEL, weights, plan, notes)
    reported = unetpp.report(run.path)
    text = reported.report.read_text()
    assert reported.verdict and reported.command
    assert str(reported.verdict).split()[:3] == reported.to_text().splitlines()[1].split()[:3]
    assert reported.to_text().endswith(f"Next: {reported.command}") and not reported.command.startswith("unetpp report")
    after = run.metrics(0)
    assert after
    assert (after.unfinished, after.mean, after.cases) == ((), before.mean, before.cases)
    assert len(list((run.fold(0) / "views").iterdir())) == 2
    assert "measures the rest" not in text
    assert read_header(run.fold(0) / MODEL).notes.imported_from == "kept"


def test_where_the_memory_alone_is_missing_no_case_is_scored_again(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(trained, run.path)
    before = json.loads(run.metrics_file(0).read_text())
    part = json.loads(run.metrics_file(0).read_text()) | {"unfinished": [NO_MEMORY], "recommended": None}
    for row in (*part["depths"].values(), part["mean_of_heads"]):
        row["peak_memory_mb"] = None
    run.metrics_file(0).write_text(json.dumps(part))
    assert list_unfinished(run.metrics(0), 2, run.metrics(0)) == (NO_MEMORY,)
    run.data.write_text(str(tmp_path / "gone"))
    monkeypatch.setattr(fold, "evaluate_cases", lambda *_, **__: pytest.fail("scored again"))
    assert unetpp.report(run.path).notes == ()
    after, found = json.loads(run.metrics_file(0).read_text()), run.metrics(0)
    assert found and found.unfinished == () and all(row.peak_memory_mb is not None for row in found.rows.values())
    assert list_scores(after) == list_scores(before)
    assert read_header(run.fold(0) / MODEL).notes.depths[1].peak_memory_mb == found.depths[1].peak_memory_mb


def list_scores(metrics: dict[str, Any]) -> list[object]:
    """What a metrics.json says of the quality."""
    kinds = ("mean", "pooled", "classes", "cases", "scored", "verdict", "distance_unit")
    return [*(metrics[kind] for kind in kinds), *(row["dice"] for row in metrics["depths"].values())]


def test_data_that_moved_leaves_the_report_with_what_there_is(trained: Path, tmp_path: Path) -> None:
    run, _ = hurry(trained, tmp_path)
    run.data.write_text(str(tmp_path / "gone"))
    found = unetpp.report(run.path)
    assert "gone cannot be used" in found.to_text()
    assert "1 of 2 validation cases scored" in found.report.read_text()


def test_the_report_measures_the_memory_of_a_run_of_two_folds_once(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = hurry(trained, tmp_path)
    shutil.copytree(run.fold(0), run.fold(1))
    found, measured = RunFolder(trained).metrics(0), []
    assert found and found.mean_of_heads
    memory = DepthRow(peak_memory_mb=1.0)  # a busy machine may have measured none
    rows = {depth: row.merge(memory) for depth, row in found.depths.items()}
    complete = found.as_table().merge(DepthTable(depths=rows, mean_of_heads=found.mean_of_heads.merge(memory)))
    monkeypatch.setattr(fold, "measure_depths", lambda *_, **__: measured.append(1) or complete)
    unetpp.report(run.path)
    for number in (0, 1):
        found = run.metrics(number)
        assert found and found.unfinished == () and all(row.peak_memory_mb for row in found.rows.values())
    assert len(measured) == 1


def test_complete_costs_of_a_fold_stay(trained: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(trained, run.path)
    other = json.loads(run.metrics_file(0).read_text())
    run.fold(1).mkdir()
    (run.fold(1) / MODEL).write_bytes((run.fold(0) / MODEL).read_bytes())
    for row in other["depths"].values():
        row["latency_ms"] = 1e6
    run.metrics_file(1).write_text(json.dumps(other))
    own, theirs = read_costs(run, 0), read_costs(run, 1)
    assert own and own.depths[1].latency_ms != 1e6 and theirs and theirs.depths[1].latency_ms == 1e6
    other["mean_of_heads"]["peak_memory_mb"] = None
    run.metrics_file(1).write_text(json.dumps(other))
    assert read_costs(run, 1) == own


def test_scores_stay_if_no_better_weights_are_found(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(trained, run.path)
    before = run.metrics(0)
    assert before
    monkeypatch.setattr(DepthValidation, "__call__", lambda self, network: Validation(dict.fromkeys(before.depths, -1)))
    found = unetpp.train(trained.parent / "data", run.path, epochs="+1", resume=True, device="cpu").folds[0]
    assert found.steps > read_header(trained / "fold_0" / MODEL).notes.training.steps
    assert (found.metrics.cases, found.metrics.depths) == (before.cases, before.depths)
    assert run.metrics(0) == found.metrics and not run.earlier_metrics_file(0).exists()
    assert read_header(run.fold(0) / MODEL).notes.training.steps == found.steps


def test_a_further_training_that_ends_late_is_scored_as_well_as_before(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(trained, run.path)
    before = run.metrics(0)
    assert before and before.scoring_s
    run.metrics_file(0).write_text(before.merge(Metrics(scoring_s=10.0)).to_json())
    left_s: list[float] = []

    def record(run: RunFolder, number: int, cases: Any, plan: Any, result: Any, *others: Any) -> Metrics:
        left_s.append(others[-1] - time.monotonic())
        return write_metrics(run, number, plan, result, before)

    monkeypatch.setattr(fold, "measure", record)
    monkeypatch.setattr(Clock, "share", lambda *_, **__: 1.0)  # a second, in which a step hardly fits
    monkeypatch.setattr(DepthValidation, "__call__", lambda self, network: Validation(dict.fromkeys(before.depths, 1)))
    unetpp.train(trained.parent / "data", run.path, minutes="+1", resume=True, device="cpu")
    assert left_s and left_s[0] > 25


def test_a_further_training_that_was_stopped_has_the_scores_of_the_model_it_began_with(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = hurry(trained, tmp_path)
    monkeypatch.setattr(FoldTraining, "_validate_if_due", lambda self: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Interrupted):
        unetpp.train(trained.parent / "data", run.path, epochs="+1", resume=True, device="cpu")
    assert run.metrics(0) is None and run.unmeasured_folds() == []
    info = str(unetpp.info(run.path))
    assert "only 1 of 2 validation cases scored" in info and "Not finished: step " in info
    page = unetpp.report(run.path).report.read_text()
    assert "1 of 2" in page and "was interrupted" in page and "Measure the rest" not in page
    assert run.metrics(0) is None  # or it would count as finished
    weights, header = load_model(run.fold(0) / MODEL)
    save_model(run.fold(0) / MODEL, weights.state_dict(), header.plan, Notes(dice=0.9))  # better ones were found
    assert run.model_metrics(0) is None and run.unmeasured_folds() == [0]
