"""The verb `report`: the page of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unetpp.console import shows_progress
from unetpp.model_notes import Verdict
from unetpp.progress import SILENCE, Progress, ShowProgress, Silence
from unetpp.results import Reported
from unetpp.run_folder import RunFolder
from unetpp.verbs.arguments import AnyPath


@shows_progress
def report(run: AnyPath, *, progress: ShowProgress = None) -> Reported:
    """Write an HTML report: curves, scores, overlays, depth table.

    What training left unmeasured, because its time was over, is measured first; this needs the images and masks.
    plan.html is completed, too.
    Then it says, as `train` does, how the training stands and what to run next.

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
    written = replace(write_page(folder.path, progress), notes=notes)
    verdict, command, state = _find_next(folder)
    return replace(written, verdict=verdict, command=command, state=state)


def _find_next(run: RunFolder) -> tuple[Verdict | None, str, str]:
    """Say how the training stands, what to run next, and without a verdict how far it got; never this report again."""
    from unetpp.measure.pooled import pool_run
    from unetpp.measure.verdict import SHOWN_BY_REPORT, judge_run, suggest_command

    verdict = judge_run(run, run.started_folds())
    if verdict:
        again = verdict.kind in SHOWN_BY_REPORT
        command = "" if again else suggest_command(verdict, run.path, run.recall_data(), pool_run(run))
        return verdict, command, ""
    stopped = [fold for fold in run.folds() if not run.metrics_file(fold).exists()]
    return (None, run.write_resume(stopped[0]), run.describe_state(stopped[0])) if stopped else (None, "", "")


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
