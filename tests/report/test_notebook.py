"""Results where they are looked at: short in Python, with tables and pictures in notebooks."""

from __future__ import annotations

import re
import sys
import webbrowser
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.tiny import write_png

from unetpp.infer.prediction import Prediction
from unetpp.measured import DepthRow, MeanScores, ScoredCase, Scores
from unetpp.model_notes import Metrics, Verdict
from unetpp.report import notebook
from unetpp.report.gallery import Picture
from unetpp.results import LONGEST_REPR, Checked, Evaluated, Predicted, Reported, Result, Run, TrainedFold
from unetpp.volume import Geometry

METRICS = Metrics(depths={1: DepthRow(dice=0.8123), 2: DepthRow(dice=0.9)}, mean=MeanScores(dice=0.9))


def make_run(path: Path) -> Run:
    fold = TrainedFold(0, "finished", 10, 60.0, 0.0, METRICS)
    return Run(path, (fold,), path / "report.html", 60.0)


@pytest.mark.parametrize("kind", Result.__subclasses__())
def test_every_result_is_short_in_python(kind: type[Result]) -> None:
    assert kind.__repr__ is Result.__repr__
    assert kind.__str__ is Result.__str__


def test_the_text_of_a_result_is_what_the_command_prints() -> None:
    checked = Checked(Path("x" * 300), "folder", 3, 2, (), (), (), ())
    assert str(checked) == checked.to_text()
    assert len(repr(checked)) < LONGEST_REPR + 20
    assert "0.8123" not in repr(make_run(Path("run")).folds)


def test_a_run_shows_its_depths_and_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "<svg" not in make_run(tmp_path)._repr_html_()  # nothing is there any more
    svg = '<svg><image id="image-1"/><use href="#image-1"/></svg>'
    picture = Picture(1, ScoredCase(id="<case>", mean=Scores(dice=0.5)), 0, "worst", "", 1.0, svg)
    record = SimpleNamespace(plan=SimpleNamespace(data=SimpleNamespace(classes=("background", "cell"))))
    monkeypatch.setattr(notebook, "read_run", lambda run: record)
    monkeypatch.setattr(notebook, "draw_pictures", lambda run, pencil, most: [picture])
    html, again = make_run(tmp_path)._repr_html_(), make_run(tmp_path)._repr_html_()
    assert "<td>0.8123</td>" in html
    assert "worst: &lt;case&gt;, Dice 0.500" in html
    assert "image, contours, differences" in html and "reference" in html and "missed" in html
    assert "Next: unetpp predict" in html
    (name,), (other,) = (set(re.findall(r'(?:id="|href="#)([^"]+)"', each)) for each in (html, again))
    assert name != other


def test_a_run_with_shells_shows_its_sizes(tmp_path: Path) -> None:
    rows = {
        number: DepthRow(dice=dice, latency_ms=number, depth=2, channels=8 * number)
        for number, dice in enumerate((0.9, 0.89, 0.92), 1)
    }
    fold = TrainedFold(0, "finished", 10, 60.0, 0.0, Metrics(depths=rows))
    html = Run(tmp_path, (fold,), None, 60.0)._repr_html_()
    assert "<td>small (2x8)</td>" in html and "<td>medium (2x16) *</td>" in html
    assert "<p>sizes: small, 0.900 in 1.0 ms; large, 0.920 in 3.0 ms</p>" in html


def test_a_run_in_a_notebook_has_the_verdict_and_what_comes_next(tmp_path: Path) -> None:
    part = METRICS.merge(Metrics(scored=(1, 5), unfinished=("1 of 5 validation cases scored",)))
    verdict = Verdict(kind="too short", reason="Too short.", advice="Train longer.")
    run = Run(
        tmp_path, (replace(make_run(tmp_path).folds[0], metrics=part),), None, 60.0, None, verdict, "unetpp train"
    )
    html = run._repr_html_()
    for text in (
        "Too short. Train longer.",
        "the time was over: 1 of 5",
        "Next: unetpp train",
        "only 1 of 5",
        "Dice (1 of 5)",
    ):
        assert text in html


def test_scores_are_a_table_and_segmentations_pictures(tmp_path: Path) -> None:
    assert "<td>mean</td><td>0.9000</td>" in Evaluated(METRICS, (), None)._repr_html_()
    files = [write_png(tmp_path / f"{name}.png", np.eye(5, dtype=np.uint8) * 255) for name in "abcd"]
    predicted = Predicted(tmp_path, (2,), (*files, tmp_path / "gone.png"), (), 1.0)
    assert predicted._repr_html_().count("<img") == notebook.PICTURES
    assert Predicted(tmp_path, (2,), (tmp_path / "gone.png",), (), 1.0)._repr_html_().count("<img") == 0


def test_long_lines_stay_in_the_cell(tmp_path: Path) -> None:
    for result in (make_run(tmp_path), Evaluated(METRICS, (), None), Reported(tmp_path / ("x" * 300))):
        assert "<pre>" not in result._repr_html_()
        assert '<pre style="white-space: pre-wrap; overflow-wrap: anywhere">' in result._repr_html_()


@pytest.mark.parametrize("shape", [(4, 5), (700, 3), (2, 4, 5)])
def test_a_prediction_is_a_picture(shape: tuple[int, ...]) -> None:
    sums = np.array([[4.0], [2.0], [4.0]])  # of the probability, within the class, of its voxels
    found = Prediction(2, np.arange(np.prod(shape)).reshape(shape) % 3, Geometry(".png"), dice_sums=sums)
    assert repr(found) == f"<Prediction: {' x '.join(map(str, shape))}, depth 2, confidence 0.500>"
    assert "<img" in found._repr_html_()


def test_a_page_opens_in_the_browser_or_in_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setitem(sys.modules, "IPython", None)
    Reported(tmp_path / "report.html").open()
    assert opened == [(tmp_path / "report.html").as_uri()]
    display, python = ModuleType("IPython.display"), ModuleType("IPython")
    vars(display).update(IFrame=lambda *given: given, FileLink=lambda *given: given, display=opened.append)
    vars(python).update(get_ipython=lambda: SimpleNamespace(kernel=1), display=display)
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.chdir(tmp_path)
    Reported(tmp_path / "report.html").open()
    Reported(tmp_path.parent / "report.html").open()
    assert opened[1:] == [("report.html", "100%", 800), (str(tmp_path.parent / "report.html"),)]


def test_a_run_opens_its_report_and_writes_it_only_if_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    written: list[Path] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)

    def write(run: Path) -> Reported:
        written.append(run)
        (run / "report.html").touch()
        return Reported(run / "report.html")

    monkeypatch.setattr("unetpp.verbs.report.write_page", write)
    run = make_run(tmp_path)
    assert run.report() == run.report() == Reported(tmp_path / "report.html")
    assert (len(written), len(opened)) == (1, 2)
