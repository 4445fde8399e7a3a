"""Where everything of a run lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unetpp.errors import ModelFileError, UsageError
from unetpp.measured import Metrics, read_metrics

MODEL, CHECKPOINT, LOG, METRICS_FILE = "model.safetensors", "last.ckpt", "log.jsonl", "metrics.json"


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run; nothing is created by asking for them."""

    path: Path

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def fingerprint(self) -> Path:
        return self.path / "fingerprint.json"

    @property
    def splits(self) -> Path:
        return self.path / "splits.json"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    def fold(self, number: int) -> Path:
        return self.path / f"fold_{number}"

    def has_started(self, fold: int) -> bool:
        """Whether training of a fold has left anything behind."""
        return any((self.fold(fold) / name).exists() for name in (MODEL, CHECKPOINT))

    def started_folds(self) -> list[int]:
        numbers = (path.name.removeprefix("fold_") for path in self.path.glob("fold_*"))
        return sorted(int(number) for number in numbers if number.isdecimal() and self.has_started(int(number)))

    def unmeasured_folds(self) -> list[int]:
        """Folds with a model of which the training has not ended, or whose scores were not kept."""
        return [
            fold for fold in self.started_folds() if (self.fold(fold) / MODEL).is_file() and self.metrics(fold) is None
        ]

    def metrics(self, fold: int) -> Metrics | None:
        """Scores of a fold that is measured already."""
        return read_metrics(self.fold(fold) / METRICS_FILE)


def find_model_files(model: Path) -> list[Path]:
    """The model files of a run folder, one for each trained fold, or the one file that `model` is.

    Raises:
        ModelFileError: nothing there.
    """
    if not model.is_dir():
        return [model]
    files = sorted(model.glob(f"fold_*/{MODEL}"), key=lambda path: (len(path.parent.name), path.parent.name))
    if not files:
        raise ModelFileError(
            f"{model}: got a folder without fold_*/{MODEL}; expected a run folder that `unetpp train` finished, or a model file. Train first, or check the path."
        )
    return files


def find_model_file(model: Path) -> Path:
    """The only model file of `model`.

    Raises:
        UsageError: a run of several folds; the message names their files.
    """
    files = find_model_files(model)
    if len(files) > 1:
        raise UsageError(
            f"{model}: got a run of {len(files)} folds; expected one model. Name one of: {', '.join(map(str, files))}."
        )
    return files[0]
