"""Folds of a run that have begun: what may be done with them. Checked before files are read and torch is imported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from unetpp.errors import UsageError
from unetpp.files import hold_lock
from unetpp.run_folder import LOCK, NO_VALIDATION, FoldName, RunFolder
from unetpp.words import write_command

MORE_MINUTES = 10
"""Minutes by which a finished training is suggested to be trained longer, if its verdict has none."""


def check_fold(fold: int | str) -> None:
    """Refuse what can be no fold, before files are read; raises UsageError."""
    if fold not in ("all", NO_VALIDATION) and not (
        str(fold).isascii() and str(fold).isdecimal() and len(str(fold)) < 10
    ):
        raise UsageError("fold", repr(fold), "0, 1, ..., all, or none (every case trains, none validates)")


def parse_folds(fold: int | str, count: int) -> list[FoldName]:
    """List the folds that the user names: "all", "none" or one of 0 to `count` - 1; raises UsageError for any other."""
    if fold == "all":
        return list(range(count))
    if fold == NO_VALIDATION:
        return [NO_VALIDATION]
    if not str(fold).isdecimal() or int(fold) >= count:
        raise UsageError("fold", repr(fold), f"0 to {count - 1}, all, or none")
    return [int(fold)]


def has_started(folder: RunFolder, fold: FoldName) -> bool:
    """Tell whether a fold, or with "all" any of them, has been trained."""
    return bool(folder.started_folds()) if fold == "all" else folder.has_started(fold)


def require_finished(folder: RunFolder, folds: Iterable[FoldName], resume: bool) -> None:
    """Refuse to add to the length of folds that have not begun; raises UsageError."""
    if not resume:
        raise UsageError("resume", "a length with a plus", "`resume=True` with it, to continue a finished run")
    if missing := [fold for fold in folds if not folder.has_started(fold)]:
        got = f"a length with a plus for fold {missing[0]}, which has not begun"
        raise UsageError(folder.path, got, "a trained fold", "Give its whole length, without the plus.", setting="out")


def are_done(folder: RunFolder, folds: Sequence[FoldName], resume: bool, adds: bool, add_cases: bool) -> bool:
    """Tell whether nothing of some folds is left to train.

    Args:
        folder: run folder.
        folds: folds that are to be trained.
        resume: whether they are to be continued.
        adds: whether a length is added to finished ones.
        add_cases: whether new cases are to train, too.

    Raises:
        UsageError: a length is added to folds that have not begun, or cases to those that are finished.
    """
    if adds:
        require_finished(folder, folds, resume)
        return False
    done = all(folder.metrics(fold) for fold in folds)
    if add_cases and done:
        action = 'Give a length with a plus as well, such as `minutes="+10"`.'
        raise UsageError("add_cases", "only folds that have been trained to the end", "one to train", action)
    return done


def require_ready(folder: RunFolder, fold: int | str, resume: bool, adds: bool) -> None:
    """Check what can be known of the folds to train before the data is read.

    Args:
        folder: run folder.
        fold: fold that the user names, or "all": then those that have begun.
        resume: whether they are to be continued.
        adds: whether a length is added to finished ones.

    Raises:
        UsageError: they cannot be trained so.
    """
    if folder.cascade:
        got, expected = "the first stage of a cascade, whose cases are those of one fold", "the run of the cascade"
        raise UsageError(folder.path, got, expected, "Train the whole cascade, into another `out`.")
    folds = folder.started_folds() if fold == "all" else [fold if fold == NO_VALIDATION else int(fold)]
    if adds:
        require_finished(folder, folds or [0], resume)
    if not resume:
        require_at_rest(folder, folds)
    require_unstarted(folder, folds, resume, fold)
    _require_plan(folder)


def require_unstarted(
    folder: RunFolder, folds: Iterable[FoldName], resume: bool, asked: FoldName | None = None
) -> None:
    """Refuse to overwrite trained folds.

    Args:
        folder: run folder.
        folds: folds that are to be trained.
        resume: whether they are to be continued.
        asked: the fold, or "all", for the command that continues them; None: the first that has begun.

    Raises:
        UsageError: `folder` is a file, or one of the folds has begun and is not to be continued.
    """
    if folder.path.exists() and not folder.path.is_dir():
        raise UsageError(folder.path, "a file", "a folder for the run", "Choose another `out`.", setting="out")
    started = [number for number in folds if folder.has_started(number)]
    if not started or resume:
        return
    stopped = [number for number in started if not folder.metrics_file(number).exists()]
    first = (stopped or started)[0]
    command = folder.write_resume(first if asked is None else asked)
    if stopped:
        got, action = folder.describe_stop(first), f"Continue it: `{command}`; or choose another `out`."
    else:
        got = f"a run with trained fold {first}"
        verdicts = [found.verdict for fold in started if (found := folder.metrics(fold)) and found.verdict]
        minutes = sum(verdict.more_minutes or 0.0 for verdict in verdicts) or MORE_MINUTES
        action = f"Train it longer: `{command} --minutes +{minutes:g}`; or choose another `out`."
    raise UsageError(folder.path, got, "a new run", action, setting="out")


def _require_plan(folder: RunFolder) -> None:
    """Refuse to plan again for a run with trained folds: another plan would not be that of their networks."""
    if (started := folder.started_folds()) and not folder.plan.exists():
        got, expected = f"no such file, though fold {started[0]} has begun", "the plan that it is trained with"
        action = f"Put it back: it is `plan` of what `{write_command('info', folder.path, '--json')}` prints, too."
        raise UsageError(folder.plan, got, expected, f"{action} Or choose another `out`.", setting="out")


def require_at_rest(folder: RunFolder, folds: Iterable[FoldName]) -> None:
    """Refuse folds that another process trains; raises UsageError."""
    with hold_folds(folder, filter(folder.has_started, folds)):
        pass


@contextmanager
def hold_folds(folder: RunFolder, folds: Iterable[FoldName]) -> Iterator[None]:
    """Hold the folds of a run against other processes while they are trained.

    Args:
        folder: run folder.
        folds: folds to hold.

    Raises:
        UsageError: another process trains one of them.
    """
    with ExitStack() as locks:
        for fold in folds:
            if not locks.enter_context(hold_lock(folder.fold(fold) / LOCK)):
                action = "Wait until it has ended, or choose another `out` or `fold`."
                raise UsageError(
                    folder.fold(fold), "a fold that is being trained", "one at rest", action, setting="out"
                )
        yield
