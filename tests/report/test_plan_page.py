"""The page of a plan: what it holds, and when it is made."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from tests.report.test_html import Page
from tests.tiny import TINY, TINY_3D, run_cli, set_options

import unetpp
from unetpp.plan import Normalization
from unetpp.report import plan_words
from unetpp.report.plan_page import hash_text, read_state
from unetpp.report.plan_plots import normalize
from unetpp.report.plan_record import cover
from unetpp.results import Planned
from unetpp.verbs import plan_page


def plan(data: Path, run: Path, **settings: object) -> Planned:
    return unetpp.plan(data, run, epochs=1, device="cpu", set=TINY | settings)


def test_the_page_holds_data_choices_costs_folds_and_lines_to_sign(cells: Path, tmp_path: Path) -> None:
    planned = plan(cells, tmp_path / "run")
    assert planned.page == tmp_path / "run/plan.html"
    text = planned.page.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.external and "<script" not in text
    assert set(page.ids) >= {"data", "odd", "grid", "folds", "costs", "plan", "limits", "about"}
    values = planned.plan.model_dump(mode="json")
    names = {*planned.plan.reasons, *(name for name, _ in plan_words.list_defaults(planned.plan))}
    shown = set(re.findall(r"<code>([a-z]+\.[a-z0-9_.]+)</code></td>", text))
    assert shown == {name for name in names if name.partition(".")[0] in plan_words.SECTIONS}
    for section in plan_words.SECTIONS:
        assert all(any(name.startswith(f"{section}.{key}") for name in shown) for key in values[section])
    assert "0 of 10 cases on both sides of a fold; which cases are of one patient is not known" in text
    assert hash_text(planned.plan.to_json()) in text and hash_text((tmp_path / "run/splits.json").read_text()) in text
    assert planned.plan.considered and all(line in text for line in planned.plan.considered)
    assert all(word in text for word in ("signature", "What was not done", "a typical case", "Foreground, as stored"))


def test_a_plan_for_a_gpu_elsewhere_is_not_timed_and_the_page_says_so(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    answer = run_cli("plan", cells, "--out", tmp_path / "run", "--vram", 2, *set_options(TINY))
    assert " MB of 2 GB" in answer.stdout
    assert answer.code == 0, answer.stderr
    assert "nothing is timed" in answer.stderr and "minutes of steps on this machine" not in answer.stdout
    text = (tmp_path / "run/plan.html").read_text(encoding="utf-8")
    assert "No training step was timed" in text
    refused = run_cli("train", cells, "--out", tmp_path / "run", "--vram", 2)
    assert refused.code == 2 and "--vram: got no GPU in this machine" in refused.stderr
    reused = run_cli("train", cells, "--out", tmp_path / "run", "--device", "cpu", "--dry-run")
    assert reused.code == 0 and "made for the memory of a GPU, with patches of 32 x 32 and --set train.batch=2; " in (
        " ".join(reused.stderr.split())
    )
    dry = run_cli("train", cells, "--out", tmp_path / "dry", "--vram", 2, "--dry-run", *set_options(TINY))
    assert dry.code == 0 and "the progress display tells when" in dry.stdout, dry.stderr
    small = run_cli("plan", cells, "--out", tmp_path / "small", "--vram", 0.0001, *set_options(TINY))
    assert small.code == 2 and "--vram: got 0.0001 GB" in small.stderr and not (tmp_path / "small").exists()


def test_the_short_form_fits_a_terminal(cells: Path, tmp_path: Path) -> None:
    answer = run_cli("plan", cells, "--out", tmp_path / "run", "--epochs", 2, *set_options(TINY))
    lines = answer.stdout.splitlines()
    names = [line.partition(":")[0] for line in lines]
    assert {"Sizes", "Classes", "Patch", "Folds", "Page"} <= set(names)
    assert all(len(line) <= 80 for line in lines if str(tmp_path) not in line)


def test_the_ceiling_is_told_where_labels_are_resampled(bodies: Path, tmp_path: Path) -> None:
    first = plan(bodies, tmp_path / "own", **TINY_3D)
    assert not any(line.startswith("Ceiling") for line in first.summary)
    settings = TINY_3D | {"data.spacing_mm": [2 * size for size in first.plan.data.voxel_mm or ()]}
    planned = plan(bodies, tmp_path / "coarse", **settings)
    assert planned.page is not None
    text = planned.page.read_text()
    (line,) = [line for line in planned.summary if line.startswith("Ceiling")]
    dice = float(re.findall(r"Dice ([\d.]+)", line)[0])
    assert 0.3 < dice < 1 and "6 labels" in line
    assert "Scores of labels on their way to the grid and back" in text and "HD95 mm" in text


def test_a_patient_on_both_sides_is_named(cells: Path, tmp_path: Path) -> None:
    images = sorted((cells / "images").iterdir())
    table = cells.parent / "cases.csv"
    with table.open("w", newline="") as file:
        rows = [[image, cells / "masks" / image.name, f"patient{place // 2}"] for place, image in enumerate(images)]
        csv.writer(file).writerows([["image", "label", "group"], *rows])
    planned = plan(table, tmp_path / "run")
    assert "Folds:    0 of 5 groups on both sides of a fold" in planned.summary
    splits = json.loads((tmp_path / "run/splits.json").read_text())
    moved = splits[0]["train"].pop()
    splits[0]["validation"].append(moved)
    (tmp_path / "run/splits.json").write_text(json.dumps(splits))
    planned = plan(table, tmp_path / "run")
    assert "Folds:    1 of 5 groups on both sides of a fold" in planned.summary
    assert re.search(r"On both sides: patient\d\.", (tmp_path / "run/plan.html").read_text())


def test_a_training_writes_it_once_and_report_completes_it(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, page = tmp_path / "run", tmp_path / "run/plan.html"
    monkeypatch.setattr(plan_page, "MOST_SECONDS", 0.5)
    unetpp.train(cells, run, epochs=1, device="cpu", set=TINY)
    monkeypatch.undo()
    state = read_state(page)
    assert state is not None and state[1] > 0 and "This page is not whole" in page.read_text()
    unetpp.report(run)
    completed = read_state(page)
    assert completed == (state[0], 0)
    assert "This page is not whole" not in page.read_text()
    changed = page.stat().st_mtime_ns
    unetpp.report(run)
    assert page.stat().st_mtime_ns == changed


def test_a_page_whose_data_are_gone_stays_and_the_report_is_written(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(plan_page, "MOST_SECONDS", 0.5)
    unetpp.train(cells, run, epochs=1, device="cpu", set=TINY)
    monkeypatch.undo()
    cells.rename(tmp_path / "elsewhere")
    reported = unetpp.report(run)
    assert reported.report.is_file() and any("plan.html stays as it is" in note for note in reported.notes)
    state = read_state(run / "plan.html")
    assert state is not None and state[1] > 0


def test_what_cannot_be_drawn_keeps_no_plan_from_being_made(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no memory")

    monkeypatch.setattr(plan_page, "find_odd_cases", fail)
    planned = plan(cells, tmp_path / "run")
    assert planned.page is None and (tmp_path / "run/plan.json").is_file()
    assert not (tmp_path / "run/plan.html").exists()


def test_a_page_that_is_none_has_no_state(tmp_path: Path) -> None:
    assert read_state(tmp_path / "plan.html") is None
    (tmp_path / "plan.html").write_bytes(b"\xff\xfe none")
    assert read_state(tmp_path / "plan.html") is None


def test_normalization_is_that_of_training() -> None:
    values, levels = np.array([0.0, 5.0, 10.0]), np.array([0.0, 10.0, 4.0, 2.0])
    assert normalize(values, levels, Normalization()).tolist() == [-2.0, 0.5, 3.0]
    fixed = Normalization(per_case=False, lower=2, upper=8, mean=5, std=3)
    assert normalize(values, levels, fixed).tolist() == [-1.0, 0.0, 1.0]
    assert normalize(values, levels, Normalization(scale="0_to_1")).tolist() == [0.0, 0.5, 1.0]


def test_a_patch_covers_what_is_in_it() -> None:
    assert cover((8, 16), (16, 16)) == 0.5
    assert cover((8, 16), (4, 4)) == 1
