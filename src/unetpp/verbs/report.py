"""The verb `report`: the page of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unetpp.console import shows_progress
from unetpp.progress import SILENCE, Progress, ShowProgress, Silence
from unetpp.results import Reported
from unetpp.run_folder import RunFolder
from unetpp.verbs.arguments import AnyPath


@shows_progress
def report(run: AnyPath, *, progress: ShowProgress = None) -> Reported:
    """Write an HTML report: curves, scores, overlays, depth table.

    What training left unmeasured, because its time was over, is measured first; this needs the images and masks.
    plan.html is completed, too.

    Args:
        run: Run folder.

    Example:
        unetpp.report("runs/nuclei")
    """
    from unetpp.verbs.finish import finish_folds
    from unetpp.verbs.plan_page import complete_plan_page

    progress = progress or Silence()
    folder = RunFolder(Path(run))
    notes = (*finish_folds(folder, progress), *complete_plan_page(folder, progress))
    return replace(write_page(Path(run), progress), notes=notes)


def write_page(run: Path, progress: Progress = SILENCE) -> Reported:
    """Write the report of what was measured.

    Args:
        run: run folder.
        progress: display.

    Returns:
        The page, and what it leaves out.
    """
    from unetpp.report import write_report

    progress.stage("Writing the report")
    return Reported(*write_report(run))
