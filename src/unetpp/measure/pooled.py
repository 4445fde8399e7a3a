"""Scores of several folds as those of one set of cases: every case was validated by one of them. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from unetpp.infer.calibration import calibrate_together
from unetpp.infer.prediction import MEAN
from unetpp.measure.choose_depth import recommend_depth
from unetpp.measured import ClassScores, DepthRow, DepthTable, MeanScores, Recommendation, ScoredCase, Scores
from unetpp.metrics.scores import METRICS, bootstrap_interval, compare_volumes, compute_dice_losses, mean_of
from unetpp.model_notes import Metrics, Notes, count_surfaces
from unetpp.run_folder import RunFolder


def pool_run(run: RunFolder) -> Metrics | None:
    """Pool the scores of all folds of a run that have some; None without any."""
    found = [metrics for fold in run.started_folds() if (metrics := run.model_metrics(fold)) is not None]
    return pool_folds(found) if found else None


def recommend_size(model: Path, notes: Sequence[Notes]) -> Recommendation | None:
    """Recommend a size of a model as `info` does: by the scores of all folds of a run, of a single file by its own.

    Args:
        model: run folder or model file.
        notes: those of each of its model files.
    """
    if pooled := pool_run(RunFolder(model)):
        return pooled.recommended
    return recommend_depth(notes[0]) if len(notes) == 1 else None


def pool_folds(folds: Sequence[Metrics]) -> Metrics:
    """Pool the validation cases of several folds, and recommend a depth by all of them.

    Args:
        folds: content of metrics.json of each fold; a single one is returned as it is.

    Returns:
        Means over all cases; costs of the first fold; a calibration over all cases where each fold has too few. The
        recommended depth is left out where a network has not learned
        or the cases have no Dice at every depth, as those of earlier versions; or some are not scored yet.
    """
    if len(folds) == 1:
        return folds[0]
    cases = [case for fold in folds for case in fold.cases]
    counts = [fold.scored or (len(fold.cases), len(fold.cases)) for fold in folds]
    scored = (sum(own for own, _ in counts), sum(count for _, count in counts))
    table = _pool_tables(folds, cases)
    table = table.merge(DepthTable(scored=scored, surfaces_scored=(count_surfaces(cases), scored[1])))
    not_learned = next((fold.verdict for fold in folds if fold.verdict and not fold.verdict.learned), None)
    compared = all(row.dice_lost_interval for row in table.depths.values())
    first = folds[0]
    return Metrics(
        mean=MeanScores(**_average(case.mean for case in cases)).merge(calibrate_together([f.mean for f in folds])),
        classes={name: _pool_class(cases, name) for name in first.classes},
        cases=cases,
        distance_unit=first.distance_unit,
        nsd_tolerance=first.nsd_tolerance,
        metric_impl=first.metric_impl,
        recommended=recommend_depth(table) if not not_learned and compared else None,
        **({"verdict": not_learned} if not_learned else {}),
    ).merge(table)


def _average(scores: Iterable[Scores]) -> dict[str, object]:
    """Average the scores of cases, with the interval of the Dice."""
    found = list(scores)
    dice = [each.dice for each in found if each.dice is not None]
    means = {metric: mean_of(getattr(each, metric) for each in found) for metric in METRICS}
    return {**means, "dice_interval": bootstrap_interval(dice)}


def _pool_class(cases: Sequence[ScoredCase], name: str) -> ClassScores:
    scores = [case.classes[name] for case in cases if name in case.classes]
    means = ClassScores(**_average(scores), cases=sum(each.dice is not None for each in scores))
    return means.merge(compare_volumes(scores))


def _pool_tables(folds: Sequence[Metrics], cases: Sequence[ScoredCase]) -> DepthTable:
    """Average the rows of the folds by their numbers of cases; Dice and its loss exactly, where cases have them."""
    measured = [(_rows(fold), len(fold.cases)) for fold in folds if fold.depths]
    counts = [{name: each.cases or 0 for name, each in fold.classes.items()} for fold in folds if fold.depths]
    if not measured:
        return DepthTable()
    rows = {}
    for depth, row in measured[0][0].items():
        own = [(each.get(depth, DepthRow()), count) for each, count in measured]
        classes = _average_classes([(fold, count) for (fold, _), count in zip(own, counts, strict=True)])
        found = row.costs().merge(_average_rows(own)).merge(DepthRow(classes=classes) if classes else DepthRow())
        exact = all({depth, *folds[0].depths} <= case.depths.keys() for case in cases)
        rows[depth] = found.merge(_compare_cases(cases, depth, max(folds[0].depths))) if exact else found
    mean = rows.pop(MEAN, None)
    first = next(fold for fold in folds if fold.depths)
    return DepthTable(depths=rows, mean_of_heads=mean, conditions=first.conditions, machine=first.machine)


def _rows(fold: Metrics) -> dict[int, DepthRow]:
    return dict(fold.depths) | ({MEAN: fold.mean_of_heads} if fold.mean_of_heads else {})


def _compare_cases(cases: Sequence[ScoredCase], depth: int, deepest: int) -> DepthRow:
    """Compare a depth with the deepest, case by case."""
    own, reference = ([case.depths[at] for case in cases] for at in (depth, deepest))
    lost = compute_dice_losses(reference, own)
    dice = [each for each in own if each is not None]
    return DepthRow(
        dice=mean_of(dice),
        dice_interval=bootstrap_interval(dice),
        dice_lost=mean_of(lost),
        dice_lost_interval=bootstrap_interval(lost),
    )


def _average_classes(rows: Sequence[tuple[DepthRow, Mapping[str, int]]]) -> dict[str, Scores]:
    """Average the Dice of each class at one depth over folds, each with the number of cases that have the class."""
    found: dict[str, list[tuple[float, int]]] = {}
    for row, counts in rows:
        for name, scores in row.classes.items():
            if scores.dice is not None and counts.get(name):
                found.setdefault(name, []).append((scores.dice, counts[name]))
    return {
        name: Scores(dice=sum(dice * cases for dice, cases in each) / sum(cases for _, cases in each))
        for name, each in found.items()
    }


def _average_rows(rows: Sequence[tuple[DepthRow, int]]) -> DepthRow:
    """Average the scores of one depth over folds, each with its number of cases."""
    means: dict[str, float | None] = {}
    for metric in (*METRICS, "dice_lost"):
        found = [(value, cases) for row, cases in rows if (value := getattr(row, metric)) is not None]
        total = sum(cases for _, cases in found)
        means[metric] = sum(value * cases for value, cases in found) / total if total else None
    row = DepthRow(**means, hd95_undefined=sum(row.hd95_undefined or 0 for row, _ in rows))
    return row.merge(calibrate_together([each for each, _ in rows]))
