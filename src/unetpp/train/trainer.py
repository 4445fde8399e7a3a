"""One fold, from a plan to the best weights: puts the parts of a training together around `loop.fit`."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unetpp.data.patches import PatchSampler
from unetpp.data.store import StoredCase
from unetpp.errors import Interrupted, UnetppError
from unetpp.losses.supervision import DeepSupervisionLoss
from unetpp.measured import DepthRow, Notes, Training
from unetpp.metrics.scores import Validation
from unetpp.model.build import from_plan, load_encoder_weights
from unetpp.model.file import save_model
from unetpp.plan import Plan
from unetpp.run_folder import CHECKPOINT, LOG, MODEL
from unetpp.runtime.cuda_graph import Recorded
from unetpp.runtime.device import autocast, batch_workers, memory_format
from unetpp.train.augment import Augmentation
from unetpp.train.batches import Batch, BatchMaker, Prefetcher
from unetpp.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from unetpp.train.interruption import Interruption
from unetpp.train.log import Log
from unetpp.train.loop import fit, gradients
from unetpp.train.optimizer import learning_rate, make_optimizer, rest_encoder, update_average

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
        self._format = memory_format(plan.model, device, train.compile)
        self.network = from_plan(plan.model).to(device).to(memory_format=self._format)
        self.network.checkpointing = train.checkpointing
        self._has_weights = weights is not None
        if weights is not None:
            self.network.load_state_dict(weights)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = make_optimizer(self.network, train)
        self.scaler = torch.amp.GradScaler(device.type, enabled=train.precision == "fp16" and device.type == "cuda")
        # what is computed again reads the state of the generator, and what rests or scales changes the step
        self._recorded = device.type == "cuda" and not (
            train.checkpointing or train.freeze_encoder or self.scaler.is_enabled()
        )
        self.progress = Progress(budget_s=budget_s, validation_cases=validation_cases)
        sampler = PatchSampler(cases, train.patch, train.batch, train.foreground_fraction, train.seed)
        self.prefetcher = Prefetcher(
            BatchMaker(sampler, Augmentation(train.augment, train.patch, plan.data.voxel_mm)),
            batch_workers(device),
            pinned=device.type == "cuda",
        )
        self.loss = DeepSupervisionLoss(train.head_weights, train.cross_entropy_weight, train.dice_weight)
        self._started = self._checkpointed = self._logged = time.perf_counter()
        self._paused_s = 0.0
        self._session_steps = 0
        self._recent: list[float] = []

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
        if resumed:
            self.progress = load_checkpoint(
                checkpoint, self.plan, self.network, self.average, self.optimizer, self.scaler
            )
        weights = "" if resumed or self._has_weights else load_encoder_weights(self.network, self.plan.model)
        self.log = Log(self.folder / LOG, self.progress.step if resumed else None)
        if weights:
            self.average.load_state_dict(self.network.state_dict())
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
        train = self.plan.train
        self._base_s, self._started = self.progress.elapsed_s, time.perf_counter()
        batches = self.prefetcher.from_step(self.progress.step)
        with Interruption() as self.interruption:
            try:
                # a stop may have come between a step and the validation that follows it
                reason = self._validation_if_due() or fit(
                    self.network,
                    batches,
                    self.optimizer,
                    gradients=self._gradients(),
                    move=self._move,
                    step=self.progress.step,
                    seed=train.seed,
                    fraction=self._fraction,
                    learning_rate=lambda done: learning_rate(train, done),
                    place=self._place,
                    before_step=lambda done: rest_encoder(self.network, done < train.freeze_encoder),
                    after_step=self._after_step,
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

    def _gradients(self) -> Callable[[Tensor, Tensor], Tensor]:
        """As `loop.gradients` has it; on a GPU recorded, with what the optimiser makes of the gradients."""
        train = self.plan.train
        plain = gradients(
            self.network,
            self.loss,
            self.optimizer,
            gradient_clip=train.gradient_clip,
            autocast=lambda: autocast(self.device, train.precision),
            scaler=self.scaler,
        )
        if not self._recorded:
            return plain

        def turned(images: Tensor, labels: Tensor) -> Tensor:
            value = plain(images, labels)
            self.optimizer.turn()
            return value

        return Recorded(turned, list(self.network.parameters()))

    def _compiled(self) -> Any:
        if not self.plan.train.compile:
            return self.network
        torch._dynamo.config.suppress_errors = (
            True  # what cannot be compiled, for want of a compiler too, runs as it is
        )
        return torch.compile(self.network, dynamic=False)

    def _move(self) -> None:
        self.scaler.step(self.optimizer, turned=self._recorded)
        self.scaler.update()

    def _fraction(self, step: int) -> float:
        """The part of the schedule that is done: of the time where a time was given, else of the steps."""
        if self.progress.budget_s is not None:
            return self._elapsed_s() / self.progress.budget_s
        return step / (self.plan.train.epochs * self.plan.train.steps_per_epoch)

    def _elapsed_s(self) -> float:
        return self._base_s + time.perf_counter() - self._started

    def _stepping_s(self) -> float:
        """Seconds of this session that went into steps, not into validations."""
        return time.perf_counter() - self._started - self._paused_s

    def _place(self, batch: Batch) -> Batch:
        images, labels = batch
        return images.to(self.device, memory_format=self._format, non_blocking=True), labels.to(
            self.device, non_blocking=True
        )

    def _after_step(self, step: int, loss: float, rate: float) -> str:
        if not math.isfinite(loss):
            train = self.plan.train
            rates = f"train.learning_rate={train.learning_rate / 3:.1g} train.kernel_learning_rate={train.kernel_learning_rate / 3:.1g}"
            exact = "" if train.precision == "fp32" else ", or --set train.precision=fp32"
            raise UnetppError(
                f"step {step}: got a loss of {loss}; expected a number. Train into another --out with --set {rates}{exact}."
            )
        update_average(self.average, self.network, step, self.plan.train.ema_decay)
        self.progress.step = step
        self._session_steps += 1
        self._recent.append(loss)
        now = time.perf_counter()
        if now - self._logged > LOG_EVERY_S or step == 1:
            self._report(rate)
            self._logged = now
        if self.interruption.requested:
            self._save_checkpoint()
            self.log.write("end", step=step, reason="interrupted")
            raise Interrupted(
                f"Stopped by {self.interruption.requested} after step {step}; everything is saved. Go on with the same command and --resume."
            )
        if now - self._checkpointed > 60 * self.plan.train.checkpoint_minutes:
            self._save_checkpoint()
        return self._validation_if_due()

    def _validation_if_due(self) -> str:
        """Why training should end, if it should."""
        if (self.progress.validations + 1) / self.plan.train.validations <= self._fraction(self.progress.step) < 1:
            self._validation()
        return "patience" if self.progress.without_gain >= self.plan.train.patience else ""

    def _validation(self) -> None:
        """Score the running mean of the weights; keep it where it is the best so far."""
        self._report(None, "validating")
        started = time.perf_counter()
        validation = self._validate(self.average)
        self._paused_s += time.perf_counter() - started
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
            save_model(self.folder / MODEL, self.average.state_dict(), self.plan, notes)
        else:
            progress.without_gain += 1
        scores = {"dice": validation.dice, "depths": validation.depths}
        self.log.write("validation", step=progress.step, **scores, elapsed_s=self._elapsed_s())
        self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        self.progress.elapsed_s = self._elapsed_s()
        save_checkpoint(
            self.folder / CHECKPOINT, self.plan, self.progress, self.network, self.average, self.optimizer, self.scaler
        )
        self._checkpointed = time.perf_counter()

    def _report(self, rate: float | None, activity: str = "training") -> None:
        step, elapsed = self.progress.step, self._elapsed_s()
        seconds = self._stepping_s()
        speed = self._session_steps * self.plan.train.batch / seconds if seconds else 0.0
        loss = sum(self._recent) / len(self._recent) if self._recent else math.nan
        fraction = self._fraction(step)
        left = elapsed * (1 / fraction - 1) if fraction > 0 else None
        best = self.progress.best_dice if self.progress.best_step else None
        self._show(Status(min(1.0, fraction), step, loss, best, speed, left, activity))
        if rate is not None:
            epoch = (step - 1) // self.plan.train.steps_per_epoch + 1
            wait = self.prefetcher.waited_s / seconds if seconds else 0.0
            self.log.write(
                "train",
                step=step,
                epoch=epoch,
                loss=loss,
                learning_rate=rate,
                images_per_second=speed,
                data_wait=wait,
                elapsed_s=elapsed,
            )
            self._recent.clear()

    def _result(self) -> Training:
        progress = self.progress
        seconds = self._stepping_s()
        wait = self.prefetcher.waited_s / seconds if seconds else 0.0
        return Training(
            reason=progress.finished,
            steps=progress.step,
            best_dice=progress.best_dice,
            best_step=progress.best_step,
            seconds=progress.elapsed_s,
            data_wait=wait,
        )
