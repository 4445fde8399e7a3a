"""The page of a plan as self-contained HTML: the data, every choice with its reason, costs, and what was not done."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from datetime import date
from pathlib import Path

from unetpp.files import write_text
from unetpp.report import plan_words
from unetpp.report.page import render_page
from unetpp.report.pictures import list_colors
from unetpp.report.plan_record import (
    PlanRecord,
    describe_air,
    join_sizes,
    tabulate_ceiling,
    tabulate_folds,
    tabulate_intensities,
    tabulate_sight,
    tabulate_sizes,
    tabulate_structures,
)
from unetpp.results import Planned, describe_parameters
from unetpp.words import count_noun, list_some

TEMPLATE = "plan.html.j2"
_STATE = re.compile(r'<html lang="en" data-plan="([0-9a-f]*)" data-left-out="(\d+)">')
MOST_ODD = 20
"""Largest number of odd cases that are listed."""


def write_plan_page(record: PlanRecord, path: Path) -> None:
    """Write the page of a plan; raises WriteError."""
    write_text(path, render_plan_page(record))


def hash_text(text: str) -> str:
    """Hash a text, to tell on paper which file it was."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_state(path: Path) -> tuple[str, int] | None:
    """Read from a page the hash of its plan and splits, and how many parts it left out; None: there is no page."""
    with suppress(OSError, ValueError), path.open(encoding="utf-8") as file:
        if found := _STATE.search(file.read(300)):
            return found[1], int(found[2])
    return None


def render_plan_page(record: PlanRecord) -> str:
    """Render the page as HTML."""
    plan, f, study = record.planned.plan, record.fingerprint, record.study
    return render_page(
        TEMPLATE,
        record=record,
        plan=plan,
        f=f,
        subtitle=_subtitle(record),
        headline=_headline(record),
        sizes=tabulate_sizes(record),
        intensities=tabulate_intensities(record),
        structures=tabulate_structures(record),
        ceiling=tabulate_ceiling(record),
        ceiling_words=_describe_ceiling(record),
        sight=tabulate_sight(record),
        studied=f"{count_noun(study.studied, 'label')} of {study.labeled}" if study else "",
        folds=tabulate_folds(record),
        proof=plan_words.describe_proof(record),
        shared=list_some(sorted({name for fold in record.proof.folds for name in fold.shared}), 10),
        air=describe_air(record),
        notes=f.notes,
        excluded=plan_words.list_excluded(record),
        odd=record.odd.cases[:MOST_ODD],
        kinds=plan_words.list_kinds(record),
        legend=list_colors(plan.data.classes)[: plan.data.num_classes - 1],
        patch=plan_words.describe_patch(record),
        grid=join_sizes(record.grid),
        target=join_sizes(plan.data.spacing_mm or ()),
        groups=plan_words.group_choices(plan),
        defaults=plan_words.list_defaults(plan),
        not_done=plan_words.list_not_done(record),
        flagged=plan_words.describe_range(plan),
        costs=_list_costs(record),
        today=date.today().isoformat(),
    )


def _subtitle(record: PlanRecord) -> str:
    plan = record.planned.plan
    kind = "images" if plan.data.dims == 2 else "volumes"
    channels = ", ".join(plan.data.channels)
    return f"Plan of a segmentation of {list_some(plan.data.scored, 8)} in {plan.data.dims}D {kind} ({channels})"


def _headline(record: PlanRecord) -> list[tuple[str, str, str]]:
    """Title, number and remark of the tiles."""
    planned, proof = record.planned, record.proof
    patients = ("patients", "unknown", "each case counts as one")
    if proof.groups < proof.cases:
        patients = ("patients", f"{proof.groups:,}", f"{proof.shared} on both sides of a fold")
    if planned.plan.train.minutes:
        length = ("minutes", f"{planned.train_minutes:g}", "scoring included")
    else:
        length = ("steps", _count_steps(record), planned.describe_minutes() or "no limit of time")
    return [
        (
            "cases",
            f"{record.fingerprint.cases:,}",
            f"{planned.training_cases} train, {planned.validation_cases} validate",
        ),
        patients,
        ("memory", f"{planned.train_memory_mb / 1000:.2g} GB", "of a training step, predicted"),
        length,
    ]


def _describe_prediction(planned: Planned) -> list[tuple[str, str]]:
    if planned.predict_memory_mb is None:
        return []
    predict = planned.plan.predict
    tiles = f"{count_noun(predict.batch, 'tile')} of {' x '.join(map(str, predict.tile))} voxels"
    return [("Memory of a prediction", f"{planned.predict_memory_mb:,.0f} MB for {tiles}, beside the image; predicted")]


def _count_steps(record: PlanRecord) -> str:
    train = record.planned.plan.train
    return f"{train.epochs * train.steps_per_epoch * record.planned.folds:,}"


def _describe_ceiling(record: PlanRecord) -> str:
    """Say what the ceiling is, or why there is none."""
    study = record.study
    if record.planned.plan.data.spacing_mm is None:
        return "The network works on the voxels of the files, so that nothing is lost by resampling."
    if study is None or not study.studied:
        return "How much of the labels the grid can hold was not measured."
    if not study.resampled:
        return f"None of the {study.studied} labels that were looked at is resampled: the grid is that of their files."
    text = (
        f"Labels were brought to the network's grid and back, as training and prediction do: "
        f"{count_noun(study.resampled, 'label')} that the plan resamples, of {study.studied} looked at. "
        "No network on this grid scores better."
    )
    return text + (f" {count_noun(study.too_large, 'label')} would have taken too long." if study.too_large else "")


def _list_costs(record: PlanRecord) -> list[tuple[str, str]]:
    planned, train = record.planned, record.planned.plan.train
    steps = count_noun(train.epochs * train.steps_per_epoch, "step")
    if train.minutes:
        length = f"{planned.train_minutes:g} minutes, scoring included"
    else:
        length = ", ".join(filter(None, [f"not limited: {steps}", planned.describe_minutes()]))
    values = record.fingerprint.voxels * len(planned.plan.data.channels)
    return [
        ("Network", describe_parameters(planned.parameters, planned.plan.model)),
        ("Memory of a training step", f"{planned.train_memory_mb:,.0f} MB, predicted from the plan"),
        *_describe_prediction(planned),
        *([("First stage", planned.describe_first())] if planned.first else []),
        ("Time", length),
        ("Folds", f"{planned.folds} of {len(record.proof.folds)} are trained"),
        ("Prepared cases on disk", f"about {2 * values / 1e6:,.0f} MB and the labels, before resampling"),
        ("Why", planned.plan.reasons.get("train.minutes") or planned.plan.reasons.get("model.widths", "")),
    ]
