"""The verb `report`: the page of a run."""

from __future__ import annotations

from pathlib import Path

from unetpp.progress import Progress, Silence
from unetpp.results import (
    Reported,
)
from unetpp.verbs.arguments import AnyPath


def report(run: AnyPath, *, progress: Progress | None = None) -> Reported:
    """Write an HTML report: curves, scores, overlays, depth table.

    Args:
        run: Run folder.

    Example:
        unetpp.report("runs/nuclei")
    """
    from unetpp.report import write_report

    (progress or Silence()).note("Writing the report.")
    return Reported(*write_report(Path(run)))
