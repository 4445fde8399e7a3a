"""Training of one fold, from a plan to the best weights, around the loop `loop.fit`."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from unetpp import labels
from unetpp.data.patches import PatchSampler
from unetpp.data.store import StoredCase
from unetpp.errors import Interrupted, Problem, UnetppError
from unetpp.files import MadeFolder
from unetpp.measured import DepthRow
from unetpp.metrics.scores import Validation
from unetpp.model.build import build_from_plan, load_encoder_weights
from unetpp.model.file import read_tensors, save_model
from unetpp.model.header import read_safetensors_header
from unetpp.model.network import UNetPlusPlus
from unetpp.model_notes import Notes, Training
from unetpp.plan import Plan
from unetpp.planning.rules import FINE_TUNING_RATE
from unetpp.run_folder import CHECKPOINT, LOG, MODEL
from unetpp.runtime.peak_memory import watch_memory
from unetpp.runtime.ranks import ALONE, Ranks
from unetpp.train.agreement import Agreement
from unetpp.train.augment import Augmentation
from unetpp.train.batches import Batch, BatchMaker, prefetch
from unetpp.train.checkpoint import TrainingState, load_checkpoint, read_training_state, save_checkpoint
from unetpp.train.first_stage import FirstStageChannels
from unetpp.train.growth import Growth
from unetpp.train.interruption import Interruption
from unetpp.train.log import Log
from unetpp.train.loop import fit
from unetpp.train.session import Session
from unetpp.train.step import TrainingStep

LOG_EVERY_S = 5.0
"""Seconds between two lines of the log."""


@dataclass(frozen=True)
class Status:
    """Status of a training, for a progress display."""

    fraction: float
    """Completed fraction of the schedule, 0 to 1."""
    step: int
    """Number of steps done."""
    loss: float
    """Mean loss since the last report; during a validation that of the last report."""
    best_dice: float | None
    """Highest validation Dice so far; None before the first validation."""
    images_per_second: float
    """Patches per second in this session, validations excluded."""
    seconds_left: float | None
    """Estimated seconds to the end of the schedule; None at the start of one in epochs."""
    activity: str = "training"
    """training, or what takes its time instead, such as validating."""
    begun: int = 0
    """Number of steps before the present schedule."""
    part: str = ""
    """What is trained, if not the whole network: an inner one, alone (`train.growth`)."""


@dataclass(frozen=True)
class Extension:
    """Further training after the end of a schedule."""

    budget_s: float | None = None
    """Seconds; None: `epochs`."""
    epochs: int | None = None


class FoldTraining:
    """State and files of one fold in training.

    Args:
        plan: what to train.
        cases: the cached training cases.
        folder: where model, checkpoint and log are written.
        device: where to train.
        validate: scores a network in evaluation mode; None: no case is left for it, and the last weights are the model.
        budget_s: seconds of training; None: the plan's epochs. (A resumed training keeps its own.)
        rebudget: computes `budget_s` at the start and after validations, from the seconds so far; None: it stays.
        validation_cases: number of cases that `validate` scores, for the checkpoint.
        held_out: number of all validation cases.
        weights: initial weights of the whole network; None: the plan's.
        show: called now and then with a Status.
        listen: called with each line of the log, see `train.listeners`.
        ranks: the processes that train together, each with such an object; the first one writes, the others are told
            by it how long they train. `weights`, `rebudget`, `show` and `listen` are its alone.
    """

    def __init__(
        self,
        plan: Plan,
        cases: Sequence[StoredCase],
        folder: Path,
        *,
        device: torch.device,
        validate: Callable[[nn.Module], Validation] | None,
        budget_s: float | None = None,
        rebudget: Callable[[float], float] | None = None,
        validation_cases: int | None = None,
        held_out: int | None = None,
        weights: Mapping[str, Tensor] | None = None,
        show: Callable[[Status], None] = lambda status: None,
        listen: Callable[..., object] = lambda **values: None,
        ranks: Ranks = ALONE,
    ) -> None:
        train = plan.train
        self.ranks, self.cases, self.validate = ranks, cases, validate
        self._held_out = held_out
        self.plan, self.folder, self.device, self._show = plan, folder, device, show
        self._rebudget, self._unread = rebudget, {CHECKPOINT, MODEL}
        torch.manual_seed(train.seed)
        self.network, self.growth = build_from_plan(plan.model), Growth(plan.model, train)
        self._has_weights = weights is not None
        if weights is not None:
            self.network.load_state_dict(weights)
        self.log = Log(folder / LOG, listen, writes=ranks.is_first)
        self.state = TrainingState(budget_s=budget_s, validation_cases=validation_cases)
        self.step = self._make_step(self.growth.cut(self.network, 0))
        sampler = PatchSampler(
            cases, train.patch, train.batch, train.foreground_fraction, train.seed, train.case_weights
        )
        augmentation = Augmentation(train.augment, train.patch, plan.data.voxel_mm)
        self.prefetcher = prefetch(BatchMaker(sampler, augmentation, device, ranks.share(train.batch)))
        self.session, self.interruption = Session(), Interruption()
        self._agreement = Agreement(ranks, self._compute_fraction, lambda: bool(self.interruption.requested))

    def _make_step(self, network: UNetPlusPlus) -> TrainingStep:
        """Make the training step of the present phase."""
        return TrainingStep(
            network,
            self.growth.plan_phase(self.state.phase),
            self.plan.train,
            self.device,
            first=self.state.phase_step,
            warn=lambda message: self.log.write("warning", message=message),
            ignored=labels.find_ignored_index(self.plan.data),
            regions=self.plan.data.region_indices,
            first_stage=FirstStageChannels(self.plan) if self.plan.data.resolution == "cascade" else None,
            ranks=self.ranks,
        )

    def run(self, resume: bool = False, more: Extension | None = None) -> Training:
        """Train to the end of the schedule; without a budget in seconds, until patience runs out.

        Args:
            resume: continue from the checkpoint if there is one.
            more: continue a training that has ended.

        Raises:
            Interrupted: stopped by a signal; `last.ckpt` holds everything.
            ModelFileError: the checkpoint is truncated, of another version, or made with another plan; or a file that
                was just written cannot be read.
            UnetppError: the loss is not finite, or the encoder's initial weights cannot be loaded.
            LostRank: another rank has ended, or does not answer.
            WriteError: no space left; the last checkpoint and the best model are intact.
        """
        self._made = MadeFolder(self.folder)
        checkpoint = self.folder / CHECKPOINT
        resumed = bool(self.ranks.agree(resume and checkpoint.exists())[0])
        if resumed:
            self.state = read_training_state(checkpoint) or self.state
            if self.state.phase:
                self.step = self._make_step(self.growth.cut(self.network, self.state.phase))
            self.state = load_checkpoint(checkpoint, self.plan, self.step, self.network)
            self.session = Session(self.state.step, self.state.elapsed_s)
        weights = "" if resumed or self._has_weights else self._load_encoder()
        self._begin_alike()
        if resumed and more and self.state.finished:
            self.state.extend(more.budget_s, more.epochs, FINE_TUNING_RATE)
            self._save_checkpoint()
        self.log.begin(self.state.step if resumed else -1, self.state.validations, self.state.phase)
        if weights:
            self.log.write("encoder", weights=weights)
        if not self.state.finished:
            machine = {"threads": torch.get_num_threads(), "torch": torch.__version__}
            machine |= {} if self.ranks.is_alone else {"ranks": self.ranks.size}
            seed = self.plan.train.seed
            state, schedule = self.state, {"first_step": self.state.first_step}
            schedule |= {"validation_cases": state.validation_cases} if state.validation_cases else {}
            self.log.write("start", step=state.step, seed=seed, device=str(self.device), **schedule, **machine)
            self._train()
        return self._summarize()

    def _load_encoder(self) -> str:
        """Load the initial weights of a timm encoder, and return where they are from; the first rank has them."""
        if not self.ranks.is_first:
            return ""
        if self.plan.model.encoder_weights:
            self._show(self._make_status("loading the encoder's weights"))
        weights = load_encoder_weights(self.network, self.plan.model)
        if weights:
            self.step = self._make_step(self.growth.cut(self.network, 0))
        return weights

    def _begin_alike(self) -> None:
        """Begin with the weights of the first rank, when all have read the checkpoint: from now on it is written."""
        step = int(self.ranks.agree(self.state.step)[0])
        if step != self.state.step:
            got, expected = f"step {self.state.step}", f"step {step}, at which the first rank continues"
            action = "Is the run folder on a disk that all machines share? Start the command again."
            problem = Problem(str(self.folder / CHECKPOINT), got, expected, action)
            raise UnetppError(str(problem), [problem])
        self.ranks.take_from_first([*self.network.state_dict().values(), *self.step.list_tensors()])

    def _train(self) -> None:
        first, memory = self.state.step, watch_memory(self.device)
        self.session = Session(first, self.state.elapsed_s)
        self._adjust_budget()
        self._show(self._make_status("compiling the network" if self.plan.train.compile else "starting"))
        batches = self.prefetcher.iterate(first)
        with self.interruption:
            try:
                # an earlier session may have stopped between a step and the validation that follows it
                reason = self._validate_if_due()
                reason = reason or fit(batches, self._run_step, self._agreement.find_fraction, first, self._after_step)
            finally:
                batches.close()
            if reason == "finished":
                self._grow_to(self.growth.last, 1.0)  # a long validation may have taken the time of the last phase
                self._validate_now()
        self.state.finished = reason
        self._save_checkpoint()
        self.log.write("end", step=self.state.step, **self._summarize().to_dict(), **memory())
        if self.interruption.requested:  # during the last validation
            self._raise_interrupted("training")

    def _raise_interrupted(self, after: str) -> NoReturn:
        signal = self.interruption.requested or "a signal to another rank"
        raise Interrupted(f"Stopped by {signal} after {after}; everything is saved.")

    def _compute_fraction(self, step: int) -> float:
        """Compute the completed fraction of the schedule: of `budget_s` if there is one, else of the steps."""
        state = self.state
        if state.budget_s is not None:
            return (self.session.elapsed_s - state.first_s) / state.budget_s
        epochs = state.epochs or self.plan.train.epochs
        return (step - state.first_step) / (epochs * self.plan.train.steps_per_epoch)

    def _run_step(self, batch: Batch, number: int, fraction: float) -> float:
        """Train on a batch, with the network of its phase; return the loss."""
        extended = self.state.first_step > 0  # then the whole network is trained
        self._grow_to(self.growth.last if extended else self.growth.find_phase(fraction), fraction)
        self.step.rate = self.state.rate * self.growth.compute_rise(self.state.grown_at, fraction)
        return self.step(batch, number, fraction)

    def _grow_to(self, phase: int, fraction: float) -> None:
        """Go on with the network of a later phase; of an earlier one, nothing is done."""
        if phase <= self.state.phase:
            return
        trained = self.step.network
        del self.step
        gc.collect()  # the memory of a CUDA graph
        network = self.growth.grow(trained, self.network, phase)
        self.state.begin_phase(phase, fraction)
        self.step = self._make_step(network)
        self.session.begin_phase(self.state.step)
        sizes = {"shells": network.shells, "sizes": network.head_depths}
        self.log.write("growth", step=self.state.step, phase=phase, **sizes, elapsed_s=self.session.elapsed_s)

    def _after_step(self, step: int, loss: float) -> str:
        """Report, save and validate if due; return why training should end, if it should."""
        if not math.isfinite(loss):
            self._raise_diverged(step, loss)
        self.state.step = step
        self.session.add_loss(loss)
        now = time.perf_counter()
        if now - self.session.reported > LOG_EVERY_S or step == 1:
            self._report_steps()
            self.session.reported = now
        if self._agreement.is_interrupted(step):
            self._stop()
        if now - self.session.saved > 60 * self.plan.train.checkpoint_minutes:
            self._save_checkpoint()
        return self._validate_if_due()

    def _stop(self) -> NoReturn:
        """Save everything and end an interrupted training."""
        self._save_checkpoint()
        self.log.write("end", step=self.state.step, reason="interrupted")
        self._raise_interrupted(f"step {self.state.step}")

    def _raise_diverged(self, step: int, loss: float) -> NoReturn:
        rates = {name: getattr(self.plan.train, name) / 3 for name in ("learning_rate", "kernel_learning_rate")}
        lower = " and ".join(f"`train.{name}={rate:.1g}`" for name, rate in rates.items())
        exact = "" if self.plan.train.precision == "fp32" else ", or with `train.precision=fp32`"
        action = f"Train into another `out` with {lower}{exact}."
        problem = Problem(f"step {step}", f"a loss of {loss}", "a finite number", action)
        raise UnetppError(str(problem), [problem])

    def _validate_if_due(self) -> str:
        """Validate if the schedule has reached the next mark; return why training should end, if it should."""
        done = self.state.validations - self.state.first_validation
        if (done + 1) / self.plan.train.validations <= self._agreement.find_fraction(self.state.step) < 1:
            self._validate_now()
        if self.state.budget_s is not None:  # the time is given, and most is learned at the end, at low learning rates
            return ""
        is_whole = self.state.phase == self.growth.last
        return "patience" if is_whole and self.state.without_gain >= self.plan.train.patience else ""

    def _validate_now(self) -> None:
        """Score the moving average of the weights; save it if it is the best so far, or cannot be scored."""
        self._show(self._make_status("validating" if self.validate else "saving"))
        try:
            with self.session.time_validation(), self.interruption.at_once() if self.ranks.is_alone else nullcontext():
                validation = self.validate(self.step.average) if self.validate else None
        except KeyboardInterrupt:  # the validation is still due when training is resumed
            self._stop()
        self._agreement.forget()
        state, dice = self.state, validation.dice if validation else None
        # a slow validation that passed several marks counts for all of them
        marks = int(self._agreement.find_fraction(state.step) * self.plan.train.validations)
        state.validations = max(state.validations + 1, state.first_validation + marks)
        # of equal scores the later one counts: at first, small structures are missed altogether
        if dice is None or dice >= state.best_dice:
            state.best_dice, state.best_step, state.without_gain = -1.0 if dice is None else dice, state.step, 0
            self._save_model(validation)
        else:
            state.without_gain += 1
        if validation:
            elapsed_s = self.session.elapsed_s
            scores = {"dice": dice, "depths": validation.depths, "train_loss": self.session.take_mean_loss()}
            more = {"train_dice": validation.train_dice, "loss": validation.loss}
            scores |= {name: value for name, value in more.items() if value is not None}
            self.log.write("validation", step=state.step, number=state.validations, **scores, elapsed_s=elapsed_s)
        self._adjust_budget()
        self._save_checkpoint()

    def _save_model(self, validation: Validation | None) -> None:
        """Save the moving average of the weights as the whole network, and its scores."""
        if not self.ranks.is_first:
            return
        scores = self.growth.complete_scores(validation.depths, self.state.phase) if validation else {}
        depths = {depth: DepthRow(dice=score) for depth, score in scores.items()}
        notes = Notes(dice=validation.dice if validation else None, step=self.state.step, depths=depths)
        if validation and self.state.validation_cases and self._held_out:
            notes = notes.merge(Notes(scored=(self.state.validation_cases, self._held_out)))
        self._made.require()
        whole = self.growth.complete(self.step.average, self.network)
        save_model(self.folder / MODEL, whole.state_dict(), self.plan, notes)
        self._read_back(MODEL)

    def _adjust_budget(self) -> None:
        if self._rebudget and self.state.budget_s is not None:
            self.state.budget_s = self._rebudget(self.session.elapsed_s - self.state.first_s)

    def _save_checkpoint(self) -> None:
        self.state.elapsed_s = self.session.elapsed_s
        if not self.ranks.is_first:
            return
        self._made.require()
        save_checkpoint(self.folder / CHECKPOINT, self.plan, self.state, self.step, self.network)
        self._read_back(CHECKPOINT)
        self.session.saved = time.perf_counter()

    def _read_back(self, name: str) -> None:
        """Read the first file of a kind that this session wrote: a disk that loses data is found early."""
        if name in self._unread:
            read_safetensors_header(self.folder / name)
            read_tensors(self.folder / name)
            self._unread.remove(name)

    def _make_status(self, activity: str = "training") -> Status:
        step, fraction = self.state.step, self._compute_fraction(self.state.step)
        spent_s, left_s = self.session.elapsed_s - self.state.first_s, None
        images_per_second = self.session.steps_per_second(step) * self.plan.train.batch  # of the same moment
        if self.state.budget_s is not None:
            left_s = self.state.budget_s - spent_s
        elif fraction > 0:
            done = fraction if self.state.first_step else self.growth.count_work(fraction)
            left_s = spent_s * (1 / done - 1)
        return Status(
            fraction=min(1.0, fraction),
            step=step,
            loss=self.session.mean_loss,
            best_dice=self._best_dice,
            images_per_second=images_per_second,
            seconds_left=left_s,
            activity=activity,
            begun=self.state.first_step,
            part=self.growth.describe_phase(self.state.phase),
        )

    def _report_steps(self) -> None:
        """Show and log the steps since the last report."""
        status = self._make_status()
        self._show(status)
        self.log.write(
            "train",
            step=status.step,
            epoch=(status.step - 1) // self.plan.train.steps_per_epoch + 1,
            loss=status.loss,
            learning_rate=self.step.learning_rate,
            images_per_second=status.images_per_second,
            data_wait=self._data_wait,
            elapsed_s=self.session.elapsed_s,
        )
        self.session.clear_losses()

    @property
    def _best_dice(self) -> float | None:
        return self.state.best_dice if self.state.best_dice >= 0 else None

    @property
    def _data_wait(self) -> float:
        """Fraction of the time of steps in which the network waited for data."""
        return self.prefetcher.waited_s / self.session.stepping_s

    def _summarize(self) -> Training:
        return Training(
            reason=self.state.finished,
            steps=self.state.step,
            best_dice=self._best_dice,
            best_step=self.state.best_step,
            seconds=self.state.elapsed_s,
            data_wait=self._data_wait,
        )
