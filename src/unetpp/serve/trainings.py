"""Further trainings in the background, each in a process of its own; the new model is offered beside the old one."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import numpy as np
from pydantic import BaseModel, Field

from unetpp.data.case_files import read_case_classes
from unetpp.errors import LOG, DataError, Problem, UnetppError
from unetpp.files import write_text
from unetpp.infer.case_predictor import CasePredictor
from unetpp.layouts.dataset import Case
from unetpp.metrics.scores import mean_of, score_case
from unetpp.plan import DataPlan
from unetpp.replay import Mixture, mix
from unetpp.run_folder import RunFolder, find_model_file
from unetpp.serve.corrections import CorrectionSet
from unetpp.serve.data_cases import DataCases
from unetpp.serve.model_shelf import ModelShelf
from unetpp.serve.problems import ProblemItem, Refused, describe_error, to_item
from unetpp.serve.uploads import clean_name

_RECORD = "training.json"
ENDING_S = 1.0
"""Seconds that a training which was cancelled or is done has to end before the next one is refused."""


class TrainingState(StrEnum):
    """States of a further training."""

    PREPARING = "preparing"
    TRAINING = "training"
    COMPARING = "comparing"
    BETTER = "better"
    """The new model is offered."""
    REFUSED = "refused"
    """The new model is worse on the validation cases."""
    ACCEPTED = "accepted"
    """A person has taken the new model; the old one is still there."""
    FAILED = "failed"
    CANCELLED = "cancelled"


RUNNING = (TrainingState.PREPARING, TrainingState.TRAINING, TrainingState.COMPARING)


class FurtherTraining(BaseModel):
    """A model that is trained on corrections."""

    id: str = Field(default_factory=lambda: secrets.token_urlsafe(9))
    model: str
    """The old model."""
    minutes: float
    state: TrainingState = TrainingState.PREPARING
    created: float = Field(default_factory=time.time)
    corrected: int = 0
    """Corrected cases that it learns from."""
    replayed: int = 0
    """Cases that the old model has learned from, mixed in."""
    validated: int = 0
    """Cases on which both models are compared."""
    basis: str = ""
    """What it learns from, and on what both models are compared, in a sentence."""
    old_dice: float | None = None
    new_dice: float | None = None
    new_model: str | None = None
    """Id of the new model, once it was accepted."""
    finding: str = ""
    """What came of it, in a sentence."""
    problem: ProblemItem | None = None


class Trainings:
    """Further trainings, one at a time.

    Args:
        folder: for their data and runs.
        shelf: the models.
        corrected: returns the corrected cases of a model.
        cases: cases of DATA.
        device: on which is trained.
    """

    def __init__(
        self,
        folder: Path,
        shelf: ModelShelf,
        corrected: Callable[[str], CorrectionSet],
        cases: DataCases,
        device: str = "auto",
    ) -> None:
        self._folder, self._shelf, self._corrected, self._cases = folder, shelf, corrected, cases
        self._device = device
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._all: dict[str, FurtherTraining] = {}
        for path in sorted(folder.glob(f"*/{_RECORD}")):
            with suppress(ValueError, OSError):
                self._recall(FurtherTraining.model_validate_json(path.read_bytes()))

    def _recall(self, found: FurtherTraining) -> None:
        """Take up a training of an earlier server: what ran then has ended with it."""
        if found.state in RUNNING:
            found = found.model_copy(update={"state": TrainingState.CANCELLED, "finding": "the server was stopped"})
        if found.state is TrainingState.ACCEPTED:
            with suppress(UnetppError):
                self._shelf.add(self.run_of(found.id), self._name_new(found))
        self._all[found.id] = found

    def list(self) -> list[FurtherTraining]:
        """List them, the newest first."""
        with self._lock:
            return sorted(self._all.values(), key=lambda each: -each.created)

    def find(self, id: str) -> FurtherTraining:
        """Find one; raises Refused."""
        with self._lock:
            if id not in self._all:
                raise Refused(404, "training", repr(id[:80]), "the id of a training", "List them: /v1/trainings.")
            return self._all[id]

    def run_of(self, id: str) -> Path:
        """Return the run folder of a training."""
        return self._folder / id / "run"

    def begin(self, model: str | None, minutes: float) -> FurtherTraining:
        """Begin a training; raises Refused if one runs, nothing was corrected, or the model cannot be trained."""
        card = self._shelf.card(model)
        ending = self._thread
        if ending is not None and not self._runs():
            ending.join(ENDING_S)  # without the lock, which it needs
        with self._lock:
            if self._runs() or (self._thread is not None and self._thread.is_alive()):  # a cancelled one saves first
                raise Refused(409, "training", "another one that runs", "one at a time", "Wait for it, or cancel it.")
            if not self._corrected(card.id).list():
                raise Refused(409, "training", "no corrected case", "at least one", "Correct an image, and save it.")
            if not card.can_train_further:
                got, expected = f"{card.name}, of several networks or exported", "one network of one stage"
                raise Refused(409, "model", got, expected, "Serve the model file of one fold.")
            made = FurtherTraining(model=card.id, minutes=minutes)
            self._change(made)
            self._thread = threading.Thread(target=self._train, args=(made,), name="unetpp training", daemon=True)
            self._thread.start()
            return made

    def _runs(self) -> bool:
        return any(each.state in RUNNING for each in self.list())

    def cancel(self, id: str) -> FurtherTraining:
        """Cancel a training that runs."""
        found = self.find(id)
        with self._lock:
            if found.state in RUNNING:
                self._change(found.model_copy(update={"state": TrainingState.CANCELLED, "finding": "cancelled"}))
                self._end_process()
            return self.find(id)

    def accept(self, id: str) -> FurtherTraining:
        """Serve the new model beside the old one; raises Refused unless it is the better one."""
        with self._lock:
            found = self.find(id)
            _require(found, TrainingState.BETTER)
            card = self._shelf.add(self.run_of(id), self._name_new(found))
            self._change(found.model_copy(update={"state": TrainingState.ACCEPTED, "new_model": card.id}))
            return self.find(id)

    def find_offered(self, id: str) -> tuple[Path, str]:
        """Find the run and the name of a new model; raises Refused unless it is the better one."""
        found = self.find(id)
        _require(found, TrainingState.BETTER, TrainingState.ACCEPTED)
        return self.run_of(id), self._name_new(found)

    def stop(self) -> None:
        """End the training that runs: its process saves what it has."""
        with self._lock:
            for each in self.list():
                if each.state in RUNNING:
                    self.cancel(each.id)
        if self._thread is not None:
            self._thread.join(30)

    def _name_new(self, found: FurtherTraining) -> str:
        try:
            old = self._shelf.card(found.model).name
        except Refused:
            old = found.model
        return f"{old} corrected {time.strftime('%Y-%m-%d %H.%M', time.localtime(found.created))}"

    def _change(self, found: FurtherTraining) -> None:
        with self._lock:
            self._all[found.id] = found
            write_text(self._folder / found.id / _RECORD, found.model_dump_json())

    def _update(self, id: str, **changes: object) -> FurtherTraining:
        """Change a training, unless it was cancelled meanwhile."""
        with self._lock:
            found = self.find(id)
            if found.state is TrainingState.CANCELLED:
                raise _CancelledError
            self._change(found.model_copy(update=changes))
            return self.find(id)

    def _train(self, made: FurtherTraining) -> None:
        try:
            file = find_model_file(self._shelf.path(made.model))
            data = self._shelf.data(made.model)
            corrected = self._corrected(made.model)
            place = self._data_of(made)
            found = mix(corrected.folder, file, place, data, self._cases.path)
            counts = {"corrected": found.new, "replayed": found.replayed, "validated": found.validated}
            self._update(made.id, state=TrainingState.TRAINING, basis=found.describe(), **counts)
            self._run_process(made, found, file)
            self._update(made.id, state=TrainingState.COMPARING)
            self._compare(made)
        except _CancelledError:
            pass
        except Exception as error:
            LOG.debug("training %s", made.id, exc_info=error)
            _, problems = describe_error(error)
            with suppress(_CancelledError):
                problem = to_item(problems[0])
                finding = f"{problem.where}: got {problem.got}; expected {problem.expected}. {problem.action}"
                self._update(made.id, state=TrainingState.FAILED, problem=problem, finding=finding)
        finally:
            with suppress(OSError):
                shutil.rmtree(self.run_of(made.id) / "cache", ignore_errors=True)

    def _run_process(self, made: FurtherTraining, found: Mixture, file: Path) -> None:
        """Run `unetpp train` in a process: it may be ended, and gives its memory back."""
        command = [sys.executable, "-m", "unetpp", "train", str(found.folder), "--out", str(self.run_of(made.id))]
        command += ["--from", str(file), "--minutes", f"{made.minutes:g}", "--device", self._device, "--json"]
        command += [part for name, value in found.settings.items() for part in ("--set", f"{name}={json.dumps(value)}")]
        with self._lock:
            self._update(made.id)
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        answer, _ = self._process.communicate()
        if self._process.returncode:
            self._update(made.id)
            raise DataError(_read_problem(answer))

    def _compare(self, made: FurtherTraining) -> None:
        """Score both models on the same validation cases; the new one is offered if it is not worse."""
        from unetpp.infer.loading import load

        old = self._shelf.load(made.model)
        new = load(self.run_of(made.id), self._device)
        validation = self._find_validation(made)
        dice = [score_model(model, validation, new.data) for model in (old, new)]
        before, after = (mean_of(scores) for scores in dice)
        changes = {"validated": len(validation), "old_dice": before, "new_dice": after}
        if before is None or after is None:
            finding = "There are no validation cases: the new model cannot be compared, and is not offered."
            self._update(made.id, state=TrainingState.REFUSED, finding=finding, **changes)
            return
        is_better = after >= before
        what = "The new model is better or equal" if is_better else "The new model is worse, and is refused"
        finding = f"{what}: Dice {after:.4f}, before {before:.4f}, over {len(validation)} validation cases."
        state = TrainingState.BETTER if is_better else TrainingState.REFUSED
        self._update(made.id, state=state, finding=finding, **changes)

    def _data_of(self, made: FurtherTraining) -> Path:
        """Return the folder of the data: the new model says by its name what it has learned from."""
        return self._folder / made.id / clean_name(self._shelf.card(made.model).trained_on)

    def _find_validation(self, made: FurtherTraining) -> Sequence[Case]:
        """Find the validation cases of the training, with the labels that were gathered for it."""
        from unetpp.data.folds import read_splits
        from unetpp.layouts.cases import find_cases

        run = RunFolder(self.run_of(made.id))
        chosen = set(read_splits(run.splits)[0].validation)
        return [case for case in find_cases(self._data_of(made)).cases if case.id in chosen]

    def _end_process(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)


def _require(found: FurtherTraining, *states: TrainingState) -> None:
    if found.state not in states:
        raise Refused(409, "training", f"one that is {found.state}", "a new model that is better", found.finding)


class _CancelledError(Exception):
    """The training was cancelled."""


def score_model(model: CasePredictor, cases: Sequence[Case], data: DataPlan) -> list[float | None]:
    """Score a model on cases with labels: the mean Dice over the classes of each.

    Args:
        model: the model.
        cases: the cases.
        data: how their labels are read; its classes may have another order than those of the model.
    """
    order = np.asarray([data.classes.index(name) for name in model.data.classes], dtype=np.uint8)
    found = []
    for case in cases:
        (prediction,) = model.predict_case(case).values()
        indices, reference = order[prediction.segmentation], read_case_classes(case, data)
        score = score_case(case.id, indices, reference, data.num_classes, surface_metrics=False)
        found.append(mean_of(each.dice for each in score.classes))
    return found


def _read_problem(answer: bytes) -> Problem:
    """Read what a training says that failed, the first of its problems."""
    expected, action = "a training that ends", "See the log of the server."
    try:
        found = json.loads(answer)["error"]
        first = next(iter(found["problems"]), None)
        if first:
            return Problem(*(str(first[key] or "")[:400] for key in ("where", "got", "expected", "action")))
        return Problem("training", str(found["message"])[:400], expected, action)
    except (ValueError, LookupError, TypeError):
        return Problem("training", "one that failed", expected, action)
