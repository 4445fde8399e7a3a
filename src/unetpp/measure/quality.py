"""How good: folders of segmentations against references, and a model at every depth on cases."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from unetpp.data.cases import find_cases, listing
from unetpp.data.dataset import Case
from unetpp.data.folders import image_stem
from unetpp.data.formats import is_image, stem_of
from unetpp.data.preprocess import prepare_label
from unetpp.data.readers import describe_shape, read_label, read_labels
from unetpp.data.volume import Volume
from unetpp.errors import DataError, Problem
from unetpp.infer.confidence import worth_of
from unetpp.infer.options import PredictOptions
from unetpp.infer.predict_files import RECORD
from unetpp.infer.prediction import Prediction
from unetpp.labels.classes import Classes
from unetpp.labels.values import MASK_VALUES, compared_classes, encode_prediction, encode_reference
from unetpp.measured import DepthRow, Metrics, ScoredCase
from unetpp.metrics.scores import CaseScore, score_case, summarize
from unetpp.plan import Plan

Progress = Callable[[int, int], None]


class FolderScores(NamedTuple):
    """Scores of the cases that could be compared, and what was wrong with the others."""

    metrics: Metrics
    problems: tuple[Problem, ...]


class DepthPredictor(Protocol):
    """What is asked of a predictor here: `infer.predictor.Predictor` is one."""

    @property
    def plan(self) -> Plan: ...

    def predict_case(self, case: Case, options: PredictOptions) -> Mapping[int, Prediction]: ...


def evaluate_cases(
    predictor: DepthPredictor,
    cases: Sequence[Case],
    depths: Sequence[int] | Literal["all"] = "all",
    mean: bool = False,
    progress: Progress | None = None,
) -> dict[int, Metrics]:
    """Score a model on labelled cases, on the grid of their files; one pass computes all depths.

    Args:
        depths: those to score.
        mean: score the mean of all heads too, at MEAN.
        progress: called with (cases done, cases in all).

    Returns:
        depth -> metrics as `summarize` gives them, and what was expected of each case.

    Raises:
        DataError: an image or label that cannot be read.
    """
    plan = predictor.plan.data
    options = PredictOptions(depth="all and mean" if mean else "all")
    scores: dict[int, list[CaseScore]] = {}
    expected: dict[int, list[float | None]] = {}
    for done, case in enumerate(cases, start=1):
        label = read_labels(case.labels)
        reference = prepare_label(label, plan.model_copy(update={"spacing_mm": None}), str(case.labels[0]))
        for depth, prediction in predictor.predict_case(case, options).items():
            if depths == "all" or depth in depths:
                spacing = label.geometry.spacing_mm or prediction.geometry.spacing_mm
                scores.setdefault(depth, []).append(
                    score_case(case.id, prediction.segmentation, reference, plan.num_classes, spacing)
                )
                expected.setdefault(depth, []).append(prediction.expected_dice)
        if progress:
            progress(done, len(cases))
    return {
        depth: _with_expectations(summarize(found, plan.classes), expected[depth])
        for depth, found in sorted(scores.items())
    }


def _with_expectations(metrics: Metrics, expected: Sequence[float | None]) -> Metrics:
    """Beside the scores of each case what was expected of it, and what such expectations are worth."""
    cases = [
        case.merge(ScoredCase(id=case.id, expected_dice=guess))
        for case, guess in zip(metrics.cases, expected, strict=True)
    ]
    worth = worth_of(expected, [case.mean.dice for case in cases])
    return metrics.merge(Metrics(mean=metrics.mean.merge(worth), cases=cases))


def evaluate_folders(predictions: Path, references: Path, progress: Progress | None = None) -> FolderScores:
    """Score segmentations against references of the same stem. What cannot be compared becomes a problem; the rest is scored.

    What the values mean is read from the predictions.json that `unetpp predict` leaves, else found from the files. Masks of
    0 and 255 and of 0 and 1 agree. Objects in references are foreground where they are known to be objects (a folder named
    instances, Kaggle's layout, a model that was trained on objects) or where predictions are masks of 0 and 255. A folder
    with depth_1, depth_2, ... (of `predict --depth all`) is scored at every depth: the numbers are the deepest's, and
    `depths` has them all. Where it has segmentations of its own, too, those of the later prediction are scored.

    Args:
        predictions: folder of label files.
        references: folder of label files, or a data set in any layout.
        progress: called with (cases done, cases in all).

    Raises:
        DataError: nothing could be compared; all reasons.
    """
    by_depth = _depth_folders(predictions)
    expected = _read_references(references)
    if not by_depth or _is_newer(predictions, by_depth.values()):
        return _evaluate_folder(predictions, expected, progress)
    scores = {depth: _evaluate_folder(by_depth[depth], expected, progress) for depth in sorted(by_depth)}
    depths = {depth: DepthRow().merge(found.metrics.mean) for depth, found in scores.items()}
    metrics = scores[max(scores)].metrics.merge(Metrics(depths=depths))
    return FolderScores(metrics, tuple(problem for found in scores.values() for problem in found.problems))


def _depth_folders(predictions: Path) -> dict[int, Path]:
    with listing(predictions):
        numbers = {
            folder: folder.name.removeprefix("depth_") for folder in predictions.glob("depth_*") if folder.is_dir()
        }
    return {int(number): folder for folder, number in numbers.items() if number.isdecimal()}


def _is_newer(predictions: Path, depth_folders: Iterable[Path]) -> bool:
    """Whether the folder's own segmentations were predicted after those of every depth; without any record, whether there are some."""
    own, latest = _recorded_at(predictions), max(map(_recorded_at, depth_folders))
    return own > latest if own or latest else bool(_image_files(predictions))


def _recorded_at(folder: Path) -> int:
    """When `unetpp predict` was done; 0: it left no record."""
    record = folder / RECORD
    return record.stat().st_mtime_ns if record.is_file() else 0


@dataclass(frozen=True)
class _References:
    """Label files by stem."""

    where: Path
    files: Mapping[str, tuple[Path, ...]]
    objects: bool
    """Known to number objects, not classes."""


@dataclass(frozen=True)
class _Pair:
    """Files of one case."""

    id: str
    prediction: Path
    reference: tuple[Path, ...]


def _evaluate_folder(folder: Path, references: _References, progress: Progress | None) -> FolderScores:
    declared = _declaration(folder)
    files = _prediction_files(folder, declared)
    references = replace(references, files={image_stem(stem, files): paths for stem, paths in references.files.items()})
    pairs = [_Pair(stem, files[stem], references.files[stem]) for stem in sorted(files) if stem in references.files]
    problems = [*_unpaired(folder, references.where, files, references.files)]
    classes = _classes(declared, pairs, references)
    scores = []
    for done, pair in enumerate(pairs, start=1):
        try:
            scores.append(_score_pair(pair, classes))
        except DataError as error:
            problems += error.problems
        if progress:
            progress(done, len(pairs))
    if not scores:
        raise DataError(problems)
    return FolderScores(summarize(scores, classes.names), tuple(problems))


def _score_pair(pair: _Pair, classes: Classes) -> CaseScore:
    """Raises DataError for a file that cannot be read, foreign values, another size or another grid."""
    prediction, reference = read_label(pair.prediction), read_labels(pair.reference)
    _check_grids(pair, prediction, reference)
    got = encode_prediction(classes, prediction.array[0], pair.prediction)
    expected = encode_reference(classes, reference.array[0], pair.reference[0])
    return score_case(
        pair.id, got, expected, len(classes.names), reference.geometry.spacing_mm or prediction.geometry.spacing_mm
    )


def _check_grids(pair: _Pair, prediction: Volume, reference: Volume) -> None:
    where, action = str(pair.prediction), "Compare segmentations on the grid of their references."
    if prediction.shape != reference.shape:
        raise DataError(
            Problem(
                where,
                describe_shape(prediction.shape),
                f"{describe_shape(reference.shape)}, as {pair.reference[0]}",
                action,
            )
        )
    if not prediction.geometry.matches(reference.geometry):
        got = f"another spacing, origin or direction{_spacing(prediction)}"
        raise DataError(Problem(where, got, f"that of {pair.reference[0]}{_spacing(reference)}", action))


def _spacing(volume: Volume) -> str:
    spacing = volume.geometry.spacing_mm
    return f" ({' x '.join(f'{size:g}' for size in spacing)} mm)" if spacing else ""


def _declaration(folder: Path) -> dict[str, Any]:
    """What `unetpp predict` wrote about its results."""
    try:
        values = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _prediction_files(folder: Path, declared: Mapping[str, Any]) -> dict[str, Path]:
    """Stem -> segmentation. Where they are declared, other files (of an earlier prediction) are left out."""
    with listing(folder):
        if not folder.is_dir():
            got = "a file" if folder.exists() else "no such folder"
            raise DataError(Problem(str(folder), got, "a folder of segmentations", "Check the path."))
        files = {stem_of(path): path for path in _image_files(folder)}
    names = declared.get("files")
    if isinstance(names, list):
        files = {stem: path for stem, path in files.items() if path.name in names}
    if not files:
        got = f"no segmentations that its {RECORD} names" if isinstance(names, list) else "no segmentations"
        raise DataError(
            Problem(str(folder), got, "label files, one for each case", "Check the path, or predict again.")
        )
    return files


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and is_image(path)) if folder.is_dir() else []


def _read_references(path: Path) -> _References:
    """Those of a flat folder, or of a data set."""
    with listing(path):
        flat = _image_files(path)
    if flat:
        return _References(path, {stem_of(file): (file,) for file in flat}, path.resolve().name == "instances")
    dataset = find_cases(path, tolerant=True)
    files = {case.id: case.labels for case in dataset.cases if case.labels}
    if not files:
        raise DataError(
            Problem(str(path), "no labels", "a folder of label files, or a data set with labels", "Check the path.")
        )
    return _References(path, files, dataset.instances)


def _unpaired(
    folder: Path, where: Path, files: Mapping[str, Path], references: Mapping[str, tuple[Path, ...]]
) -> list[Problem]:
    missing, extra = sorted(set(references) - set(files)), sorted(set(files) - set(references))
    problems = []
    if missing:
        got = f"no segmentation for {len(missing)} of {len(references)} references ({_some(missing)})"
        problems.append(
            Problem(
                str(folder),
                got,
                "one for each reference, with the same stem",
                "Predict them too; the scores here are without them.",
            )
        )
    if extra:
        got = f"no reference for {len(extra)} of {len(files)} segmentations ({_some(extra)})"
        problems.append(
            Problem(
                str(where),
                got,
                "one for each segmentation, with the same stem",
                "Add them; the scores here are without them.",
            )
        )
    return problems


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _classes(declared: Mapping[str, Any], pairs: Sequence[_Pair], references: _References) -> Classes:
    names, values = declared.get("classes"), declared.get("label_values")
    if isinstance(names, list) and isinstance(values, list) and len(names) == len(values) >= 2:
        objects = references.objects or declared.get("instances") is True or tuple(values) == MASK_VALUES
        return Classes(tuple(names), tuple(values), objects and len(values) == 2 and values[0] == 0)
    return compared_classes(
        _readable([(pair.prediction,) for pair in pairs]),
        _readable([pair.reference for pair in pairs]),
        references.objects,
        references.where,
    )


def _readable(files: Sequence[tuple[Path, ...]]) -> list[np.ndarray]:
    """Distinct values of the labels that can be read; those that cannot are reported when they are scored."""
    found = []
    for paths in files:
        try:
            found.append(np.unique(read_labels(paths).array))
        except DataError:
            continue
    return found
