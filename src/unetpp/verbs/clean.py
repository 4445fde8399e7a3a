"""The verb `clean`: disk space of runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from unetpp.console import shows_progress
from unetpp.errors import UsageError, WriteError
from unetpp.files import hold_lock
from unetpp.progress import ShowProgress
from unetpp.results import Cleaned, CleanedRun
from unetpp.run_folder import FIRST_STAGE, LOCK, RunFolder
from unetpp.verbs.arguments import AnyPath, list_paths


@shows_progress
def clean(runs: AnyPath | Sequence[AnyPath], *, dry_run: bool = False, progress: ShowProgress = None) -> Cleaned:
    """Remove the caches of runs; models, scores, logs and reports stay.

    A cache holds prepared copies of the images, which training makes again where it needs them; so do `unetpp adapt`,
    `unetpp prune --minutes` and 8-bit exports, as long as the images and masks are where training found them.

    Args:
        runs: Run folders, or folders of them, such as runs; of these, runs that are being trained are left alone.
        dry_run: Tell what would be removed; remove nothing.

    Returns:
        The files and their size, for each run, and the runs that were left alone.

    Raises:
        UsageError: a folder that is no run, or a run named by itself that is being trained; nothing was removed.
        WriteError: a file cannot be removed.

    Example:
        unetpp.clean("runs/nuclei")
    """
    paths = list_paths(runs)
    free: list[RunFolder] = []
    left: list[Path] = []
    with ExitStack() as locks:
        for folder in dict.fromkeys(folder for path in paths for folder in _find_runs(path)):
            try:
                locks.enter_context(hold_run(folder))
                free.append(folder)
            except UsageError:
                if folder.path in paths:  # named by itself, not found in a folder of runs
                    raise
                left.append(folder.path)
        return Cleaned(tuple(_clean_run(folder, dry_run) for folder in free), written=not dry_run, left=tuple(left))


def _find_runs(path: Path) -> list[RunFolder]:
    """Return a run, or the runs in a folder; raises UsageError where there is none."""
    inside = sorted(path.iterdir()) if path.is_dir() else []
    for paths in ([path], inside):
        if runs := [run for run in map(RunFolder, paths) if run.plan.is_file() and run.splits.is_file()]:
            return runs
    expected = "a run folder, with plan.json and splits.json, or a folder of them"
    raise UsageError(path, "no run", expected, "Check the path.", setting="runs")


@contextmanager
def hold_run(folder: RunFolder) -> Iterator[None]:
    """Hold a run against trainings: those that begin wait for the lock of its plan, before they use the cache.

    Raises:
        UsageError: a fold of it is being trained.
    """
    with ExitStack() as locks:
        for path in (folder.path, *sorted(folder.path.glob("fold_*/"))):
            if not locks.enter_context(hold_lock(path / LOCK)):
                action = "Wait until it has ended."
                raise UsageError(path, "a run that is being trained", "one at rest", action, setting="runs")
        yield


def _clean_run(folder: RunFolder, dry_run: bool) -> CleanedRun:
    files = folder.disposable_files()
    size = sum(path.stat().st_size for path in files)
    for path in () if dry_run else files:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(path, error.strerror or str(error), "to remove it", "Close what uses it.") from error
    if not dry_run:
        for cache in (folder.cache / FIRST_STAGE, folder.cache):
            with suppress(OSError):  # something else is in it, or it is not there
                cache.rmdir()
    return CleanedRun(folder.path, len(files), size / 1e6)
