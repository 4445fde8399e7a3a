"""The page of a plan: made with it in bounded time, completed later."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from unetpp.data.case_facts import CaseFacts
from unetpp.data.case_files import close_whole_files, read_case_classes, read_case_image
from unetpp.data.fold_proof import prove_folds
from unetpp.data.folds import Split, read_splits
from unetpp.labels.classes import ignored_index
from unetpp.layouts.dataset import Case
from unetpp.measure.label_study import study_labels
from unetpp.plan import Plan, read_plan
from unetpp.planning.odd_cases import find_odd_cases
from unetpp.progress import Progress
from unetpp.report.pictures import draw_view
from unetpp.report.plan_page import hash_text, read_state, write_plan_page
from unetpp.report.plan_plots import plot_intensities
from unetpp.report.plan_record import CasePicture, PlanRecord
from unetpp.report.plan_words import summarize_record
from unetpp.report.views import make_view
from unetpp.results import Planned
from unetpp.run_folder import RunFolder
from unetpp.verbs.preparation import ReadData, estimate_cost, read_data
from unetpp.version import __version__

SHARE = 0.03
"""Largest fraction of the minutes of a training for what the page measures."""
MOST_SECONDS = 30.0
"""Time that it measures at most, whatever the minutes."""
_SHARE_FOR_LABELS = 0.6
_SECONDS_TO_LOAD = 1.0
"""Time to load what draws."""
_SECONDS_PER_VOXEL = 1e-7
"""Time to read and draw a voxel of a picture, about."""
ODD_PICTURES = 3


def make_plan_page(
    folder: RunFolder, found: ReadData, splits: Sequence[Split], planned: Planned, progress: Progress
) -> Planned:
    """Write RUN/plan.html in bounded time; whatever fails, the plan is made.

    Args:
        folder: run folder.
        found: the data.
        splits: cases of each fold.
        planned: the plan and its costs.
        progress: display.

    Returns:
        `planned`, with the short form of the page.
    """
    minutes = planned.plan.train.minutes
    seconds = min(MOST_SECONDS, 60 * SHARE * minutes * planned.folds) if minutes else MOST_SECONDS
    try:
        record = make_record(folder, found, splits, planned, seconds, progress)
        write_plan_page(record, folder.plan_page)
    except Exception as error:
        progress.note(f"note: no page of the plan was written ({error})")
        return planned
    finally:
        close_whole_files()
    return replace(planned, page=folder.plan_page, summary=summarize_record(record))


def has_plan_page(folder: RunFolder, plan: Plan) -> bool:
    """Tell whether RUN/plan.html is that of a plan and of the splits of the run."""
    state = read_state(folder.plan_page)
    return state is not None and state[0] == _identify(folder, plan)


def complete_plan_page(folder: RunFolder, progress: Progress) -> tuple[str, ...]:
    """Make the page of a plan again if the time of the training left parts of it out.

    Args:
        folder: run folder.
        progress: display.

    Returns:
        Why that is not possible, in words.
    """
    state = read_state(folder.plan_page)
    if not state or not state[1]:
        return ()
    where = folder.recall_data()
    try:
        plan = read_plan(folder.plan)
        found = read_data(Path(where), {}, progress, folder)
        splits = read_splits(folder.splits, validated=False)
        planned = estimate_cost(Path(where), folder, plan, splits[0])
        write_plan_page(make_record(folder, found, splits, planned, MOST_SECONDS, progress), folder.plan_page)
    except Exception as error:  # of the data, as a rule: the report of the run is written all the same
        return (f"{folder.plan_page.name} stays as it is; the data in {where} cannot be used ({error})",)
    finally:
        close_whole_files()
    return ()


def make_record(
    folder: RunFolder,
    found: ReadData,
    splits: Sequence[Split],
    planned: Planned,
    seconds: float,
    progress: Progress,
) -> PlanRecord:
    """Collect what the page shows; what the seconds do not suffice for is left out, and named.

    Args:
        folder: run folder.
        found: the data.
        splits: cases of each fold.
        planned: the plan and its costs.
        seconds: time for what is measured and drawn.
        progress: display.

    Raises:
        DataError: a file cannot be read any more.
    """
    until, data = time.monotonic() + seconds, planned.plan.data
    facts = found.inspection.facts
    digests = ((f.id, f.digest) for f in facts if f.minimum != f.maximum)
    proof = prove_folds(found.dataset, splits, digests, found.list_classes())
    record = PlanRecord(
        found.dataset,
        found.inspection,
        found.fingerprint,
        planned,
        proof,
        find_odd_cases(found.inspection),
        versions=_list_versions(planned.plan, folder),
        identity=_identify(folder, planned.plan),
    )
    left_out = []
    if seconds > _SECONDS_TO_LOAD:
        show = progress.stage("Measuring what the grid does to labels", "labels")
        study = study_labels(found.dataset.cases, data, _SHARE_FOR_LABELS * seconds, show)
        record = replace(record, study=study)
    if record.study is None or (seconds < MOST_SECONDS and record.study.labeled and not record.study.studied):
        left_out.append("what the grid does to labels")
    if until - time.monotonic() > _SECONDS_TO_LOAD:
        record = replace(record, histograms=tuple(plot_intensities(found.inspection, data)))
    else:
        left_out.append("histograms of intensities")
    pictures, missing = _draw_cases(record, until)
    left_out += [f"{missing} of the pictures"] if missing and seconds < MOST_SECONDS else []
    return replace(record, pictures=tuple(pictures), left_out=tuple(left_out))


def _draw_cases(record: PlanRecord, until: float) -> tuple[list[CasePicture], int]:
    """Draw a typical case and the oddest ones, as many as the time allows; and count those that it does not."""
    cases, facts = {case.id: case for case in record.dataset.cases}, {fact.id: fact for fact in record.inspection.facts}
    why_drawn: dict[str, str] = {}
    for kind in record.odd.kinds:
        why_drawn.setdefault(kind.ids[0], kind.reason)
    for case in record.odd.cases:
        why_drawn.setdefault(case.id, case.reasons[0])
    chosen = list(why_drawn.items())[:ODD_PICTURES]
    odd = {case.id for case in record.odd.cases}.union(*(kind.ids for kind in record.odd.kinds))
    usual = [fact for fact in record.inspection.facts if fact.id not in odd and fact.label is not None]
    if usual:
        middle = sorted(usual, key=lambda fact: (prod(fact.shape), fact.id))[len(usual) // 2]
        chosen = [(middle.id, "a typical case"), *chosen]
    pictures, missing = [], 0
    for number, (name, why) in enumerate(chosen):
        fact = facts[name]
        if time.monotonic() + _SECONDS_PER_VOXEL * prod(fact.shape) * fact.channels > until:
            missing += 1
        else:
            pictures.append(_draw_case(cases[name], fact, record.planned.plan, why, f"image-{number}"))
    return pictures, missing


def _draw_case(case: Case, fact: CaseFacts, plan: Plan, why: str, name: str) -> CasePicture:
    image = read_case_image(case, plan.data)
    label = read_case_classes(case, plan.data) if case.labels else np.zeros(fact.shape, np.uint8)
    label = np.where(label == ignored_index(plan.data.num_classes), 0, label)
    view = make_view(case.id, image, label, np.zeros_like(label))
    svg = draw_view(view, plan.data.num_classes, name, compares=False)
    return CasePicture(case.id, why, view.slice, view.shape_ratio, svg)


def _identify(folder: RunFolder, plan: Plan) -> str:
    return hash_text(plan.to_json() + (folder.splits.read_text(encoding="utf-8") if folder.splits.is_file() else ""))


def _list_versions(plan: Plan, folder: RunFolder) -> tuple[tuple[str, str], ...]:
    """List programs with their versions, and the files of the plan with the beginnings of their hashes (SHA-256)."""
    import torch

    files = [path for path in (folder.fingerprint, folder.splits) if path.is_file()]
    return (
        ("unetpp", __version__),
        ("PyTorch", torch.__version__),
        ("Python", platform.python_version()),
        ("plan.json", hash_text(plan.to_json())),
        *((path.name, hash_text(path.read_text(encoding="utf-8"))) for path in files),
        ("seed", str(plan.train.seed)),
    )
