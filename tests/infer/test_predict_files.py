"""From files to files: names of results, and inputs that are skipped."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from unetpp.errors import DataError, UsageError, WriteError
from unetpp.formats.sources import ImageSource
from unetpp.infer.case_predictor import CasePredictor
from unetpp.infer.options import DEFAULTS, PredictOptions
from unetpp.infer.predict_files import WrittenFiles, predict_to_files
from unetpp.infer.prediction import Prediction
from unetpp.infer.record import COLUMNS, PredictionRecord, measure_size
from unetpp.measure.folder_scores import evaluate_folders
from unetpp.measured import Calibration
from unetpp.plan import DataPlan, Normalization
from unetpp.results import LOW, SPECKLED, Predicted
from unetpp.size_names import SizeNames


class Thresholding(CasePredictor):
    """Marks the bright half of an image."""

    def __init__(self, classes: Sequence[str] = ("background", "cell")) -> None:
        self.data = DataPlan(
            dims=2,
            channels=("image",),
            classes=tuple(classes),
            label_values=tuple(range(len(classes))),
            normalization=(Normalization(),),
        )
        self.sizes, self.name, self.backend, self.calibrations = SizeNames((1,), 1), "test", "numpy", {}

    def choose_sizes(self, options: PredictOptions) -> tuple[int, ...]:
        return (1,)

    def predict_source(
        self, source: ImageSource, where: str = "image", options: PredictOptions = DEFAULTS, progress: Any = None
    ) -> dict[int, Prediction]:
        image = source.read((slice(None),) * 2)[0].astype(np.float32)
        bright = image > image.mean()
        maps = np.stack([np.where(bright, 0.0, 1.0)] * len(self.data.classes)).astype(np.float32)
        probabilities = maps if options.probabilities else None
        sums = np.array([[10.0], [9.0], [10.0]]).repeat(len(self.data.classes) - 1, axis=1)
        return {1: Prediction(1, bright.astype(np.uint8), source.geometry, probabilities, dice_sums=sums)}


def write(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (12, 15), dtype=np.uint8)).save(root / name)


def predict(root: Path, out: str = "out", **options: Any) -> WrittenFiles:
    return predict_to_files(Thresholding(), [root / "in"], root / out, PredictOptions(**options))


def results(written: WrittenFiles) -> list[str]:
    return [path.relative_to(written.out).as_posix() for path in written.files]


def test_folders_are_mirrored_and_scored(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.png", "p1/0.png", "p1/1.png", "p2/0.png")
    written = predict(tmp_path, probabilities=True)
    assert results(written) == ["a.png", "p1/0.png", "p1/1.png", "p2/0.png"]
    record = json.loads((tmp_path / "out/predictions.json").read_text())
    assert record["files"] == results(written)
    assert (tmp_path / "out/probabilities/p1/0_cell.tif").is_file()
    write(tmp_path / "in", "p3/0.png")
    predict_to_files(Thresholding(), [tmp_path / "in/p3/0.png"], tmp_path / "out")
    assert json.loads((tmp_path / "out/predictions.json").read_text())["files"] == ["0.png", *results(written)]
    (tmp_path / "out/0.png").unlink()
    metrics, problems, _ = evaluate_folders(tmp_path / "out", tmp_path / "out")
    assert (len(metrics.cases), problems) == (4, ())
    for path in written.files:  # references in one folder, named by the folders
        name = path.relative_to(tmp_path / "out").as_posix().replace("/", "_")
        (tmp_path / "references").mkdir(exist_ok=True)
        (tmp_path / "references" / name).write_bytes(path.read_bytes())
    metrics, problems, _ = evaluate_folders(tmp_path / "out", tmp_path / "references")
    assert [case.id for case in metrics.cases] == ["a", "p1_0", "p1_1", "p2_0"]
    assert metrics.mean.dice == 1.0


def test_equal_stems_never_end_the_batch(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.png", "a.bmp", "b.png")
    written = predict(tmp_path)
    assert sorted(results(written)) == ["a_bmp.bmp", "a_png.png", "b.png"]
    assert not written.failures and len(written.notes) == 1


def test_what_is_skipped_is_listed(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.png", "c.png")
    (tmp_path / "in/b.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    (tmp_path / "in/d.czi").touch()
    (tmp_path / "in/readme.txt").touch()
    (tmp_path / "in/self.png").symlink_to("self.png")
    os.mkfifo(tmp_path / "in/pipe.png")
    written = predict(tmp_path)
    assert results(written) == ["a.png", "c.png"]
    assert {failure.id for failure in written.failures} == {"b", "d.czi", "self.png", "pipe.png"}
    assert written.notes == ("1 file that is no image was left out: .txt (1)",)
    failed = json.loads((tmp_path / "out/predictions.json").read_text())["failed"]
    assert len(failed) == 4


def test_an_unforeseen_error_is_that_of_its_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in", "a.png", "b.png")
    whole = Thresholding()
    original = whole.predict_case

    def fail(case: Any, *options: Any) -> Any:
        if case.id == "a":
            raise ZeroDivisionError("by a")
        return original(case, *options)

    monkeypatch.setattr(whole, "predict_case", fail)
    written = predict_to_files(whole, [tmp_path / "in"], tmp_path / "out")
    assert results(written) == ["b.png"]
    (problem,) = written.failed
    assert problem.got == "an unexpected error (ZeroDivisionError: by a)"


@pytest.mark.parametrize("error", [UsageError("tta", "yes", "no"), WriteError("out", "no space", "to write it")])
def test_an_error_of_all_images_ends_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    write(tmp_path / "in", "a.png", "b.png")
    whole = Thresholding()

    def fail(case: Any, *options: Any) -> Any:
        raise error

    monkeypatch.setattr(whole, "predict_case", fail)
    with pytest.raises(type(error)):
        predict_to_files(whole, [tmp_path / "in"], tmp_path / "out")


def test_a_result_whose_place_is_taken_by_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.png", "b.png")
    (tmp_path / "out/a.png/x").mkdir(parents=True)
    written = predict(tmp_path)
    assert results(written) == ["b.png"]
    assert [failure.id for failure in written.failures] == ["a"]


def test_probability_maps_of_names_that_collide(tmp_path: Path) -> None:
    write(tmp_path / "in", "p.png", "p_1.png")
    whole = Thresholding(("background", "1_x", "x", "GTV 1", "GTV/1"))
    predict_to_files(whole, [tmp_path / "in"], tmp_path / "out", PredictOptions(probabilities=True))
    assert len(list((tmp_path / "out/probabilities").iterdir())) == 8


def test_results_never_lie_among_the_inputs(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.png", "sub/b.png")
    with pytest.raises(UsageError, match="input images"):
        predict(tmp_path, out="in")
    predict(tmp_path, out="in/results")
    assert results(predict(tmp_path, out="in/results")) == ["a.png", "sub/b.png"], "results are no inputs"


def test_no_image_at_all(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/readme.txt").touch()
    with pytest.raises(DataError, match=r"in: got a folder with readme\.txt"):
        predict(tmp_path)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_sizes_and_objects_of_every_class(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    image = np.zeros((20, 30), np.uint8)
    image[2:5, 2:6], image[10:12, 20:22] = 200, 200
    Image.fromarray(image).save(tmp_path / "in/a,1.png")
    tifffile.imwrite(tmp_path / "in/b.tif", image, imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    model = Thresholding()
    model.calibrations = {
        1: Calibration(review_below=0.5, expected_dice_slope=1.0, expected_dice_offset=-0.1, expected_dice_error=0.02)
    }
    written = predict_to_files(model, [tmp_path / "in"], tmp_path / "out")
    plain, sized = read_rows(tmp_path / "out/predictions.csv")
    assert tuple(plain) == COLUMNS
    assert (plain["file"], plain["class"], plain["voxels"], plain["objects"]) == ("a,1.png", "cell", "16", "2")
    assert (plain["area_um2"], plain["volume_ml"], plain["review"]) == ("", "", "False")
    assert float(plain["expected_dice"]) == pytest.approx(0.8)
    assert (plain["expected_dice_error"], sized["file"]) == ("0.02", "b.tif")
    assert float(sized["area_um2"]) == pytest.approx(4.0) and float(sized["area_mm2"]) == pytest.approx(4e-6)
    assert set(written.expected_dice) == set(written.files)
    Image.fromarray(image).save(tmp_path / "c.png")
    predict_to_files(model, [tmp_path / "c.png"], tmp_path / "out")
    assert [row["file"] for row in read_rows(tmp_path / "out/predictions.csv")] == ["a,1.png", "b.tif", "c.png"]


@pytest.mark.parametrize(
    ("side", "apart", "speckled"),
    [
        (60, 3, True),  # 400 objects of one pixel in 3,600
        (30, 3, False),  # 100 objects: too few to tell
        (120, 8, False),  # 225 objects, one for every 64 pixels, as of small cells
    ],
)
def test_speckles_are_to_be_reviewed(side: int, apart: int, speckled: bool, tmp_path: Path) -> None:
    image = np.zeros((side, side), np.uint8)
    image[1::apart, 1::apart] = 255
    (tmp_path / "in").mkdir()
    Image.fromarray(image).save(tmp_path / "in/a.png")
    written = predict(tmp_path)
    case = json.loads((tmp_path / "out/predictions.json").read_text())["cases"]["a.png"]
    assert case["classes"]["cell"]["objects"] == len(range(1, side, apart)) ** 2
    assert written.doubtful == ({tmp_path / "out/a.png": SPECKLED} if speckled else {})
    assert (case["review"], case["why"]) == ((True, SPECKLED) if speckled else (None, ""))
    text = Predicted(written.out, (1,), written.files, (), 1.0, doubtful=written.doubtful).to_text()
    assert ("1 to review, speckled: more than one object for every 50 pixels:\n  a.png" in text) == speckled
    predictor = Thresholding()
    predictor.calibrations = {1: Calibration(review_below=0.95)}  # the expected Dice is a reason already
    assert {*predict_to_files(predictor, [tmp_path / "in"], tmp_path / "low").doubtful.values()} == {LOW}
    predictor.calibrations = {1: Calibration(review_below=0.95, calibrated_cases=5)}
    (why,) = {*predict_to_files(predictor, [tmp_path / "in"], tmp_path / "few").doubtful.values()}
    assert "below all 5 validation cases" in why


def test_volumes_have_a_volume() -> None:
    assert measure_size(500, (2.0, 1.0, 1.0)) == {"volume_mm3": 1000.0, "volume_ml": 1.0}
    assert measure_size(500, None) == {}


def test_the_expected_dice_of_earlier_versions_is_taken_over(tmp_path: Path) -> None:
    entry = {"expected_dice": 0.9, "predicted_dice": 0.8, "review": False}
    record = PredictionRecord(cases={"a.png": entry, "b.png": None})
    assert record.cases["a.png"] == {"expected_dice": 0.8, "confidence": 0.9, "review": False}
    assert record.cases["b.png"] is None


def test_overlays_are_written_and_are_no_segmentations(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.png", "p/b.png")
    written = predict_to_files(Thresholding(), [tmp_path / "in"], tmp_path / "out", overlay=True)
    assert (tmp_path / "out/overlays/a.png").exists() and (tmp_path / "out/overlays/p/b.png").exists()
    assert results(written) == ["a.png", "p/b.png"]
    shutil.copytree(tmp_path / "out", tmp_path / "references", ignore=shutil.ignore_patterns("overlays"))
    (tmp_path / "out/predictions.json").unlink()
    metrics, problems, _ = evaluate_folders(tmp_path / "out", tmp_path / "references")
    assert [case.id for case in metrics.cases] == ["a", "p/b"] and not problems


def test_the_count_is_that_of_images(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.png")
    seen: list[tuple[int, int]] = []
    predict_to_files(
        Thresholding(),
        [tmp_path / "in"],
        tmp_path / "out",
        progress=lambda done, total, note="": seen.append((done, total)),
    )
    assert seen == [(1, 1)]
