"""Scores of folders of segmentations against references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from unetpp.data.case_files import name_label, read_case_label
from unetpp.data.label_grid import Grid, place_label
from unetpp.errors import DataError, Problem, failures_of
from unetpp.formats import is_medical
from unetpp.formats.readers import read_label
from unetpp.infer.record import PredictionRecord, read_record
from unetpp.labels.classes import Classes
from unetpp.labels.encoding import encode_label
from unetpp.labels.facts import LabelFacts, measure_label
from unetpp.labels.matching import Match, Recorded, match_labels
from unetpp.layouts.dataset import Case
from unetpp.measure.prediction_files import (
    depth_folders,
    find_predictions,
    has_folders,
    is_newer,
    name_row,
    rename_as,
)
from unetpp.measure.quality import Show
from unetpp.measure.reference_files import References, find_unpaired, name_after_predictions, read_references
from unetpp.measure.score_records import identify_case
from unetpp.measure.score_shares import SCORE, ScoreSharing, Share, identify_files
from unetpp.metrics.scores import CaseScore, score_case, summarize
from unetpp.model_notes import Metrics
from unetpp.plan import AS_FILES_SAY, LabelPlan, ReadPlan, Region
from unetpp.words import list_some


class FolderScores(NamedTuple):
    """Scores of the cases that could be compared, and the problems of the others."""

    metrics: Metrics
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    """What was found about the meaning of the values; verdicts on the training of the model that predicted."""


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
    by_depth = depth_folders(predictions)
    expected = read_references(references, any(map(has_folders, (predictions, *by_depth.values()))), labels)
    sharing.engine.require_shared([predictions.absolute(), references.absolute()])
    if not by_depth or is_newer(predictions, by_depth.values()):
        return ScoredFolders({0: _evaluate_folder(predictions, expected, progress, sharing)})
    folders = {depth: by_depth[depth] for depth in sorted(by_depth)}
    scored = {depth: _evaluate_folder(each, expected, progress, sharing, each.name) for depth, each in folders.items()}
    return ScoredFolders(scored, folders)


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
        depths = {depth: name_row(self.by_depth[depth]).merge(found.metrics.mean) for depth, found in scores.items()}
        problems = tuple(problem for found in scores.values() for problem in found.problems)
        return FolderScores(last.metrics.merge(Metrics(depths=depths)), problems, last.notes)


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
        which = f"share {missing[0]}" if len(missing) == 1 else f"shares {list_some(missing)}"
        verb = "is" if len(missing) == 1 else "are"
        waits = f"{which} of {sharing.part.count} {verb} not there yet: these are scores of the others"
        return FolderScores(summarize(scores, self.classes), problems, (*([waits] if missing else []), *self.notes))


def _evaluate_folder(
    folder: Path, references: References, progress: Show, sharing: ScoreSharing, name: str = ""
) -> _ScoredFolder:
    record = read_record(folder) or PredictionRecord()
    files = rename_as(references.cases, find_predictions(folder, record.files))
    cases, problems = name_after_predictions(files, references.cases)
    stems = sorted(files.keys() & cases.keys())
    unpaired, left = find_unpaired(folder, Path(references.declared.where), files, cases, record)
    problems += unpaired
    pairs = [_Pair(stem, files[stem], cases[stem]) for stem in stems]
    match = _match(folder, references, pairs, record, sharing)
    problems += match.problems
    refused, named = {problem.where for problem in match.problems}, record.regions or references.regions
    task = _ScorePair(match, references.reading, _list_indices(named, match.reference_classes))
    todo = [pair for pair in sharing.part.choose(pairs) if name_label(pair.case) not in refused]
    scored, failed = _score_pairs(todo, task, progress, sharing)
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

    def identify(self, pair: _Pair) -> str:
        """Digest the files of a pair, and how they are compared."""
        how = replace(self.match, problems=[], notes=[]), self.reading, self.regions
        return identify_case([pair.file, *pair.case.labels, *pair.case.images], (pair.id, _describe(pair.case), how))


def _score_pairs(
    pairs: Sequence[_Pair], task: _ScorePair, progress: Show, sharing: ScoreSharing
) -> tuple[list[CaseScore], list[Problem]]:
    """Score pairs; problems are in their order, whichever ended first."""
    records = sharing.records
    outcomes = list(
        records.run(sharing.engine, task, pairs, CaseScore, name=SCORE, identify=task.identify, progress=progress)
    )
    scores = [outcome.value for outcome in outcomes if not outcome.problems]
    return scores, [problem for outcome in outcomes for problem in outcome.problems]


def _match(
    folder: Path, references: References, pairs: Sequence[_Pair], record: PredictionRecord, sharing: ScoreSharing
) -> Match:
    """Measure all labels of both sides, and find how to read them. Raises DataError for what stays ambiguous."""
    recorded = _read_recorded(record)
    expected = _measure(references.reading, [pair.case for pair in pairs], sharing)
    predicted = [Case(pair.file.name, (), (pair.file,)) for pair in pairs]
    got = _measure(AS_FILES_SAY, predicted, sharing, closely=recorded is None)
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


def _measure(
    reading: ReadPlan, cases: Sequence[Case], sharing: ScoreSharing, closely: bool = True
) -> dict[str, LabelFacts]:
    """Measure each readable label; unreadable ones are reported when they are scored."""
    task = partial(_measure_label, reading=reading, closely=closely)

    def identify(case: Case) -> str:
        return identify_case([*case.labels, *case.images], (_describe(case), reading, closely))

    outcomes = sharing.records.run(sharing.engine, task, cases, LabelFacts, name="measure", identify=identify)
    return {name_label(outcome.unit): outcome.value for outcome in outcomes if not outcome.problems}


def _describe(case: Case) -> Case:
    """Describe what a case is of its files."""
    return replace(case, images=(), labels=(), neighbors=(), group=None)


def _measure_label(case: Case, reading: ReadPlan, closely: bool) -> LabelFacts:
    return measure_label(read_case_label(case, reading), is_medical(case.labels[0]), closely)


def _read_recorded(record: PredictionRecord) -> Recorded | None:
    """Read the classes that `unetpp predict` recorded; None without them."""
    if not len(record.classes) == len(record.label_values) >= 2:
        return None
    plan = record.labels if "labels" in record.model_fields_set or not record.instances else LabelPlan(kind="objects")
    return Recorded(Classes(record.classes, record.label_values), plan)
