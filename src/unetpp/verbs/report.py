"""The verb `report`: the page of a run."""

from __future__ import annotations

from pathlib import Path

from unetpp.console import shows_progress
from unetpp.progress import ShowProgress, Silence
from unetpp.results import (
    Reported,
)
from unetpp.verbs.arguments import AnyPath


@shows_progress
def report(run: AnyPath, *, progress: ShowProgress = None) -> Reported:
    """Write an HTML report: curves, scores, overlays, depth table.

    Args:
        run: Run folder.

    Example:
        unetpp.report("runs/nuclei")
    """
    from unetpp.report import read_run, write_report

    (progress or Silence()).stage("Writing the report")
    record = read_run(Path(run))
    return Reported(write_report(Path(run), record), record.left_out)
