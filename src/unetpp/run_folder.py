"""Paths inside a run folder."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from unetpp.errors import ModelFileError, UsageError
from unetpp.files import find_remains, write_text
from unetpp.json_files import parse_json
from unetpp.model.header import read_header, read_safetensors_header
from unetpp.model_notes import Metrics, read_metrics
from unetpp.selection import is_selection, list_files, read_selection
from unetpp.words import say_permit, shorten_path, write_command

MODEL, CHECKPOINT, LOG, METRICS_FILE = "model.safetensors", "last.ckpt", "log.jsonl", "metrics.json"
VIEWS, GROWING = "views", "growing"
FIRST_STAGE = "first_stage"
"""Folder of a fold, and of the cache, for the first stage of a cascade."""
LOCK = ".lock"
FoldName = int | str
"""Number of a fold, or `NO_VALIDATION`."""
NO_VALIDATION = "none"
"""Name of the fold in which every case trains and none validates."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run; none is created on disk by asking for it."""

    path: Path

    @property
    def plan(self) -> Path:
        """The plan of the run."""
        return self.path / "plan.json"

    @property
    def plan_page(self) -> Path:
        """The page of the plan."""
        return self.path / "plan.html"

    @property
    def first_plan(self) -> Path:
        """The plan of the first stage of a cascade."""
        return self.path / "first_stage.json"

    @property
    def fingerprint(self) -> Path:
        """The fingerprint of the data set."""
        return self.path / "fingerprint.json"

    @property
    def known_cases(self) -> Path:
        """What the files of the cases have shown, so that they are read once."""
        return self.path / "cases.json"

    @property
    def splits(self) -> Path:
        """Training and validation cases of each fold."""
        return self.path / "splits.json"

    @property
    def cache(self) -> Path:
        """Prepared cases; `unetpp clean` removes them."""
        return self.path / "cache"

    @property
    def start(self) -> Path:
        """Copy of the model that training starts from."""
        return self.path / "start.safetensors"

    @property
    def data(self) -> Path:
        """Text file with the path of the data set."""
        return self.path / "data.txt"

    def recall_data(self) -> str:
        """Read the path of the data set, for commands that are suggested; DATA if it is not known.

        Below the current folder it is relative, as short as it may have been given.
        """
        try:
            return shorten_path(self.data.read_text(encoding="utf-8").strip()) or "DATA"
        except (OSError, ValueError):
            return "DATA"

    def note_data(self, data: Path) -> None:
        """Write the path of the data set, for `recall_data`."""
        write_text(self.data, f"{data.absolute()}\n")

    def cached_files(self) -> list[Path]:
        """List the arrays of the prepared cases."""
        folders = (self.cache, self.cache / FIRST_STAGE)
        return sorted(
            path for folder in folders for suffix in ("npy", "tif") for path in folder.glob(f"[!.]*.*.{suffix}")
        )

    def disposable_files(self) -> list[Path]:
        """List the prepared cases, and what killed processes left in the folders of the run."""
        inner = (*sorted(self.path.glob("fold_*/")), *sorted(self.path.glob(f"fold_*/{FIRST_STAGE}/fold_*/")))
        folders = (self.path, self.cache, self.cache / FIRST_STAGE, *inner)
        return [*self.cached_files(), *(path for folder in folders for path in find_remains(folder))]

    def fold(self, name: FoldName) -> Path:
        """Return the folder of a fold."""
        return self.path / f"fold_{name}"

    def first_stage(self, name: FoldName) -> RunFolder:
        """Return the first stage of a fold of a cascade: a run whose two folds are halves of the training cases."""
        return RunFolder(self.fold(name) / FIRST_STAGE)

    @property
    def cascade(self) -> RunFolder | None:
        """The run that has this one as the first stage of a fold; None: this is a run of its own."""
        place = self.path.absolute()
        run = RunFolder(place.parent.parent)
        return run if place.name == FIRST_STAGE and run.first_plan.is_file() else None

    def folds(self) -> list[FoldName]:
        """List the folds that have a folder."""
        names = [path.name.removeprefix("fold_") for path in self.path.glob("fold_*")]
        numbers = sorted(int(name) for name in names if name.isdecimal())
        return [*numbers, *([NO_VALIDATION] if NO_VALIDATION in names else [])]

    def has_started(self, fold: FoldName) -> bool:
        """Tell whether the fold, or its first stage, has a model or a checkpoint."""
        own = any((self.fold(fold) / name).exists() for name in (MODEL, CHECKPOINT))
        return own or any(map(self.first_stage(fold).has_started, self.first_stage(fold).folds()))

    def started_folds(self) -> list[FoldName]:
        """List the folds with a model or a checkpoint."""
        return [fold for fold in self.folds() if self.has_started(fold)]

    def find_step(self, fold: FoldName) -> int | None:
        """Find the number of steps of a fold that its checkpoint holds; None without one that can be read."""
        with suppress(ModelFileError, ValueError, TypeError, KeyError):
            metadata, _ = read_safetensors_header(self.fold(fold) / CHECKPOINT)
            return int(parse_json(metadata["progress"])["step"])
        return None

    def describe_stop(self, fold: FoldName) -> str:
        """Say how far the training of a fold got that has not ended; one that is held may go on at the moment."""
        step, held = self.find_step(fold), (self.fold(fold) / LOCK).exists()
        what = f"a training{'' if fold == 0 else f' of fold {fold}'} that"
        if step is None and (self.fold(fold) / MODEL).exists():
            return f"{what} has not ended, of which there is a model, but no {CHECKPOINT} that can be read"
        if step is None and (first := self.first_stage(fold).started_folds()):
            return f"{what} {'is' if held else 'was stopped'} after its first stage had begun ({len(first)} of 2)"
        if step is None:
            return f"{what} {'has not saved' if held else 'was stopped before it saved'} anything"
        return f"{what} {'is' if held else 'was stopped'} at step {step:,}"

    def describe_state(self, fold: FoldName) -> str:
        """Say how far the training of a fold got that has not ended, and whether there is a model."""
        return f"{self.describe_stop(fold)}{'' if (self.fold(fold) / MODEL).exists() else ', without a model yet'}"

    def write_resume(self, fold: FoldName, data: str = "") -> str:
        """Write the command that continues the training of a fold; it begins one of which nothing was saved.

        Args:
            fold: name of the fold.
            data: the data set; empty: the path that the run remembers.
        """
        run, fold = self.find_trained(fold)
        other = ["--fold", fold] if str(fold) != "0" else []
        return write_command("train", data or run.recall_data(), "--out", run.path, *other, "--resume")

    def find_trained(self, fold: FoldName) -> tuple[RunFolder, FoldName]:
        """Return the run and the fold by which a fold is trained: the first stage of a cascade has none of its own."""
        if not self.cascade:
            return self, fold
        parent = self.path.absolute().parent.name.removeprefix("fold_")
        return self.cascade, int(parent) if parent.isdecimal() else parent

    def unmeasured_folds(self) -> list[FoldName]:
        """List the folds with a model but no scores: training has not ended, or the scores were not saved."""
        started = [fold for fold in self.started_folds() if (self.fold(fold) / MODEL).is_file()]
        return [fold for fold in started if self.model_metrics(fold) is None]

    def metrics_file(self, fold: FoldName) -> Path:
        """Return the file with the scores of a fold; its presence marks the fold as finished."""
        return self.fold(fold) / METRICS_FILE

    def earlier_metrics_file(self, fold: FoldName) -> Path:
        """Return where the scores of a finished fold lie while it is trained longer."""
        return self.fold(fold) / "earlier_metrics.json"

    def metrics(self, fold: FoldName) -> Metrics | None:
        """Read the scores of a finished fold; None before it is measured, and while it is trained longer."""
        return read_metrics(self.metrics_file(fold))

    def model_metrics(self, fold: FoldName) -> Metrics | None:
        """Read the scores of the model of a fold: in a further training those from before, until better weights come.

        They are not finished by `unetpp report`: what comes next is the rest of the training.
        """
        if (found := self.metrics(fold)) or not (found := read_metrics(self.earlier_metrics_file(fold))):
            return found
        with suppress(ModelFileError):
            if read_header(self.fold(fold) / MODEL).notes.training:  # better weights have none before the end
                return found.model_copy(update={"unfinished": (), "verdict": None})
        return None


def find_model_files(model: Path) -> list[Path]:
    """Find the model files of a run folder, one for each trained fold; a path of a file is returned as it is.

    Of a folder that `unetpp select` wrote they are those of all its members.

    A fold that trained on every case is left out beside others: it has no scores, and theirs are not of it.

    Raises:
        ModelFileError: the folder holds no model file.
    """
    if not model.is_dir():
        return [model]
    _require_access(model)
    if is_selection(model):
        return [model / file for file in list_files(read_selection(model))]
    files = sorted(model.glob(f"fold_*/{MODEL}"), key=lambda path: (len(path.parent.name), path.parent.name))
    if not files:
        raise _explain_no_model(RunFolder(model))
    return [file for file in files if file.parent != RunFolder(model).fold(NO_VALIDATION)] or files


def _require_access(model: Path) -> None:
    for folder in (model, *model.glob("fold_*")):
        if not os.access(folder, os.R_OK | os.X_OK):  # looking for files would find none
            got, action = "a folder that may not be entered (permission denied)", say_permit(folder, folder=True)
            raise ModelFileError(folder, got, "a run folder", action)


def find_state(model: Path) -> tuple[str, str] | None:
    """Say how far a run got that has no model yet, and write the command by which it goes on; None for all else.

    Raises:
        ModelFileError: the folder may not be read.
    """
    run = RunFolder(model)
    if not model.is_dir():
        return None
    _require_access(model)
    if not run.plan.is_file() or any(model.glob(f"fold_*/{MODEL}")):
        return None
    if folds := run.folds():
        return run.describe_state(folds[0]), run.write_resume(folds[0])
    return "a run of which no fold has begun", write_command("train", run.recall_data(), "--out", run.path)


def _explain_no_model(run: RunFolder) -> ModelFileError:
    """Say how far a training got that has no model yet, and how it goes on; or that this is no run."""
    if not (found := find_state(run.path)):
        got, expected = f"a folder without fold_*/{MODEL}", "a run folder that `unetpp train` wrote, or a model file"
        return ModelFileError(run.path, got, expected, "Train first, or check the path.")
    state, command = found
    action = f"{'Continue' if run.folds() else 'Train'} it: `{command}`."
    return ModelFileError(run.path, state, "one that has saved a model", action)


def list_first_stage(fold: Path) -> list[Path]:
    """List the model files of the first stage of a cascade in the folder of a fold."""
    return sorted((fold / FIRST_STAGE).glob(f"fold_*/{MODEL}"))


def find_model_file(model: Path) -> Path:
    """Find the only model file of a run folder; a path of a file is returned as it is.

    Raises:
        UsageError: the run has several folds, or was selected; the message names their files.
    """
    files = find_model_files(model)
    is_selected = is_selection(model)
    if len(files) > 1 or is_selected:
        action = f"Name one of: {', '.join(map(str, files))}."
        got = "a folder that `unetpp select` wrote" if is_selected else f"a run of {len(files)} folds"
        raise UsageError(model, got, "one model", action)
    return files[0]
