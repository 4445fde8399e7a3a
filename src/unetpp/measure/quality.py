"""Scores: a model at every depth on labelled cases, and folders of segmentations against references."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os.path import realpath
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

from unetpp.cluster.engine import Engine
from unetpp.data.case_files import name_files, name_label, read_case_classes, read_case_label
from unetpp.data.case_runs import run_cases
from unetpp.data.inspect import collect_declared, complete_reading
from unetpp.data.label_grid import Grid, place_label
from unetpp.errors import DataError, Problem, failures_of
from unetpp.formats import is_image, is_medical, stem_of
from unetpp.formats.readers import read_label
from unetpp.infer.calibration import calibrate
from unetpp.infer.options import PredictOptions
from unetpp.infer.prediction import Prediction
from unetpp.infer.record import OVERLAYS, PREDICTIONS, PredictionRecord, read_record
from unetpp.labels.classes import Classes
from unetpp.labels.encoding import encode_label
from unetpp.labels.facts import LabelFacts, measure_label
from unetpp.labels.matching import Match, Recorded, match_labels
from unetpp.labels.meaning import Declared
from unetpp.layouts.cases import find_cases, refuse_unreadable
from unetpp.layouts.contents import list_content
from unetpp.layouts.dataset import Case
from unetpp.layouts.paired_files import split_mixed_folder
from unetpp.layouts.pairing import describe_name, pair_names
from unetpp.measure.pace import Pace, choose_order
from unetpp.measure.score_shares import ScoreSharing, Share, identify_files
from unetpp.measured import DepthRow, Metrics, ScoredCase
from unetpp.metrics.scores import CaseScore, score_case, summarize
from unetpp.plan import AS_FILES_SAY, LabelPlan, Plan, ReadPlan, Region
from unetpp.sizes import Size
from unetpp.words import list_some

Show = Callable[[int, int], None]
"""Called with (cases done, cases in all)."""
Look = Callable[[Case, np.ndarray, Mapping[int, Prediction]], None]
"""Called with a case, its reference (class indices) and its predictions by depth."""


class FolderScores(NamedTuple):
    """Scores of the cases that could be compared, and the problems of the others."""

    metrics: Metrics
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    """What was found about the meaning of the values; verdicts on the training of the model that predicted."""


class DepthPredictor(Protocol):
    """Predicts a case at several depths, as `infer.predictor.Predictor` does."""

    @property
    def plan(self) -> Plan: ...

    def predict_case(self, case: Case, options: PredictOptions) -> Mapping[int, Prediction]: ...


class _References(NamedTuple):
    """Reference label files."""

    cases: Mapping[str, Case]
    """Cases with labels, by stem."""
    declared: Declared
    """What is known of them."""
    reading: ReadPlan
    regions: tuple[Region, ...] | None = None
    """Regions that their data set declares."""


def evaluate_cases(
    predictor: DepthPredictor,
    cases: Sequence[Case],
    depths: Sequence[int] | Literal["all"] = "all",
    mean: bool = False,
    progress: Show = lambda done, total: None,
    until: float = math.inf,
    look: Look = lambda case, reference, predicted: None,
) -> dict[int, Metrics]:
    """Score a model on labelled cases, on the grid of their files; one pass computes all depths.

    If time is limited, the Dice of all cases comes first: distances between surfaces are measured only while there is
    time for the other cases too. At least one case is scored; cases are drawn at random, so that they stand for all.

    Args:
        predictor: the model.
        cases: cases with labels.
        depths: the depths to score.
        mean: score the mean of all heads too, at MEAN.
        progress: called with (cases done, cases in all).
        until: time of `time.monotonic` at which scoring ends.
        look: called with every case that has been predicted, such as to draw it.

    Returns:
        depth -> metrics as `summarize` returns them, with the expected Dice of each case and its calibration.

    Raises:
        DataError: an image or label that cannot be read.
    """
    plan = predictor.plan.data
    options = PredictOptions(depth="all and mean" if mean else "all")
    pace = Pace(len(cases), until)
    scores: dict[int, dict[int, CaseScore]] = {}
    confidence: dict[int, dict[int, float | None]] = {}
    for place in pace.limit(range(len(cases)) if until == math.inf else choose_order(len(cases))):
        case = cases[place]
        with failures_of(name_label(case)):
            reference = read_case_classes(case, plan)
        with failures_of(name_files(case.images)):
            predicted = predictor.predict_case(case, options)
        look(case, reference, predicted)
        with pace.extra() as surfaces:
            for depth, found in predicted.items():
                if depths == "all" or depth in depths:
                    spacing = found.geometry.spacing_mm
                    pair, number = (found.segmentation, reference), plan.num_classes
                    parts = plan.region_indices
                    score = score_case(case.id, *pair, number, spacing, surface_metrics=surfaces, regions=parts)
                    scores.setdefault(depth, {})[place] = score
                    confidence.setdefault(depth, {})[place] = found.confidence
        progress(pace.done, len(cases))
    places = sorted(next(iter(scores.values()), {}))  # in the order of the cases

    def summarize_depth(depth: int) -> Metrics:
        found = summarize([scores[depth][place] for place in places], (plan.classes[0], *plan.scored))
        return _calibrate(found, [confidence[depth][place] for place in places])

    return {depth: summarize_depth(depth) for depth in sorted(scores)}


def add_depths(chosen: Metrics, quality: Mapping[int, Metrics]) -> tuple[ScoredCase, ...]:
    """Add the Dice at every depth to the cases of one depth, so that folds can be pooled.

    Args:
        chosen: scores at one depth.
        quality: those at every depth, of the same cases in the same order.
    """
    each = zip(chosen.cases, *(found.cases for found in quality.values()), strict=True)
    return tuple(
        case.merge(ScoredCase(id=case.id, depths=dict(zip(quality, [at.mean.dice for at in all_], strict=True))))
        for case, *all_ in each
    )


def _calibrate(metrics: Metrics, confidence: Sequence[float | None]) -> Metrics:
    """Add the confidence and the expected Dice of each case, and the calibration of all of them."""
    calibration = calibrate(confidence, [case.mean.dice for case in metrics.cases])
    cases = [
        case.merge(ScoredCase(id=case.id, confidence=value, expected_dice=calibration.expect_dice(value)))
        for case, value in zip(metrics.cases, confidence, strict=True)
    ]
    return metrics.merge(Metrics(mean=metrics.mean.merge(calibration), cases=cases))


def evaluate_folders(
    predictions: Path,
    references: Path,
    progress: Show = lambda done, total: None,
    labels: LabelPlan | None = None,
    sharing: ScoreSharing | None = None,
) -> FolderScores:
    """Score segmentations against references of the same name; files that cannot be compared become problems.

    Names of references may have an ending or a beginning in common: `a_segmentation` for `a`.

    The meaning of the references' values is found as for training; that of segmentations is read from the
    predictions.json that `unetpp predict` writes, otherwise found too. Objects in references are foreground where they
    are known to be objects (a folder named instances, Kaggle's layout, a model trained on objects) or where predictions
    are masks of 0 and 255. A folder with depth_1, depth_2, ... (of `predict` with depth="all"), or with size_1x8, ...,
    is scored at every depth or size: the scores are those of the largest, and `depths` has all of them. If the folder
    itself has segmentations too, the later prediction is scored.

    Args:
        predictions: folder of label files.
        references: folder of label files, or a data set in any layout.
        progress: called with (cases done, cases in all).
        labels: meaning of the references' values; None: found from the files.
        sharing: how the cases are shared; None: all are scored here.

    Returns:
        Scores of the compared cases, and a problem for each case that could not be compared. References that
        `unetpp predict` was not asked for, by its record, are a note.

    Raises:
        DataError: nothing could be compared; all reasons.
    """
    sharing = sharing or ScoreSharing()
    return score_folders(predictions, references, progress, labels, sharing).join(sharing)


def score_folders(
    predictions: Path, references: Path, progress: Show, labels: LabelPlan | None, sharing: ScoreSharing
) -> ScoredFolders:
    """Score a share of the cases; see `evaluate_folders`."""
    by_depth = _depth_folders(predictions)
    expected = _read_references(references, any(map(_has_folders, (predictions, *by_depth.values()))), labels)
    sharing.engine.require_shared([predictions.absolute(), references.absolute()])
    if not by_depth or _is_newer(predictions, by_depth.values()):
        return ScoredFolders({0: _evaluate_folder(predictions, expected, progress, sharing)})
    folders = {depth: by_depth[depth] for depth in sorted(by_depth)}
    scored = {depth: _evaluate_folder(each, expected, progress, sharing, each.name) for depth, each in folders.items()}
    return ScoredFolders(scored, folders)


@dataclass(frozen=True)
class _ScoredFolder:
    """Scores of a share of the cases of one folder."""

    name: str
    share: Share
    classes: Sequence[str]
    problems: tuple[Problem, ...]
    """Those of all cases, which every share finds."""
    notes: tuple[str, ...]

    def join(self, sharing: ScoreSharing) -> FolderScores:
        scores, failed, missing = sharing.meet(self.name, self.share)
        problems = (*self.problems, *failed)
        if not scores:
            raise DataError(problems)
        scores.sort(key=lambda score: score.id)
        waits = f"of {sharing.part.count} shares {list_some(missing)} are not there yet: these are scores of the others"
        return FolderScores(summarize(scores, self.classes), problems, (*([waits] if missing else []), *self.notes))


@dataclass(frozen=True)
class ScoredFolders:
    """Scores of a share of the cases: of one folder, or of those of several depths."""

    scored: Mapping[int, _ScoredFolder]
    by_depth: Mapping[int, Path] = field(default_factory=dict)

    def join(self, sharing: ScoreSharing) -> FolderScores:
        """Add the scores of the other shares.

        Raises:
            DataError: nothing could be compared.
        """
        scores = {depth: each.join(sharing) for depth, each in self.scored.items()}
        last = scores[max(scores)]
        if not self.by_depth:
            return last
        depths = {depth: _name_row(self.by_depth[depth]).merge(found.metrics.mean) for depth, found in scores.items()}
        problems = tuple(problem for found in scores.values() for problem in found.problems)
        return FolderScores(last.metrics.merge(Metrics(depths=depths)), problems, last.notes)


_OF_A_SIZE = re.compile(r"depth_(\d+)|size_(\d+)x(\d+)")
"""Folders of a prediction at all depths, or of a network with shells at all sizes."""


def _depth_folders(predictions: Path) -> dict[int, Path]:
    """Find the folders of all depths or sizes, by their numbers (`unetpp.sizes`)."""
    with refuse_unreadable(predictions):
        folders = [folder for folder in predictions.iterdir() if folder.is_dir()] if predictions.is_dir() else []
    found = {folder: match for folder in folders if (match := _OF_A_SIZE.fullmatch(folder.name))}
    depths = {folder: int(match[1] or match[2]) for folder, match in found.items()}
    widths = sorted({int(match[3] or 0) for match in found.values()})
    return {
        Size(depths[folder], widths.index(int(match[3] or 0))).number(max(depths.values())): folder
        for folder, match in found.items()
    }


def _name_row(folder: Path) -> DepthRow:
    """Make a row that knows its size, if its folder is named after one."""
    match = _OF_A_SIZE.fullmatch(folder.name)
    return DepthRow(depth=int(match[2]), channels=int(match[3])) if match and match[3] else DepthRow()


def _is_newer(predictions: Path, depth_folders: Iterable[Path]) -> bool:
    """Check whether the folder's own segmentations are newer than those of the depths (without records: exist)."""
    own, latest = _prediction_time(predictions), max(map(_prediction_time, depth_folders))
    return own > latest if own or latest else bool(_image_files(predictions))


def _prediction_time(folder: Path) -> int:
    """Time at which `unetpp predict` finished; 0 without its record."""
    record = folder / PREDICTIONS
    return record.stat().st_mtime_ns if record.is_file() else 0


def _evaluate_folder(
    folder: Path, references: _References, progress: Show, sharing: ScoreSharing, name: str = ""
) -> _ScoredFolder:
    record = read_record(folder) or PredictionRecord()
    files = _rename_as(references.cases, _find_predictions(folder, record.files))
    cases, problems = _name_after_predictions(files, references.cases)
    stems = sorted(files.keys() & cases.keys())
    unpaired, left = _find_unpaired(folder, Path(references.declared.where), files, cases, record)
    problems += unpaired
    pairs = [_Pair(stem, files[stem], cases[stem]) for stem in stems]
    match = _match(folder, references, pairs, record, sharing.engine)
    problems += match.problems
    refused, named = {problem.where for problem in match.problems}, record.regions or references.regions
    task = _ScorePair(match, references.reading, _list_indices(named, match.reference_classes))
    todo = [pair for pair in sharing.part.choose(pairs) if name_label(pair.case) not in refused]
    scored, failed = _score_pairs(todo, task, progress, sharing.engine)
    names = match.reference_classes.names
    names = names if named is None else (names[0], *(region.name for region in named))
    identity = identify_files(files, cases, stems, (replace(match, problems=[], notes=[]), task.reading, names))
    mine = Share(identity=identity, scores=tuple(scored), problems=tuple(failed))
    return _ScoredFolder(name, mine, names, tuple(problems), (*left, *match.notes, *record.verdicts))


class _Pair(NamedTuple):
    """A segmentation, and its reference."""

    id: str
    file: Path
    case: Case

    def absolute(self) -> _Pair:
        return _Pair(self.id, self.file.absolute(), self.case.absolute())

    def name_as_given(self, problem: Problem) -> Problem:
        where = problem.where.replace(str(self.file.absolute()), str(self.file))
        return self.case.name_as_given(replace(problem, where=where))


@dataclass(frozen=True)
class _ScorePair:
    """A task: the scores of one pair."""

    match: Match
    reading: ReadPlan
    regions: list[list[int]] | None

    def __call__(self, pair: _Pair) -> CaseScore:
        with failures_of(str(pair.file)):
            return _score_files(pair, self.match, self.reading, self.regions)


def _score_pairs(
    pairs: Sequence[_Pair], task: _ScorePair, progress: Show, engine: Engine
) -> tuple[list[CaseScore], list[Problem]]:
    """Score pairs; problems are in their order, whichever ended first."""
    outcomes = list(run_cases(engine, task, pairs, name="score", progress=progress))
    scores = [outcome.value for outcome in outcomes if not outcome.problems]
    return scores, [problem for outcome in outcomes for problem in outcome.problems]


def _match(
    folder: Path, references: _References, pairs: Sequence[_Pair], record: PredictionRecord, engine: Engine
) -> Match:
    """Measure all labels of both sides, and find how to read them. Raises DataError for what stays ambiguous."""
    recorded = _read_recorded(record)
    expected = _measure(references.reading, [pair.case for pair in pairs], engine)
    predicted = [Case(pair.file.name, (), (pair.file,)) for pair in pairs]
    got = _measure(AS_FILES_SAY, predicted, engine, closely=recorded is None)
    _refuse_pictures(Path(references.declared.where), expected)
    _refuse_pictures(folder, got)
    return match_labels(expected, got, references.declared, recorded)


def _refuse_pictures(folder: Path, files: Mapping[str, LabelFacts]) -> None:
    """Raise DataError if most files of a folder are images: every gray value would count as a class."""
    pictures = [name for name, facts in files.items() if facts.is_picture]
    if len(pictures) > len(files) / 2:
        got = f"images, not segmentations ({list_some((Path(name).name for name in pictures), 2)})"
        action = "Name the folder of the segmentations first, then that of the masks."
        raise DataError(Problem(str(folder), got, "label files: one number for each class", action))


def _name_after_predictions(
    files: Mapping[str, Path], references: Mapping[str, Case]
) -> tuple[dict[str, Case], list[Problem]]:
    """Name references after the predictions that they belong to: a reference a_segmentation after a prediction a.

    Returns:
        References by name, and a problem for each prediction that several belong to.
    """
    pairs = pair_names(files, references)
    several = {**pairs.rival, **{stem: own for stem, own in pairs.labels.items() if len(own) > 1}}
    renamed = {own[0]: stem for stem, own in pairs.labels.items() if len(own) == 1}
    left_out = {name for own in several.values() for name in own}
    problems = [
        Problem(
            str(files[stem]),
            f"several references ({', '.join(describe_name(name, stem) for name in own)})",
            "one reference for each segmentation",
            "Move those that are not meant out of the folder.",
        )
        for stem, own in several.items()
    ]
    kept = {renamed.get(name, name): case for name, case in references.items() if name not in left_out}
    return kept, problems


def _list_indices(regions: Sequence[Region] | None, classes: Classes) -> list[list[int]] | None:
    """List the class indices of each region; values that no label has are left out."""
    if regions is None:
        return None
    places = {value: index for index, value in enumerate(classes.values)}
    return [[places[value] for value in region.values if value in places] for region in regions]


def _score_files(pair: _Pair, match: Match, reading: ReadPlan, regions: list[list[int]] | None) -> CaseScore:
    """Score one case. Raises DataError for an unreadable file, a foreign value, another size or another grid."""
    file, case = pair.file, pair.case
    reference = read_case_label(case, reading)
    prediction = place_label(read_label(file), Grid(reference.shape, reference.geometry, "reference"), str(file))
    indices = encode_label(prediction, match.prediction_classes, match.prediction, file)
    truth = encode_label(reference, match.reference_classes, match.reference, case.labels[0])
    spacing = reference.geometry.spacing_mm or prediction.geometry.spacing_mm
    return score_case(pair.id, indices, truth, len(match.reference_classes.names), spacing, regions=regions)


def _measure(reading: ReadPlan, cases: Sequence[Case], engine: Engine, closely: bool = True) -> dict[str, LabelFacts]:
    """Measure each readable label; unreadable ones are reported when they are scored."""
    task = partial(_measure_label, reading=reading, closely=closely)
    outcomes = run_cases(engine, task, cases, name="measure")
    return {name_label(outcome.unit): outcome.value for outcome in outcomes if not outcome.problems}


def _measure_label(case: Case, reading: ReadPlan, closely: bool) -> LabelFacts:
    return measure_label(read_case_label(case, reading), is_medical(case.labels[0]), closely)


def _find_predictions(folder: Path, names: Collection[str] | None) -> dict[str, Path]:
    """Stem -> segmentation. If files are declared, others (of an earlier prediction) are left out."""
    with refuse_unreadable(folder):
        if not folder.is_dir():
            got = "a file" if folder.exists() else "no such folder"
            raise DataError(Problem(str(folder), got, "a folder of segmentations", "Check the path."))
        files = _find_label_files(folder)
    if names is not None:
        known = set(names)
        files = {stem: path for stem, path in files.items() if path.relative_to(folder).as_posix() in known}
    if not files:
        got = f"no segmentations that its {PREDICTIONS} names" if names is not None else "no segmentations"
        action = "Check the path, or predict again."
        raise DataError(Problem(str(folder), got, "label files, one for each case", action))
    return files


def _find_label_files(folder: Path) -> dict[str, Path]:
    """Name -> file, also of those in folders: "p1/a" for p1/a.png. Maps of probabilities are no labels."""
    return {
        path.relative_to(folder).with_name(stem_of(path)).as_posix(): path
        for inner, paths in list_content(folder).images.items()
        if not _is_result_folder(inner.relative_to(folder).parts)
        for path in paths
    }


def _has_folders(predictions: Path) -> bool:
    """Tell whether segmentations lie in folders of a folder."""
    with refuse_unreadable(predictions):
        return predictions.is_dir() and any("/" in name for name in _find_label_files(predictions))


def _is_result_folder(parts: tuple[str, ...]) -> bool:
    return bool(parts) and (
        parts[0] in ("probabilities", "uncertainty", OVERLAYS) or bool(_OF_A_SIZE.fullmatch(parts[0]))
    )


def _rename_as(references: Iterable[str], files: Mapping[str, Path]) -> dict[str, Path]:
    """Name segmentations in folders as the references are: p1/a may be p1_a or a, if no other file may be so."""
    known = set(references)
    counts = Counter(name for key in files for name in {key, *_other_names(key)})
    return {
        next((name for name in _other_names(key) if {key, name} & known == {name} and counts[name] == 1), key): path
        for key, path in files.items()
    }


def _other_names(key: str) -> tuple[str, ...]:
    return (key.replace("/", "_"), key.rpartition("/")[2]) if "/" in key else ()


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and is_image(path)) if folder.is_dir() else []


def _read_references(path: Path, in_folders: bool, plan: LabelPlan | None) -> _References:
    """Find the references of a folder (and of the folders in it, if segmentations lie in such) or of a data set."""
    with refuse_unreadable(path):
        flat = _image_files(path)
        inner = _find_label_files(path) if path.is_dir() and (in_folders or not flat) else {}
    if flat and split_mixed_folder({stem_of(file): [file] for file in flat}) is None:
        return _list_references(path, inner or {stem_of(file): file for file in flat}, plan)
    try:
        dataset = find_cases(path, tolerant=True)
    except DataError:
        if inner:  # labels alone, in folders
            return _list_references(path, inner, plan)
        raise
    cases = {case.id: case for case in dataset.cases if case.labels}
    if not cases:
        expected = "a folder of label files, or a data set with labels"
        raise DataError(Problem(str(path), "no labels", expected, "Check the path."))
    reading = ReadPlan(labels=plan)
    declared = replace(collect_declared(dataset, reading), where=str(path))
    return _References(cases, declared, complete_reading(declared, reading), dataset.regions)


def _list_references(path: Path, files: Mapping[str, Path], plan: LabelPlan | None) -> _References:
    """Make references of label files without images."""
    objects, medical = Path(realpath(path)).name == "instances", any(map(is_medical, files.values()))
    declared = Declared(str(path), objects=objects, plan=plan, mask_value=1 if medical else 255)
    return _References({name: Case(name, (), (file,)) for name, file in files.items()}, declared, ReadPlan(labels=plan))


def _find_unpaired(
    folder: Path, where: Path, files: Mapping[str, Path], references: Mapping[str, Case], record: PredictionRecord
) -> tuple[list[Problem], list[str]]:
    """Find references without a segmentation, and segmentations without a reference: problems, and notes.

    Where all that `predict` was asked for is there, and has a reference, others were not asked for: that is a note.
    """
    problems = list(_list_unpaired(folder, where, files, references))
    asked = record.files is not None and len(files) == len(record.files) and not record.failed
    if not (problems and asked and files.keys() <= references.keys()):
        return problems, []
    (problem,) = problems
    return [], [f"{problem.got}, which were not predicted; these scores leave them out"]


def _list_unpaired(
    folder: Path, where: Path, files: Mapping[str, Path], references: Mapping[str, Case]
) -> Iterator[Problem]:
    """List the problems of references without a segmentation, and of segmentations without a reference."""
    for place, missing, found, other, others, action in (
        (folder, "segmentation", files, "reference", references, "Predict them too"),
        (where, "reference", references, "segmentation", files, "Add them"),
    ):
        stems = sorted(others.keys() - found.keys())
        if stems:
            some = ", ".join([*stems[:3], *["..."] * (len(stems) > 3)])
            got = f"no {missing} for {len(stems)} of {len(others)} {other}s ({some})"
            expected = f"one for each {other}, with the same stem"
            yield Problem(str(place), got, expected, f"{action}; these scores leave them out.")


def _read_recorded(record: PredictionRecord) -> Recorded | None:
    """Read the classes that `unetpp predict` recorded; None without them."""
    if not len(record.classes) == len(record.label_values) >= 2:
        return None
    plan = record.labels if "labels" in record.model_fields_set or not record.instances else LabelPlan(kind="objects")
    return Recorded(Classes(record.classes, record.label_values), plan)
