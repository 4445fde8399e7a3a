"""A training on new cases and on those that the model knows, from which it goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unetpp.errors import UsageError
from unetpp.layouts.dataset_json import NAME as DATASET_JSON
from unetpp.planning.planner import Start
from unetpp.progress import Progress
from unetpp.replay import mix
from unetpp.run_folder import RunFolder
from unetpp.verbs.request import Request

FOLDER = "mixture"


def add_known(
    data: Path, run: RunFolder, start: Start | None, request: Request, dry_run: bool, progress: Progress
) -> tuple[Path, Request]:
    """Mix new cases with known ones, unless the run has its mixture.

    Args:
        data: the new cases.
        run: the run, for the mixture.
        start: the model.
        request: what the user asks for.
        dry_run: whether nothing may be written.
        progress: is told what is learned from.

    Returns:
        The mixture, and the request with the weights of its cases.

    Raises:
        DataError: cases that cannot be read, or too few.
        UsageError: no model to go on from, or a dry run, which writes nothing.
    """
    folder = run.path / FOLDER
    if run.plan.exists() and (folder / DATASET_JSON).is_file():
        return folder, request
    if start is None:
        raise UsageError("replay", "no model", "`from_=MODEL`: one that knows cases", "Name the model.")
    if dry_run:
        raise UsageError("replay", "`dry_run`", "a training: the mixture is written first", "Leave one of them out.")
    mixture = mix(data, start.file, folder, start.plan.data)
    progress.note(f"Learns from {mixture.describe()}")
    return folder, replace(request, settings={**mixture.settings, **request.settings})
