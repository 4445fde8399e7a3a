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
from PIL import Image

from unetpp.errors import PlanError, UsageError
from unetpp.infer.options import PredictOptions
from unetpp.infer.prediction import Prediction
from unetpp.layouts.dataset import Case
from unetpp.measured import Metrics, ScoredCase, Scores
from unetpp.metrics.scores import score_case, summarize
from unetpp.plan import Plan
from unetpp.report import write_report, write_views
from unetpp.report.run_record import read_run
from unetpp.report.views import choose_cases, make_view, read_views
from unetpp.volume import Geometry, Volume


class Page(HTMLParser):
    """Collects what a page would load, its images and the texts of table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.external: list[str] = []
        self.images: list[str] = []
        self.cells: list[str] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        source = values.get("src") or values.get("href") or ""
        if tag == "img":
            self.images.append(source)
        if source and not source.startswith("data:"):
            self.external.append(source)
        self._in_cell = tag in ("td", "th")

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
            write_views(predictor, cases, by_depth[2], part / "views")
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
    lines.append({"kind": "end", "reason": "patience", "step": 20})
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"kind": "tra')  # a killed run leaves half a line


@pytest.mark.parametrize("dims", [2, 3])
def test_the_report_is_whole_and_needs_nothing_else(dims: int, tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    run = write_run(tmp_path / "run", small_plan(dims), tmp_path)
    path = write_report(run)
    assert path == run / "report.html"
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.external == []
    assert not re.search(r"https?://|@import|url\(", re.sub(r"data:[^\"']*", "", text))
    assert sum(image.startswith("data:image/png") for image in page.images) == 3  # worst, median, best
    assert sum(image.startswith("data:image/svg+xml") for image in page.images) == 6  # trade, cases, four curves
    for expected in (
        "toy",
        "measured on a toaster",
        "depth 1. Good enough.",
        "stopped early",
        "2.0 minutes",
        "1.0% of the time waiting for data",
        "small enough for a test",
        "case_0",
        "slice" if dims == 3 else "median",
    ):
        assert expected in text


def test_tables_hold_the_numbers(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    run = write_run(tmp_path / "run", small_plan(), tmp_path)
    metrics = json.loads((run / "fold_0" / "metrics.json").read_text())
    cells = Page(write_report(run).read_text(encoding="utf-8")).cells
    assert f"{metrics['depths']['1']['dice']:.4f}" in cells
    assert "2,000" in cells
    worst = [f"{case['mean']['dice']:.4f}" for case in sorted(metrics["cases"], key=lambda case: case["mean"]["dice"])]
    names = [cell for cell in cells if cell.startswith("case_")]
    assert names == ["case_0", "case_1", "case_2", "case_3"]
    assert [cells[cells.index(name) + 1] for name in names] == worst


def test_the_error_of_predicted_dice_is_reported(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    run = write_run(tmp_path / "run", small_plan(), tmp_path)
    told = "predicts the Dice of such a case with a mean absolute error of 0.012"
    assert "Without a reference" not in write_report(run).read_text(encoding="utf-8")
    metrics = json.loads((run / "fold_0" / "metrics.json").read_text())
    metrics["mean"] |= {"expected_dice_error": 0.0123, "expected_dice_correlation": 0.876}
    (run / "fold_0" / "metrics.json").write_text(json.dumps(metrics))
    assert f"{told} (rank correlation with the true Dice 0.88)" in write_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize("depth", [1, 2])
def test_the_depth_of_the_scores_is_named(tmp_path: Path, small_plan: Callable[..., Plan], depth: int) -> None:
    plan = small_plan().changed({"predict.depth": depth})
    text = write_report(write_run(tmp_path / "run", plan, tmp_path)).read_text(encoding="utf-8")
    assert f"Dice of every case at depth {depth}<" in text
    assert f"At depth {depth}. Held out of training" in text


def test_names_are_escaped(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    plan = small_plan().model_copy(update={"name": "<script>alert(1)</script>"})
    text = write_report(write_run(tmp_path / "run", plan, tmp_path)).read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_several_folds_are_joined(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    run = write_run(tmp_path / "run", small_plan(), tmp_path, folds=2)
    record = read_run(run)
    one = record.folds[0].metrics
    assert len(record.cases) == 8
    assert record.mean().dice == pytest.approx(one.mean.dice)
    assert record.table()["1"].dice == pytest.approx(one.depths[1].dice)
    assert record.table()["2"].latency_ms == 6.0
    text = write_report(run).read_text(encoding="utf-8")
    assert "Fold 1 stopped early" in text
    assert [view.rank for view, _ in record.views()] == ["worst", "median", "best"]


def test_a_run_that_is_still_training_has_a_report(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    run = write_run(tmp_path / "run", small_plan(), tmp_path, measured=False)
    text = write_report(run).read_text(encoding="utf-8")
    assert "Not measured yet" in text
    assert "Training loss" in text


def test_a_network_with_one_head_and_cases_without_scores(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    run = write_run(tmp_path / "run", small_plan(), tmp_path)
    path = run / "fold_0" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["depths"] = {"2": metrics["depths"]["2"]}
    metrics["cases"].append({"id": "nothing", "mean": dict.fromkeys(metrics["cases"][0]["mean"]), "classes": {}})
    path.write_text(json.dumps(metrics))
    cells = Page(write_report(run).read_text(encoding="utf-8")).cells
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
        "classes": {"core": {"dice": 0.5, "dice_interval": [0.4, 0.6]}, "rim": {"dice": None}},
    }
    path.write_text(json.dumps(metrics))
    text = write_report(run).read_text(encoding="utf-8")
    cells = Page(text).cells
    row = cells[cells.index("mean") :]
    assert row[1:3] == ["0.5000 (0.400 to 0.600)", "-"]
    assert "7.70" in row
    assert "Dice core" in text
    assert "predict --depth mean" in text
    assert list(read_run(run).table()) == ["1", "2", "mean"]


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


def test_worst_median_and_best_are_chosen() -> None:
    def metrics(*dice: float | None) -> Metrics:
        cases = [ScoredCase(id=str(number), mean=Scores(dice=value)) for number, value in enumerate(dice)]
        return Metrics(cases=cases)

    assert choose_cases(metrics(0.9, 0.5, None, 0.7)) == {"worst": ("1", 0.5), "median": ("3", 0.7), "best": ("0", 0.9)}
    assert choose_cases(metrics(0.9, 0.5)) == {"worst": ("1", 0.5), "best": ("0", 0.9)}
    assert choose_cases(metrics(0.9)) == {"worst": ("0", 0.9)}
    assert choose_cases(metrics(None)) == {}


def test_a_volume_is_shown_where_it_has_most_foreground_across_its_widest_spacing() -> None:
    label = np.zeros((8, 10, 12), np.uint8)
    label[2:6, 3:9, 7] = 1
    label[3, 5, 6:9] = 1
    image = np.random.default_rng(0).normal(size=(1, 8, 10, 12)).astype(np.float32)
    view = make_view(
        "worst",
        "a",
        0.5,
        Volume(image, Geometry(".nii.gz", (1.0, 2.0, 4.0), np.diag([4.0, 2.0, 1.0, 1.0]))),
        label,
        label,
    )
    assert view.slice == "slice 8 of 12 along X"
    assert view.aspect == 0.5
    np.testing.assert_array_equal(view.reference, label[::-1, :, 7])
    assert view.image.dtype == np.uint8
    assert (view.image.min(), view.image.max()) == (0, 255)


@pytest.mark.parametrize(("sign", "first"), [(1, 9), (-1, 0)])
def test_a_picture_has_the_front_at_the_top(sign: int, first: int) -> None:
    """Whatever the direction in which the file counts its rows."""
    array = np.broadcast_to(np.arange(10, dtype=np.float32)[:, None], (1, 3, 10, 6)).copy()
    label = np.zeros((3, 10, 6), np.uint8)
    label[1, first] = 1
    image = Volume(array, Geometry(".nii.gz", (2.0, 1.0, 1.0), np.diag([1.0, sign, 2.0, 1.0])))
    view = make_view("worst", "a", 0.5, image, label, label)
    assert view.reference[0].all()


def test_large_images_are_shown_small_and_colors_kept() -> None:
    image = np.zeros((3, 1500, 1000), np.uint8)
    image[0] = 200
    label = np.zeros((1500, 1000), np.uint8)
    view = make_view("best", "a", 1.0, Volume(image, Geometry(".png")), label, label)
    assert max(view.reference.shape) <= 640
    assert view.image.shape == (*view.reference.shape, 3)
    assert view.image[0, 0].tolist() == [200, 0, 0]


def test_views_survive_the_disk_and_damage(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    write_run(tmp_path / "run", small_plan(), tmp_path)
    folder = tmp_path / "run" / "fold_0" / "views"
    worst, median, best = read_views(folder)[0]
    assert (worst.id, median.id, best.id) == ("case_0", "case_2", "case_3")
    assert worst.dice < median.dice < best.dice
    assert worst.reference.sum() == 9
    (folder / "median.npz").write_bytes(b"PK damaged")
    assert [view.rank for view in read_views(folder)[0]] == ["worst", "best"]


def test_overlays_show_contours_and_errors(tmp_path: Path) -> None:
    import base64
    import io

    from unetpp.report.plots import EXTRA, MISSED, REFERENCE, draw_view

    label = np.zeros((64, 64), np.uint8)
    label[16:48, 16:48] = 1
    view = make_view(
        "worst", "a", 0.5, Volume(np.zeros((1, 64, 64), np.uint8), Geometry(".png")), label, np.roll(label, 8, axis=1)
    )
    source = draw_view(view, 2)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).convert("RGB")).astype(int)
    third = pixels.shape[1] // 3
    panels = pixels[:, :third], pixels[:, third : 2 * third], pixels[:, 2 * third :]

    def has(panel: np.ndarray, color: str, tolerance: int = 60) -> bool:
        wanted = [int(color[place : place + 2], 16) for place in (1, 3, 5)]
        return bool((np.abs(panel - wanted).max(axis=-1) < tolerance).any())

    assert has(panels[1], REFERENCE) and not has(panels[0], REFERENCE)
    assert has(panels[2], MISSED) and has(panels[2], EXTRA) and not has(panels[0], MISSED)
