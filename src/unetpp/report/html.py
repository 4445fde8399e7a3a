"""The report as self-contained HTML: verdict, curves, scores and pictures of cases, the depth table and the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from unetpp.dial import describe_size, label_row, list_remarks, noun_of
from unetpp.files import write_text
from unetpp.measure.curves import read_curves
from unetpp.measure.verdict import SHOWN_BY_REPORT, suggest_command
from unetpp.metrics.scores import METRICS
from unetpp.model_notes import Metrics
from unetpp.plan import Plan
from unetpp.report import plots
from unetpp.report.gallery import Pencil, draw_pictures
from unetpp.report.page import render_page
from unetpp.report.pictures import PANELS, list_colors
from unetpp.report.run_record import FoldRecord, RunRecord, read_run
from unetpp.report.tables import SCORES, tabulate_cases, tabulate_classes, tabulate_depths
from unetpp.results import NEW_IMAGES, describe_parameters, find_worst, list_choices, suggest_prediction
from unetpp.words import count_noun, write_command

REPORT = "report.html"
TEMPLATE = "template.html.j2"
TOPOLOGIES = {"unet++": "UNet++", "unet+": "UNet+", "unet_e": "U-Net ensemble", "unet": "U-Net"}
SHOWN = 12
"""Number of the worst cases whose pictures are open at first."""


class Written(NamedTuple):
    """A report that was written."""

    path: Path
    left_out: tuple[str, ...]
    """What it leaves out, because it cannot be read or drawn."""


def write_report(run: Path) -> Written:
    """Write RUN/report.html; an unfinished run is reported as far as it got, a damaged one as far as it can be read.

    Whatever the number of cases, the page is of bounded size: see `PICTURE_CHARACTERS` and `MOST_CELLS`.

    Raises:
        UsageError: not a run folder, or no fold has started.
        PlanError: its plan cannot be used.
        WriteError: the file could not be written.
    """
    text, left_out = render(read_run(run))
    write_text(run / REPORT, text)
    return Written(run / REPORT, left_out)


def render(run: RunRecord) -> tuple[str, tuple[str, ...]]:
    """Render the report as HTML, and list what it leaves out."""
    pencil = Pencil()
    content = {**_describe(run), **_draw(run, pencil)}
    left_out = (*run.left_out, *pencil.failed)
    return render_page(TEMPLATE, **content, left_out=left_out), left_out


def _describe(run: RunRecord) -> dict[str, Any]:
    """Words and tables of the template."""
    plan, found, single = run.plan, run.pooled, len(run.folds) == 1
    unit, number = _distance_unit(found), plan.predict.depth
    return {
        "run": run,
        "plan": plan,
        "subtitle": _subtitle(plan, run.parameters),
        "verdicts": run.verdicts,
        "next_steps": _list_next_steps(run),
        "worst": run.ranked[: len(find_worst([case for _, case in run.ranked]))],
        "headline": _headline(run, unit) if run.cases else [],
        "unit": unit,
        "found": found,
        "distances": _describe_distances(found),
        "noun": noun_of(found),
        "depth_table": tabulate_depths(found, unit),
        "remarks": list_remarks(found),
        "class_table": tabulate_classes(found, unit),
        "has_limits": any(scores.volume_limits for scores in found.classes.values()),
        "case_table": tabulate_cases(run.ranked, plan.data.scored, unit),
        "chosen": describe_size(found, number),
        "chosen_row": label_row(found, number),
        "recommended": run.recommended,
        "recommended_size": run.recommended and describe_size(found, run.recommended.depth),
        "legend": list_colors(plan.data.classes),
        "single": single,
        "endings": [(fold.number, _ending(fold)) for fold in run.folds],
        "choices": list_choices(plan, plan.reasons),
    }


def _draw(run: RunRecord, pencil: Pencil) -> dict[str, Any]:
    """Pictures of the template."""
    pictures, depth = draw_pictures(run, pencil), run.recommended and run.recommended.depth
    cases = [case for _, case in run.ranked]
    return {
        "panels": PANELS,
        "shown": SHOWN,
        "examples": [picture for picture in pictures if picture.rank],
        "others": [picture for picture in pictures if not picture.rank],
        "pictured": {picture.number for picture in pictures},
        "trade": pencil.draw("the plot of Dice over time per tile", plots.plot_trade, run.pooled, depth),
        "sorted_cases": pencil.draw("the plot of the Dice of every case", plots.plot_cases, cases),
        "training": pencil.draw("the plot of loss and Dice", plots.plot_training, run.folds, run.plan.model),
        "pace": pencil.draw("the plot of learning rate and throughput", plots.plot_pace, run.folds),
    }


def _list_next_steps(run: RunRecord) -> list[tuple[str, str]]:
    """What to do next in words, and the command for it."""
    steps = []
    if run.resume:
        steps.append(("Continue it. DATA is the data set.", run.resume))
    verdict = run.verdict
    if run.cascade:  # what its first stage needs is judged by the scores of the whole
        steps.append(("See how the cascade stands.", write_command("report", run.cascade)))
    elif verdict and not verdict.is_settled and verdict.kind not in SHOWN_BY_REPORT:
        steps.append((f"{verdict.advice} DATA is the data set.", suggest_command(verdict, run.path)))
    if unfinished := list(dict.fromkeys(text for fold in run.folds for text in fold.metrics.unfinished)):
        words = f"Measure the rest, for which the time was over: {'; '.join(unfinished)}."
        steps.append((words, write_command("report", run.path)))
    if run.cases:
        command = suggest_prediction(run.path, run.pooled.merge(Metrics(recommended=run.recommended)))
        steps.append((f"Segment other images: {NEW_IMAGES} is a folder of them.", command))
    return steps


def _describe_distances(found: Metrics) -> str:
    """Say how distances between surfaces were computed; empty if that is unknown."""
    name = found.metric_impl or ""
    if name.endswith(" voxel"):  # as an earlier version wrote it
        name = f"voxel centers, by {name.removesuffix(' voxel')}"
    return name and f"distances between {name}"


def _subtitle(plan: Plan, parameters: int | None) -> str:
    channels = plan.data.channels
    parts = [
        f"{TOPOLOGIES[plan.model.topology]} of depth {plan.model.depth}",
        f"{plan.data.dims}D",
        f"{len(channels)} channel{'s' * (len(channels) != 1)} ({', '.join(channels)})",
    ]
    return " · ".join([*parts, *([describe_parameters(parameters, plan.model)] if parameters else [])])


def _headline(run: RunRecord, unit: str) -> list[tuple[str, str, str]]:
    """Title, number and remark of the mean scores and of the number of cases."""
    mean = run.pooled.mean
    remarks = {"hd95_mm": unit, "nsd": f"within {run.pooled.nsd_tolerance or 1:g} {unit.removesuffix('s')}"}
    if mean.dice_interval:
        remarks["dice"] = f"95 % interval {SCORES['dice_interval'].text(mean.dice_interval)}"
    counts = run.pooled.count_cases()
    for metric in {"hd95_mm", "nsd"} & counts.keys():
        remarks[metric] += f", {counts[metric]} cases"
    if "dice" in counts:
        about = f"{counts['dice']} cases, scored after training; in the verdict: validated during training"
        remarks["dice"] = about
    values = {metric: getattr(mean, metric) for metric in METRICS}
    shown = [
        (SCORES[metric].title, SCORES[metric].text(value), remarks.get(metric, ""))
        for metric, value in values.items()
        if value is not None
    ]
    origin = f"{len(run.folds)} folds" if len(run.folds) > 1 else "held out of training"
    scored, partial = str(len(run.cases)), run.pooled.scored
    if partial and not run.pooled.is_scored:
        scored += f" of {partial[1]}"
    return [*shown, ("validation cases", scored, origin)]


def _distance_unit(found: Metrics) -> str:
    unit = found.distance_unit or "mm"
    return "pixels" if unit == "pixel" else unit


def _ending(fold: FoldRecord) -> str:
    """Describe the length and the end of a training, as the predicate of a sentence."""
    reasons = {
        "finished": "finished its schedule",
        "patience": "stopped early, without a better score for a while",
        "interrupted": "was interrupted (unetpp train --resume continues it)",
    }
    reason = next((str(line.get("reason")) for line in reversed(fold.lines("end"))), "")
    text = reasons.get(reason, f"ended: {reason}" if reason else "has not finished yet")
    curves = read_curves(fold.log)
    if not curves.steps:
        return text
    text += f": {count_noun(curves.steps, 'step')}, {curves.seconds / 60:.1f} minutes"
    waiting = next((line["data_wait"] for line in reversed(fold.log) if line.get("data_wait") is not None), None)
    if waiting is not None:
        text += f", {waiting:.1%} of the time waiting for data"
    return text + _describe_memory(fold)


def _describe_memory(fold: FoldRecord) -> str:
    """Say what the last session of a training took of memory; empty where that is not known."""
    device = next((str(line.get("device")) for line in reversed(fold.lines("start"))), "")
    line = next(reversed(fold.lines("end")), {})
    peak, before = line.get("memory_mb"), line.get("memory_before_mb")
    if peak is None or before is None:
        return ""
    whose = "the GPU's memory" if device.startswith("cuda") else "memory in all"
    return f", at most {peak:,.0f} MB of {whose}, {peak - before:,.0f} MB of them in training"
