"""The report of a run, and the views in it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import unetpp
from unetpp.errors import PlanError, UsageError
from unetpp.infer.options import PredictOptions
from unetpp.infer.prediction import Prediction
from unetpp.layouts.dataset import Case
from unetpp.metrics.scores import score_case, summarize
from unetpp.model.build import build_from_plan
from unetpp.model.file import save_model
from unetpp.model_notes import Metrics, read_metrics
from unetpp.plan import Plan
from unetpp.report import ViewFolder, gallery, tables, write_report
from unetpp.report.colors import THEME
from unetpp.report.pictures import draw_view
from unetpp.report.run_record import read_run
from unetpp.report.views import read_view
from unetpp.volume import Geometry


class Page(HTMLParser):
    """Collects what a page would load, its drawings and images, its ids, links and the texts of table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.external: list[str] = []
        self.images: list[str] = []
        self.ids: list[str | None] = []
        self.links: list[str] = []
        self.cells: list[str] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        source = values.get("src") or values.get("href") or values.get("xlink:href") or ""
        self.ids += [values["id"]] if values.get("id") else []
        self.links += [source[1:]] if source.startswith("#") else []
        if tag in ("image", "svg"):
            self.images.append(source)
        if source and not source.startswith(("data:", "#")):
            self.external.append(source)
        self._in_cell = tag in ("td", "th") or (self._in_cell and tag == "a")

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.cells.append(data)


@dataclass
class ShiftedReference:
    """Predicts the label of each case, moved by one voxel at depth 2 and by two at depth 1."""

    plan: Plan
    labels: dict[str, np.ndarray]

    def predict_case(self, case: Case, options: PredictOptions) -> dict[int, Prediction]:
        return {head: Prediction(head, np.roll(self.labels[case.id], 3 - head, axis=-1), Geometry()) for head in (1, 2)}


def make_cases(folder: Path, dims: int, count: int = 4) -> tuple[list[Case], dict[str, np.ndarray]]:
    """Images with a block each, of growing size: the larger, the better a shifted prediction."""
    cases, labels = [], {}
    for number in range(count):
        label = np.zeros((16,) * dims, np.uint8)
        label[(slice(4, 7 + 2 * number),) * dims] = 1
        name = f"case_{number}"
        paths = folder / f"{name}.tif", folder / f"{name}_label.tif"
        for path, array in zip(paths, (label * 100 + 20, label), strict=True):
            tifffile.imwrite(path, array)
        cases.append(Case(name, paths[:1], paths[1:]))
        labels[name] = label
    return cases, labels


def write_run(folder: Path, plan: Plan, data: Path, folds: int = 1, measured: bool = True) -> Path:
    cases, labels = make_cases(data, plan.data.dims)
    predictor = ShiftedReference(plan, labels)
    folder.mkdir()
    (folder / "plan.json").write_text(plan.to_json())
    for fold in range(folds):
        part = folder / f"fold_{fold}"
        part.mkdir()
        write_log(part / "log.jsonl")
        if measured:
            scored = {
                depth: [
                    score_case(
                        case.id,
                        predictor.predict_case(case, PredictOptions("all"))[depth].segmentation,
                        labels[case.id],
                        2,
                    )
                    for case in cases
                ]
                for depth in (1, 2)
            }
            by_depth = {depth: summarize(found, plan.data.classes) for depth, found in scored.items()}
            depths = {
                str(depth): {
                    **found.mean.to_dict(),
                    "latency_ms": 3.0 * depth,
                    "parameters": 1000 * depth,
                    "peak_memory_mb": None,
                }
                for depth, found in by_depth.items()
            }
            (part / "metrics.json").write_text(
                json.dumps(
                    {
                        **by_depth[plan.predict.depth].to_dict(),
                        "depths": depths,
                        "conditions": "measured on a toaster",
                        "recommended": {"depth": 1, "reason": "good enough"},
                    }
                )
            )
            views = ViewFolder(part / "views", plan)
            for case in cases:
                views.add(case, labels[case.id], predictor.predict_case(case, PredictOptions("all")))
    return folder


def write_log(path: Path) -> None:
    lines: list[dict[str, Any]] = [{"kind": "start", "step": 0}]
    for step in range(1, 21):
        lines.append(
            {
                "kind": "train",
                "step": step,
                "epoch": 1,
                "loss": math.exp(-step / 10),
                "learning_rate": 1e-3,
                "images_per_second": 5.0,
                "data_wait": 0.01,
                "elapsed_s": 6.0 * step,
            }
        )
    lines.append({"kind": "validation", "step": 20, "dice": 0.8, "depths": {"1": 0.7, "2": 0.8}, "elapsed_s": 120.0})
    lines[-1]["train_dice"] = 0.9
    memory = {"memory_mb": 1430.4, "memory_before_mb": 1000.4}
    lines.append({"kind": "end", "reason": "patience", "step": 20, **memory})
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"kind": "tra')  # a killed run leaves half a line


@pytest.mark.parametrize("dims", [2, 3])
def test_the_report_is_whole_and_needs_nothing_else(dims: int, tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    run = write_run(tmp_path / "run", small_plan(dims), tmp_path)
    path, left_out = write_report(run)
    assert path == run / "report.html"
    assert left_out == ("1 line of fold_0/log.jsonl",)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.external == []
    assert not re.search(r"https?://|@import|url\((?!#)", re.sub(r"data:[^\"']*", "", text))
    assert sum(image.startswith("data:image/webp") for image in page.images) == 4  # one for each case
    assert page.images.count("") == 4 + 4  # and plots: trade, cases, loss and Dice, learning rate and throughput
    assert {*page.links} <= {*page.ids}
    assert all(page.ids.count(name) == 1 for name in page.links if name)
    for expected in (
        "toy",
        "Loss and Dice",
        "measured on a toaster",
        "depth 1. Good enough.",
        "stopped early",
        "2.0 minutes",
        "1.0% of the time waiting for data",
        "at most 1,430 MB of memory in all, 430 MB of them in training",
        "small enough for a test",
        "case_0",
        "slice" if dims == 3 else "median",
        "training cases",
    ):
        assert expected in text


def test_tables_hold_the_numbers(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    run = write_run(tmp_path / "run", small_plan(), tmp_path)
    metrics = json.loads((run / "fold_0" / "metrics.json").read_text())
    cells = Page(write_report(run).path.read_text(encoding="utf-8")).cells
    assert f"{metrics['depths']['1']['dice']:.4f}" in cells
    assert "2,000" in cells
    worst = [f"{case['mean']['dice']:.4f}" for case in sorted(metrics["cases"], key=lambda case: case["mean"]["dice"])]
    names = [cell for cell in cells if cell.startswith("case_")]
    assert names == ["case_0", "case_1", "case_2", "case_3"]
    assert [cells[cells.index(name) + 1] for name in names] == worst


def test_the_error_of_predicted_dice_is_reported(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    run = write_run(tmp_path / "run", small_plan(), tmp_path)
    told = "predicts the Dice of such a case with a mean absolute error of 0.012"
    assert "Without a reference" not in write_report(run).path.read_text(encoding="utf-8")
    metrics = json.loads((run / "fold_0" / "metrics.json").read_text())
    metrics["mean"] |= {"expected_dice_error": 0.0123, "expected_dice_correlation": 0.876}
    (run / "fold_0" / "metrics.json").write_text(json.dumps(metrics))
    assert f"{told} (rank correlation with the true Dice 0.88)" in write_report(run).path.read_text(encoding="utf-8")


@pytest.mark.parametrize("depth", [1, 2])
def test_the_depth_of_the_scores_is_named(tmp_path: Path, small_plan: Callable[..., Plan], depth: int) -> None:
    plan = small_plan().changed({"predict.depth": depth})
    text = write_report(write_run(tmp_path / "run", plan, tmp_path)).path.read_text(encoding="utf-8")
    assert f"Dice of every case at depth {depth}<" in text
    assert f"At depth {depth}. Held out of training" in text


def test_names_are_escaped(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    plan = small_plan().model_copy(update={"name": "<script>alert(1)</script>"})
    text = write_report(write_run(tmp_path / "run", plan, tmp_path)).path.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_several_folds_are_joined(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    run = write_run(tmp_path / "run", small_plan(), tmp_path, folds=2)
    record = read_run(run)
    one = record.folds[0].metrics
    assert len(record.cases) == 8
    assert record.pooled.mean.dice == pytest.approx(one.mean.dice)
    assert record.pooled.rows["1"].dice == pytest.approx(one.depths[1].dice)
    assert record.pooled.rows["2"].latency_ms == 6.0
    text = write_report(run).path.read_text(encoding="utf-8")
    assert "Fold 1 stopped early" in text


def test_a_run_that_is_still_training_has_a_report(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    run = write_run(tmp_path / "run", small_plan(), tmp_path, measured=False)
    text = write_report(run).path.read_text(encoding="utf-8")
    assert "Not measured yet" in text
    assert "Loss and Dice" in text


def test_a_network_with_one_head_and_cases_without_scores(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    run = write_run(tmp_path / "run", small_plan(), tmp_path)
    path = run / "fold_0" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["depths"] = {"2": metrics["depths"]["2"]}
    metrics["cases"].append({"id": "nothing", "mean": dict.fromkeys(metrics["cases"][0]["mean"]), "classes": {}})
    path.write_text(json.dumps(metrics))
    cells = Page(write_report(run).path.read_text(encoding="utf-8")).cells
    assert cells[cells.index("nothing") + 1] == "-"


def test_the_mean_of_all_heads_and_the_classes_have_their_place_in_the_table(
    tmp_path: Path, small_plan: Callable[..., Plan]
) -> None:
    run = write_run(tmp_path / "run", small_plan(), tmp_path)
    path = run / "fold_0" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["mean_of_heads"] = {
        **metrics["depths"]["2"],
        "latency_ms": 7.7,
        "classes": {"core": {"dice": 0.5}, "rim": {"dice": None}},
    }
    metrics["classes"] = {"core": {"dice": 0.6, "volume_error": 1.5, "volume_limits": [-3, 6]}, "rim": {"dice": 0.7}}
    path.write_text(json.dumps(metrics))
    text = write_report(run).path.read_text(encoding="utf-8")
    cells = Page(text).cells
    assert "7.70" in cells[cells.index("mean") :]
    row = cells[cells.index("rim") :]
    assert row[:2] == ["rim", "0.7000"]
    assert "mean of heads" in cells
    assert cells[cells.index("core") + 1 :][:5] == ["0.6000", "+1.5", "-3.0 to +6.0", "0.5000", "rim"]
    assert "limits of agreement" in text
    assert "predict --depth mean" in text
    assert list(read_run(run).pooled.rows) == ["1", "2", "mean"]


def test_says_when_there_is_no_run(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    with pytest.raises(UsageError, match=r"got a path without plan\.json; expected a run folder"):
        write_report(tmp_path / "nowhere")
    (tmp_path / "plan.json").write_text(small_plan().to_json())
    with pytest.raises(UsageError, match="no fold has started"):
        write_report(tmp_path)
    (tmp_path / "fold_0").mkdir()
    write_log(tmp_path / "fold_0" / "log.jsonl")
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(PlanError):
        write_report(tmp_path)


def test_views_survive_the_disk_and_damage(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    run = write_run(tmp_path / "run", small_plan(), tmp_path)
    files = read_run(run).folds[0].views
    assert sorted(files) == ["case_0", "case_1", "case_2", "case_3"]
    assert read_view(files["case_0"]).reference.sum() == 9
    files["case_1"].write_bytes(b"PK damaged")
    whole = files["case_2"].read_bytes()
    np.savez(files["case_2"], id="case_2", slice="", aspect=1.0, image=np.zeros(3), reference=whole, prediction=whole)
    path, left_out = write_report(run)
    assert {f"fold_0/views/{files[name].name}" for name in ("case_1", "case_2")} <= {*left_out}
    text = path.read_text(encoding="utf-8")
    assert files["case_2"].name in text
    assert 'href="#case-3"' not in text  # its row leads nowhere
    assert 'href="#case-4"' in text


def test_the_page_is_bounded(tmp_path: Path, small_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", small_plan(), tmp_path)
    size = len(draw_view(read_view(read_run(run).folds[0].views["case_0"]), 2, "image-1"))
    monkeypatch.setattr(gallery, "PICTURE_CHARACTERS", 3 * size + size // 2)
    monkeypatch.setattr(tables, "MOST_CASES", 2)
    text = write_report(run).path.read_text(encoding="utf-8")
    assert Page(text).images.count("") == 3 + 4
    assert "The worst 2 of 4 validation cases" in text
    assert re.findall(r'id="case-(\d)"', text) == ["1", "3", "4"]  # worst, median, best


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colors_have_contrast(theme: int) -> None:
    """As WCAG AA asks: text 4.5, lines and bars 3."""

    def luminance(name: str) -> float:
        color = THEME[name][theme]
        parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        darker, lighter = sorted((luminance(one), luminance(other)))
        return (lighter + 0.05) / (darker + 0.05)

    for text, grounds in {
        "ink": ("paper", "card", "bar"),
        "muted": ("paper", "card"),
        "accent": ("card", "bar"),
    }.items():
        assert min(contrast(text, ground) for ground in grounds) >= 4.5, text
    for name in THEME:
        if name.startswith(("color", "depth", "good", "poor")):
            assert contrast(name, "card") >= 3, name


def test_the_verdict_stands_first_with_what_to_do(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    run = write_run(tmp_path / "run", small_plan(), tmp_path)
    metrics = run / "fold_0" / "metrics.json"
    scores = read_metrics(metrics)
    assert scores
    good = scores.merge(Metrics(mean=scores.mean.model_copy(update={"dice": 0.85})))
    metrics.write_text(good.to_json())
    text = write_report(run).path.read_text(encoding="utf-8")
    assert text.index("<h2>Good: validation Dice 0.850 over 4 cases") < text.index('<div class="tiles">')
    assert "20 steps, 2.0 minutes" in text
    assert "unetpp predict run new_images --out predictions --depth 1" in text
    assert '<a href="#case-1">case_0</a> (0.667), ' in text
    assert str(tmp_path) not in text

    plan = small_plan()
    save_model(run / "fold_0" / "model.safetensors", build_from_plan(plan.model).state_dict(), plan)
    for result in (unetpp.info(run), unetpp.report(run)):
        assert result.command == f"unetpp predict {run} new_images --out predictions --depth 1"

    log = run / "fold_0" / "log.jsonl"
    log.write_text(log.read_text().replace("0.8", "0.3").replace("0.9", "0.4"))
    partial = scores.merge(Metrics(scored=(4, 9), surfaces_scored=(3, 9)))  # then that of the training decides
    metrics.write_text(partial.to_json())
    text = write_report(run).path.read_text(encoding="utf-8")
    assert "<h2>Too short to have learned: 20 steps of the 1,600" in text
    assert "unetpp train DATA --out run --resume --minutes +" in text
    assert "only 4 of 9 validation cases scored" in text
    assert ">Dice (4 of 9)</th>" in text and "4 of 9 cases, scored after training" in text
    assert ">surface Dice (3 of 9)</th>" in text and ", 3 of 9 cases" in text
    assert "Recommended" not in text and "--depth 1<" not in text
