"""The folder of a selection: the model files of its members, select.json and the page."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from unetpp.deploy.select.runs import ComparedRun
from unetpp.errors import UsageError, WriteError
from unetpp.files import write_json
from unetpp.run_folder import MODEL, list_first_stage
from unetpp.selection import SELECTED, Selection, is_selection


def require_free(out: Path) -> None:
    """Raise UsageError for a place that holds something else than an earlier selection."""
    if out.exists() and not is_selection(out) and not (out.is_dir() and not any(out.iterdir())):
        got = f"{out}, which holds something else"
        raise UsageError("out", got, "a new folder, or one of an earlier selection", "Choose another name.")


def write_folder(selection: Selection, runs: Sequence[ComparedRun], out: Path) -> Selection:
    """Write the folder: all of it or nothing. An earlier selection at `out` is replaced.

    Args:
        selection: what was chosen.
        runs: the runs that were compared.
        out: the folder.

    Returns:
        The selection with the files of its members.

    Raises:
        WriteError: it could not be written; what was at `out` is intact.
    """
    by_name = {run.name: run for run in runs}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unetpp-", dir=out.parent, ignore_cleanup_errors=True) as name:
            draft = Path(name) / "new"
            members = []
            for number, member in enumerate(selection.members, start=1):
                files = [f"model_{number}/fold_{fold}/{MODEL}" for fold in by_name[member.run].files]
                for file, source in zip(files, by_name[member.run].files.values(), strict=True):
                    (draft / file).parent.mkdir(parents=True)
                    shutil.copyfile(source, draft / file)
                    for first in list_first_stage(source.parent):  # of a cascade
                        target = (draft / file).parent / first.relative_to(source.parent)
                        target.parent.mkdir(parents=True)
                        shutil.copyfile(first, target)
                members.append(member.model_copy(update={"files": tuple(files)}))
            complete = selection.merge(Selection(members=tuple(members)))
            write_json(draft / SELECTED, complete.to_dict())
            _take_place(draft, out, Path(name) / "old")
    except OSError as error:
        action = "Free some space, or choose another `out`. What was there before is intact."
        raise WriteError(out, error.strerror or str(error), "to write it", action, setting="out") from error
    return complete


def _take_place(draft: Path, out: Path, old: Path) -> None:
    """Move the new folder to its place, and what was there aside; if that fails, it comes back."""
    if out.exists():
        out.rename(old)
    try:
        draft.rename(out)
    except BaseException:
        if old.exists():
            old.rename(out)
        raise
