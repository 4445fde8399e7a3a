"""What listens to a training: functions of one's own, and TensorBoard, Weights & Biases or MLflow.

An event is a line of `log.jsonl` with the number of its fold:

    {"kind": "plan", "fold": 0, "plan": {...}}                      the settings, at the start
    {"kind": "train", "step": 120, "loss": 0.41, "learning_rate": ..., "images_per_second": ..., ...}
    {"kind": "validation", "step": 120, "dice": 0.8, "depths": {1: 0.78, ...}, "train_dice": 0.9, ...}
    {"kind": "growth", "step": 60, "shells": 2, "sizes": [1, 2, ...], ...}      a shell joins, see `train.growth`
    {"kind": "measured", "step": 4000, "depths": {1: 0.81, ...}}    the best weights on all validation cases, at the end
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unetpp.errors import UsageError, optional_package
from unetpp.plan import ModelPlan, Plan
from unetpp.words import join_words

Event = dict[str, Any]
Listener = Callable[[Event], object]
SCALARS = ("loss", "learning_rate", "images_per_second", "data_wait")
LONGEST_PARAMETER = 500
"""Characters of a parameter in MLflow."""
LONGEST_NOTE = 200
"""Characters of an error in a note."""


class Tracker(ABC):
    """Writes the numbers of events to an experiment tracker, one run for each fold.

    Args:
        place: what the user gave after the colon; empty: nothing.
        run: run folder.
    """

    def __init__(self, place: str, run: Path) -> None:
        self._place, self._run = place, run
        self._settings: dict[str, Any] = {}
        self._is_open = False
        self.command = ""
        """Opens what was written, where there is such a command."""

    def __call__(self, event: Event) -> None:
        """Open at the start of a training, write its numbers, and close after the measurement or an interruption."""
        if event["kind"] == "plan":
            self._close()
            self._settings = event["plan"]
        elif event["kind"] == "start":
            self.open(f"{self._run.name}_fold_{event['fold']}", self._settings, event["step"])
            self._is_open = True
        if self._is_open and (scalars := find_scalars(event, self._settings)):
            self.write(scalars, event["step"])
        if event["kind"] == "measured" or event.get("reason") == "interrupted":
            self._close()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self.close()

    @abstractmethod
    def open(self, name: str, settings: dict[str, Any], step: int) -> None:
        """Begin a run of the tracker, or go on after `step`."""

    @abstractmethod
    def write(self, scalars: dict[str, float], step: int) -> None:
        """Write numbers."""

    @abstractmethod
    def close(self) -> None:
        """End the run."""


class TensorBoard(Tracker):
    """Writes event files for TensorBoard, into RUN/tensorboard unless another folder is given."""

    def __init__(self, place: str, run: Path) -> None:
        with optional_package("tensorboard", "tensorboard", '`log_to="tensorboard"`'):
            from torch.utils.tensorboard import SummaryWriter
        super().__init__(place, run)
        self._make, self._folder = SummaryWriter, Path(place) if place else run / "tensorboard"
        self.command = join_words("tensorboard", "--logdir", self._folder)

    def open(self, name: str, settings: dict[str, Any], step: int) -> None:
        """Open a folder of the fold; steps after `step` are done again."""
        self._writer = self._make(str(self._folder / name), purge_step=step + 1 if step else None)
        self._writer.add_text("plan", f"```json\n{json.dumps(settings, indent=2)}\n```")

    def write(self, scalars: dict[str, float], step: int) -> None:
        """Write numbers, and flush them: somebody watches."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class WeightsAndBiases(Tracker):
    """Writes to a project of Weights & Biases ("unetpp"), as its own settings say: online or offline."""

    def __init__(self, place: str, run: Path) -> None:
        with optional_package("wandb", "wandb", '`log_to="wandb"`'):
            import wandb
        super().__init__(place, run)
        self._wandb = wandb

    def open(self, name: str, settings: dict[str, Any], step: int) -> None:
        """Begin a run with the plan as its config."""
        project = self._place or "unetpp"
        self._open_run = self._wandb.init(project=project, name=name, config=settings, dir=str(self._run))

    def write(self, scalars: dict[str, float], step: int) -> None:
        """Write numbers."""
        self._open_run.log(scalars, step=step)

    def close(self) -> None:
        """End the run."""
        self._open_run.finish()


class MlFlow(Tracker):
    """Writes to an MLflow server or folder; without a URI to that of MLflow's own settings."""

    def __init__(self, place: str, run: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # the user asked for tracking, not for this
        with optional_package("mlflow", "mlflow", '`log_to="mlflow"`'):
            import mlflow
        super().__init__(place, run)
        self._mlflow = mlflow
        if place:
            mlflow.set_tracking_uri(place)

    def open(self, name: str, settings: dict[str, Any], step: int) -> None:
        """Begin a run with the plan as its parameters."""
        self._mlflow.set_experiment("unetpp")
        self._mlflow.start_run(run_name=name)
        parameters = {
            f"{section}.{key}": str(value)[:LONGEST_PARAMETER]
            for section, values in settings.items()
            if isinstance(values, dict) and section != "reasons"
            for key, value in values.items()
        }
        self._mlflow.log_params(parameters)

    def write(self, scalars: dict[str, float], step: int) -> None:
        """Write numbers."""
        self._mlflow.log_metrics(scalars, step=step)

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MlFlow}


def find_scalars(event: Event, settings: dict[str, Any]) -> dict[str, float]:
    """Find the numbers of an event that are drawn as curves: name -> value.

    Args:
        event: of a training.
        settings: its plan, which names the sizes of a network with shells.
    """
    kind = event["kind"]
    if kind == "train":
        return {f"train/{name}": event[name] for name in SCALARS if name in event}
    names = ModelPlan(**settings["model"]).list_sizes() if len(settings.get("model", {}).get("shells", ())) > 1 else {}
    depths = (event.get("depths") or {}).items()
    dice = {f"{kind}/dice_{names.get(depth, f'depth_{depth}')}": dice for depth, dice in depths}
    scores = dice | {"train/dice": event.get("train_dice"), f"{kind}/loss": event.get("loss")}
    return {name: value for name, value in scores.items() if value is not None}


class Listeners:
    """All that listen to a training. One that fails is left out from then on, with a note: training goes on.

    Args:
        log_to: what the user gave.
        run: run folder.
        note: shows a line to the user.

    Raises:
        UsageError: no such tracker.
        MissingExtraError: its package is not installed.
    """

    def __init__(
        self, log_to: str | Listener | Sequence[str | Listener] | None, run: Path, note: Callable[[str], None]
    ) -> None:
        given = [] if log_to is None else [log_to] if isinstance(log_to, str) or callable(log_to) else log_to
        self._listeners = [_make_listener(each, run) for each in given]
        self._note = note
        self._fold: int | str = 0

    @property
    def commands(self) -> tuple[str, ...]:
        """Commands that open what the trackers have written, without those that failed."""
        return tuple(each.command for each in self._listeners if isinstance(each, Tracker) and each.command)

    def begin(self, fold: int | str, plan: Plan) -> None:
        """Tell that the training of a fold begins."""
        self._fold = fold
        self(kind="plan", plan=plan.model_dump(mode="json"))

    def __call__(self, **event: Any) -> None:
        """Tell of an event."""
        for listener in list(self._listeners):
            try:
                listener({**event, "fold": self._fold})
            except Exception as error:  # of any kind: the training is worth more
                self._listeners.remove(listener)
                name = getattr(listener, "__name__", type(listener).__name__)
                text = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_NOTE]
                self._note(f"note: {name} failed and gets no more events ({text})")


def _make_listener(given: str | Listener, run: Path) -> Listener:
    if not isinstance(given, str):
        return given
    name, _, place = given.partition(":")
    if name not in TRACKERS:
        expected = "tensorboard[:FOLDER], wandb[:PROJECT] or mlflow[:URI]"
        raise UsageError("log_to", repr(given), expected, "Choose one of them, or give a function.")
    return TRACKERS[name](place, run)
