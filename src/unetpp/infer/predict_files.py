"""Prediction from files to files.

OUT/NAME.png                       class values, in the format and on the grid of the input; OUT/depth_D/NAME.png with all depths
OUT/probabilities/NAME_CLASS.tif   probability of each foreground class, where asked for
OUT/uncertainty/NAME.tif           entropy or disagreement, where asked for
OUT/predictions.json               what was predicted with what, and how good each is expected to be
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from unetpp.data.cases import Case, find_images
from unetpp.data.preprocess import to_label_values
from unetpp.data.writers import map_suffix, output_suffix, write_map, write_segmentation
from unetpp.errors import DataError, MissingExtraError, Problem, UsageError, is_out_of_memory
from unetpp.files import write_json
from unetpp.infer.options import DEFAULTS, PredictOptions
from unetpp.infer.prediction import AUTO, MEAN, Prediction, name_depth
from unetpp.infer.tiles import TileProgress
from unetpp.measured import Calibration
from unetpp.plan import DataPlan

PREDICTIONS = "predictions.json"


class FileProgress(Protocol):
    """Called with files done of all, or tiles done of all where there is but one file."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


class CasePredictor(Protocol):
    """What is asked of a predictor here: `infer.predictor.Predictor` and `infer.exported_predictor.ExportedPredictor` are two."""

    name: str
    backend: str

    @property
    def worth(self) -> Mapping[int, Calibration]: ...

    @property
    def data(self) -> DataPlan: ...

    @property
    def depths(self) -> tuple[int, ...]: ...

    def choose_depths(self, options: PredictOptions) -> tuple[int, ...]: ...

    def predict_case(
        self, case: Case, options: PredictOptions, progress: TileProgress | None
    ) -> Mapping[int, Prediction]: ...


@dataclass(frozen=True)
class Failure:
    """A case that could not be predicted."""

    id: str
    problem: Problem


@dataclass(frozen=True)
class WrittenFiles:
    """What came of a list of inputs."""

    out: Path
    depths: tuple[int, ...]
    files: tuple[Path, ...]
    """Segmentations that were written, in the order of the inputs."""
    failures: tuple[Failure, ...]
    doubtful: tuple[Path, ...] = ()
    """Of `files`, those in which nothing was found, or whose expected Dice is below that of nine in ten validation cases."""

    @property
    def failed(self) -> tuple[Problem, ...]:
        return tuple(failure.problem for failure in self.failures)


def predict_to_files(
    predictor: CasePredictor,
    inputs: Sequence[str | PathLike[str]],
    out: Path,
    options: PredictOptions = DEFAULTS,
    progress: FileProgress | None = None,
) -> WrittenFiles:
    """Predict every image of `inputs`; a bad one is skipped and listed, the others are written.

    Args:
        predictor: the networks.
        inputs: files and folders.
        out: folder for the results.
        options: which depths, how, and which maps to write beside the segmentations.
        progress: see `FileProgress`.

    Raises:
        DataError: a folder without images, or two images with the same stem.
        UsageError: the options do not fit the model, or a result would take the place of its input.
        WriteError: a result could not be written.
    """
    plan = predictor.data
    depths = predictor.choose_depths(options)
    folders = {each: out / f"depth_{each}" if options.depth == "all" else out for each in depths}
    cases = find_images([Path(entry) for entry in inputs], len(plan.channels))
    _require_other_folder(cases, folders)
    files: dict[Path, float | None] = {}
    failures: list[Failure] = []
    try:
        for number, case in enumerate(cases):
            show = _tile_progress(progress, case, number, len(cases))
            try:
                # nothing of one case is kept while the next is predicted: either may be huge
                for each, found in predictor.predict_case(case, options, show).items():
                    files[_write(found, case.id, folders[each], plan)] = found.expected_dice
            except (DataError, MissingExtraError, MemoryError, RuntimeError) as error:
                failures += [Failure(case.id, problem) for problem in _problems(error, str(case.images[0]))]
            if progress and len(cases) > 1:
                progress(number + 1, len(cases))
    finally:  # what is done is recorded, whatever ends the work
        judged = {
            path: _judged(expected, predictor, next(each for each in depths if folders[each] == path.parent))
            for path, expected in files.items()
        }
        written = WrittenFiles(
            out, depths, tuple(files), tuple(failures), tuple(path for path, found in judged.items() if found["review"])
        )
        _write_records(written, judged, folders, predictor)
    return written


def _problems(error: Exception, where: str) -> Sequence[Problem]:
    """What is wrong with one case alone; anything else goes on."""
    if isinstance(error, DataError):
        return error.problems
    if isinstance(error, MissingExtraError):
        return [Problem(where, "a format that is not installed", "a format of this installation", str(error))]
    if is_out_of_memory(error):
        got = "an image for which the memory does not suffice" + (
            f" ({error})" if isinstance(error, MemoryError) and str(error) else ""
        )
        return [
            Problem(
                where,
                got,
                "one that fits",
                "Leave out `probabilities` and `uncertainty`, or use a machine with more memory.",
            )
        ]
    raise error


def _write(prediction: Prediction, name: str, folder: Path, plan: DataPlan) -> Path:
    geometry = prediction.geometry
    path = folder / f"{name}{output_suffix(geometry)}"
    write_segmentation(to_label_values(prediction.segmentation, plan), geometry, path)
    if prediction.probabilities is not None:
        for class_name, values in zip(plan.classes[1:], prediction.probabilities[1:], strict=True):
            write_map(
                values, geometry, folder / "probabilities" / f"{name}_{_file_name(class_name)}{map_suffix(geometry)}"
            )
    if prediction.uncertainty is not None:
        write_map(prediction.uncertainty, geometry, folder / "uncertainty" / f"{name}{map_suffix(geometry)}")
    return path


def _judged(expected: float | None, predictor: CasePredictor, depth: int) -> dict[str, float | bool | None]:
    """How good a segmentation probably is, as far as the model's validation cases tell: None where they do not.

    To review: little is to be expected of it, or nothing was found. (What several heads answer together is judged as the deepest of them.)
    """
    worth = predictor.worth.get(max(predictor.depths) if depth in (MEAN, AUTO) else depth, Calibration())
    level, slope = worth.review_below, worth.predicted_dice_slope
    predicted = (
        None
        if expected is None or slope is None
        else min(1.0, max(0.0, slope * expected + (worth.predicted_dice_offset or 0.0)))
    )
    return {
        "expected_dice": expected,
        "predicted_dice": predicted,
        "review": None if level is None else expected is None or expected < level,
    }


def _write_records(
    written: WrittenFiles, judged: Mapping[Path, dict[str, Any]], folders: dict[int, Path], predictor: CasePredictor
) -> None:
    plan = predictor.data
    for depth, folder in folders.items():
        made_with = {
            "model": predictor.name,
            "backend": predictor.backend,
            "depth": name_depth(depth),
            "classes": plan.classes,
            "label_values": plan.label_values,
            "instances": plan.instances,
        }
        files = {path.name: found for path, found in judged.items() if path.parent == folder}
        failed = [{"id": failure.id, **failure.problem.to_dict()} for failure in written.failures]
        earlier = _earlier_files(folder, made_with)
        cases = {name: files.get(name, earlier.get(name)) for name in sorted({*files, *earlier})}
        write_json(folder / PREDICTIONS, {**made_with, "files": list(cases), "cases": cases, "failed": failed})


def _earlier_files(folder: Path, made_with: dict[str, Any]) -> dict[str, Any]:
    """What earlier calls with the same model and wishes have written there, one file after the other, and what is known of it."""
    try:
        record = json.loads((folder / PREDICTIONS).read_text(encoding="utf-8"))
        alike = all(record[key] == jsonlike for key, jsonlike in json.loads(json.dumps(made_with)).items())
        return {
            name: record.get("cases", {}).get(name) for name in record["files"] if alike and (folder / name).is_file()
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _require_other_folder(cases: Sequence[Case], folders: dict[int, Path]) -> None:
    """A PNG's segmentation has the PNG's name: it must not lie where the PNG lies."""
    sources = {
        folder for case in cases for path in case.images for folder in (path.parent.resolve(), path.resolve().parent)
    }  # a link's, and its file's
    for folder in folders.values():
        if folder.resolve() in sources:
            raise UsageError(
                f"--out: got {folder}, which holds input images; expected another folder, so that no input is overwritten. Choose another --out."
            )


def _tile_progress(progress: FileProgress | None, case: Case, number: int, total: int) -> TileProgress | None:
    """Tiles of the only case, or the share of them beside the number of cases."""
    if progress is None:
        return None

    def show(done: int, tiles: int) -> None:
        if total == 1:
            progress(done, tiles)
        else:
            progress(number, total, f"{case.id} {done / tiles:.0%}")

    return show


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]", "_", text)
