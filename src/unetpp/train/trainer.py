"""One fold, from a plan to the best weights: puts the parts of a training together around `loop.fit`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from unetpp.data.patches import PatchSampler
from unetpp.data.store import StoredCase
from unetpp.errors import Interrupted, UnetppError
from unetpp.measured import DepthRow, Notes, Training
from unetpp.metrics.scores import Validation
from unetpp.model.build import build_from_plan, load_encoder_weights
from unetpp.model.file import save_model
from unetpp.plan import Plan
from unetpp.run_folder import CHECKPOINT, LOG, MODEL
from unetpp.runtime.device import batch_workers
from unetpp.train.augment import Augmentation
from unetpp.train.batches import BatchMaker, Prefetcher
from unetpp.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from unetpp.train.interruption import Interruption
from unetpp.train.log import Log
from unetpp.train.loop import fit
from unetpp.train.session import Session
from unetpp.train.step import TrainingStep

LOG_EVERY_S = 5.0


@dataclass(frozen=True)
class Status:
    """What a progress display shows."""

    fraction: float
    step: int
    loss: float
    best_dice: float | None
    images_per_second: float
    seconds_left: float | None
    activity: str = "training"


class FoldTraining:
    """State and files of one fold while it trains.

    Args:
        plan: what to train.
        cases: the stored training cases.
        folder: where model, checkpoint and log go.
        device: where the network is.
        validate: scores a network in evaluation mode.
        budget_s: seconds for this training; None: the plan's epochs. (A training that is resumed keeps its own.)
        validation_cases: how many cases `validate` scores, for the checkpoint.
        weights: to begin with, of the whole network; None: the plan's.
        show: called now and then with a Status.
    """

    def __init__(
        self,
        plan: Plan,
        cases: Sequence[StoredCase],
        folder: Path,
        *,
        device: torch.device,
        validate: Callable[[nn.Module], Validation],
        budget_s: float | None = None,
        validation_cases: int | None = None,
        weights: Mapping[str, Tensor] | None = None,
        show: Callable[[Status], None] = lambda status: None,
    ) -> None:
        train = plan.train
        self.plan, self.folder, self.device, self._validate, self._show = plan, folder, device, validate, show
        torch.manual_seed(train.seed)
        self.network = build_from_plan(plan.model)
        self._has_weights = weights is not None
        if weights is not None:
            self.network.load_state_dict(weights)
        self.log = Log(folder / LOG)
        self.step = TrainingStep(
            self.network, plan.model, train, device, warn=lambda message: self.log.write("warning", message=message)
        )
        self.progress = Progress(budget_s=budget_s, validation_cases=validation_cases)
        sampler = PatchSampler(cases, train.patch, train.batch, train.foreground_fraction, train.seed)
        self.prefetcher = Prefetcher(
            BatchMaker(sampler, Augmentation(train.augment, train.patch, plan.data.voxel_mm)),
            batch_workers(device),
            pinned=device.type == "cuda",
        )
        self.session, self.interruption = Session(), Interruption()

    def run(self, resume: bool = False) -> Training:
        """Train to the end of the schedule, or until patience runs out.

        Raises:
            Interrupted: stopped by a signal; `last.ckpt` holds everything.
            UnetppError: the loss is no longer a number, or the weights that the encoder is to start with cannot be had.
            WriteError: no space left; the last checkpoint and the best model are intact.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint = self.folder / CHECKPOINT
        resumed = resume and checkpoint.exists()
        step = self.step
        if resumed:
            self.progress = load_checkpoint(
                checkpoint, self.plan, self.network, step.average, step.optimizer, step.scaler
            )
        weights = "" if resumed or self._has_weights else load_encoder_weights(self.network, self.plan.model)
        self.log.begin(self.progress.step if resumed else None)
        if weights:
            step.average.load_state_dict(self.network.state_dict())
            self.log.write("encoder", weights=weights)
        if not self.progress.finished:
            self.log.write(
                "start",
                step=self.progress.step,
                seed=self.plan.train.seed,
                device=str(self.device),
                threads=torch.get_num_threads(),
                torch=torch.__version__,
            )
            self._train()
        return self._result()

    def _train(self) -> None:
        first = self.progress.step
        self.session = Session(first, self.progress.elapsed_s)
        batches = self.prefetcher.from_step(first)
        with self.interruption:
            try:
                # a stop may have come between a step and the validation that follows it
                reason = self._validation_if_due() or fit(
                    batches, self.step, self._fraction, first, observe=self._after_step
                )
            finally:
                batches.close()
            if reason == "finished":
                self._validation()
        self.progress.finished = reason
        self._save_checkpoint()
        self.log.write("end", step=self.progress.step, **self._result().to_dict())
        if self.interruption.requested:  # during the last validation
            raise Interrupted(
                f"Stopped by {self.interruption.requested} after training; everything is saved. Go on with the same command and --resume."
            )

    def _fraction(self, step: int) -> float:
        """The part of the schedule that is done: of the time where a time was given, else of the steps."""
        if self.progress.budget_s is not None:
            return self.session.elapsed_s / self.progress.budget_s
        return step / (self.plan.train.epochs * self.plan.train.steps_per_epoch)

    def _after_step(self, step: int, loss: float) -> str:
        """Report, save and validate where that is due; return why training should end, if it should."""
        if not math.isfinite(loss):
            train = self.plan.train
            rates = f"train.learning_rate={train.learning_rate / 3:.1g} train.kernel_learning_rate={train.kernel_learning_rate / 3:.1g}"
            exact = "" if train.precision == "fp32" else ", or --set train.precision=fp32"
            raise UnetppError(
                f"step {step}: got a loss of {loss}; expected a number. Train into another --out with --set {rates}{exact}."
            )
        self.progress.step = step
        self.session.losses.append(loss)
        now = time.perf_counter()
        if now - self.session.reported > LOG_EVERY_S or step == 1:
            self._log_steps()
            self.session.reported = now
        if self.interruption.requested:
            self._save_checkpoint()
            self.log.write("end", step=step, reason="interrupted")
            raise Interrupted(
                f"Stopped by {self.interruption.requested} after step {step}; everything is saved. Go on with the same command and --resume."
            )
        if now - self.session.saved > 60 * self.plan.train.checkpoint_minutes:
            self._save_checkpoint()
        return self._validation_if_due()

    def _validation_if_due(self) -> str:
        """Validate if the schedule has come to the next mark; return why training should end, if it should."""
        if (self.progress.validations + 1) / self.plan.train.validations <= self._fraction(self.progress.step) < 1:
            self._validation()
        return "patience" if self.progress.without_gain >= self.plan.train.patience else ""

    def _validation(self) -> None:
        """Score the running mean of the weights; save it if it is the best so far."""
        self._show(self._status("validating"))
        with self.session.validating():
            validation = self._validate(self.step.average)
        progress = self.progress
        # a slow validation that passed several marks counts for all of them
        progress.validations = max(
            progress.validations + 1, int(self._fraction(progress.step) * self.plan.train.validations)
        )
        if (
            validation.dice >= progress.best_dice
        ):  # of equals the later one: small structures are long missed altogether
            progress.best_dice, progress.best_step, progress.without_gain = validation.dice, progress.step, 0
            depths = {depth: DepthRow(dice=dice) for depth, dice in validation.depths.items()}
            notes = Notes(dice=validation.dice, step=progress.step, depths=depths)
            save_model(self.folder / MODEL, self.step.average.state_dict(), self.plan, notes)
        else:
            progress.without_gain += 1
        scores = {"dice": validation.dice, "depths": validation.depths}
        self.log.write("validation", step=progress.step, **scores, elapsed_s=self.session.elapsed_s)
        self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        self.progress.elapsed_s = self.session.elapsed_s
        step = self.step
        save_checkpoint(
            self.folder / CHECKPOINT,
            self.plan,
            self.progress,
            self.network,
            step.average,
            step.optimizer,
            step.scaler,
        )
        self.session.saved = time.perf_counter()

    def _status(self, activity: str = "training") -> Status:
        step, fraction = self.progress.step, self._fraction(self.progress.step)
        return Status(
            fraction=min(1.0, fraction),
            step=step,
            loss=self.session.mean_loss,
            best_dice=self.progress.best_dice if self.progress.best_step else None,
            images_per_second=self.session.steps_per_second(step) * self.plan.train.batch,
            seconds_left=self.session.elapsed_s * (1 / fraction - 1) if fraction > 0 else None,
            activity=activity,
        )

    def _log_steps(self) -> None:
        """Show and log the steps since the last report."""
        status = self._status()
        self._show(status)
        self.log.write(
            "train",
            step=status.step,
            epoch=(status.step - 1) // self.plan.train.steps_per_epoch + 1,
            loss=status.loss,
            learning_rate=self.step.learning_rate,
            images_per_second=status.images_per_second,
            data_wait=self._data_wait(),
            elapsed_s=self.session.elapsed_s,
        )
        self.session.losses.clear()

    def _data_wait(self) -> float:
        return self.prefetcher.waited_s / self.session.stepping_s

    def _result(self) -> Training:
        progress = self.progress
        return Training(
            reason=progress.finished,
            steps=progress.step,
            best_dice=progress.best_dice,
            best_step=progress.best_step,
            seconds=progress.elapsed_s,
            data_wait=self._data_wait(),
        )
