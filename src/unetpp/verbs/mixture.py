"""A training on new cases and on those that the model knows, from which it goes on."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from unetpp.errors import UsageError
from unetpp.files import write_json
from unetpp.json_files import read_json
from unetpp.layouts.cases import find_cases
from unetpp.layouts.dataset_json import NAME as DATASET_JSON
from unetpp.planning.planner import Start
from unetpp.progress import Progress
from unetpp.replay import mix
from unetpp.run_folder import RunFolder
from unetpp.verbs.request import Request

FOLDER = "mixture"
SOURCE = "source.json"
"""File beside the mixture that says of which cases it is."""


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
        The mixture, whose name is that of the model's data, and the request with the weights of its cases.

    Raises:
        DataError: cases that cannot be read, or too few.
        UsageError: no model to go on from, a dry run, which writes nothing, or a mixture of other cases.
    """
    source = {"data": str(data.absolute()), "cases": sorted(case.id for case in find_cases(data, tolerant=True).cases)}
    made = next(iter(sorted((run.path / FOLDER).glob(f"*/{DATASET_JSON}"))), None) if run.plan.exists() else None
    if made is not None:
        if _read_source(made.with_name(SOURCE)) != source:
            got, expected = "other cases than those that its mixture is of", "the same ones"
            raise UsageError("replay", f"{run.path}, and {got}", expected, "Choose another `out` for others.")
        return made.parent, request
    if start is None:
        raise UsageError("replay", "no model", "`from_=MODEL`: one that knows cases", "Name the model.")
    if dry_run:
        raise UsageError("replay", "`dry_run`", "a training: the mixture is written first", "Leave one of them out.")
    mixture = mix(data, start.file, run.path / FOLDER / _name_folder(start.plan.name), start.plan.data)
    write_json(mixture.folder / SOURCE, source)
    progress.note(f"Learns from {mixture.describe()}")
    return mixture.folder, replace(request, settings={**mixture.settings, **request.settings})


def _read_source(path: Path) -> object:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def _name_folder(name: str) -> str:
    """Name the folder of a mixture after the data of its model, which name the new model too."""
    return re.sub(r"[^\w.\- ]", "_", name).strip(" .") or "data"
