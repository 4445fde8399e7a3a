"""One training step: the loss of a batch, its gradients, and the update of the weights and of their moving average."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unetpp.losses.supervision import DeepSupervisionLoss
from unetpp.model.blocks import FrozenStatistics
from unetpp.model.network import UNetPlusPlus
from unetpp.model.shells import list_outer_blocks
from unetpp.plan import ModelPlan, TrainPlan
from unetpp.runtime.cuda_graph import GraphedGradients
from unetpp.runtime.device import autocast, memory_format
from unetpp.runtime.ranks import ALONE, Ranks
from unetpp.runtime.synchronized_norm import synchronize_norms
from unetpp.train import optimizer
from unetpp.train.batches import Batch
from unetpp.train.first_stage import FirstStageChannels


class TrainingStep:
    """Training of a network, one batch at a time; holds all that changes from step to step.

    Args:
        network: to be trained; moved to the device.
        model: plan of the network.
        train: how to train it.
        device: where to train.
        record: on a GPU, replay the step as a CUDA graph where that is possible.
        first: number of steps of the training before the first one of this network.
        warn: called with a message if the network cannot be compiled and is trained without.
        ignored: class index of voxels that nobody labeled; None: there are none.
        regions: class indices of each logit, see `DataPlan.region_indices`; None: exclusive classes.
        first_stage: adds the channels of a first stage to the images; None: there is none.
        ranks: the processes that train together, each on its share of the batch.

    Attributes:
        network: in training mode.
        average: moving average of the weights, in evaluation mode.
        optimizer: for all weights of `network`.
        scaler: of the gradients, enabled in float16 on a GPU.
        loss: deep supervision over the heads.
        rate: learning rates as a fraction of those of `train`.
        arithmetic: makes the context of the forward pass.
    """

    def __init__(
        self,
        network: UNetPlusPlus,
        model: ModelPlan,
        train: TrainPlan,
        device: torch.device,
        *,
        record: bool = True,
        first: int = 0,
        warn: Callable[[str], None] = lambda message: None,
        ignored: int | None = None,
        regions: Sequence[Sequence[int]] | None = None,
        first_stage: FirstStageChannels | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.network = network.to(device).train()
        self.network.checkpointing = train.checkpointing
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.optimizer = optimizer.make_optimizer(network, train, ranks)
        self.scaler = torch.amp.GradScaler(device.type, enabled=train.precision == "fp16" and device.type == "cuda")
        self.loss = make_loss(train, network, ignored, train.distillation, regions).to(device)
        self._model, self._train, self._device, self._warn = model, train, device, warn
        self._first, self._first_stage, self._ranks = first, first_stage, ranks
        # as many on each rank, whose batch normalizations meet in each
        self._parts = max(1, min(train.accumulate, train.batch // ranks.size))
        self.rate = 1.0
        self._forward: Callable[..., Any] = torch.compile(network, dynamic=False) if train.compile else network
        self.arithmetic: Callable[[], AbstractContextManager[Any]] = partial(autocast, device, train.precision)
        self.use_memory_format(memory_format(model, device, train.compile))
        # checkpointing reads the state of the random generator; freezing and scaling change from step to step
        varies = train.checkpointing or train.freeze_encoder or self.scaler.is_enabled()
        is_whole = ranks.is_alone and self._parts == 1
        self._uses_graph = record and device.type == "cuda" and is_whole and not varies
        self._compute: Callable[[Tensor, Tensor], Tensor] = self._compute_gradients
        if self._uses_graph:
            self._compute = GraphedGradients(self._compute_directions, list(network.parameters()))

    def __call__(self, batch: Batch, number: int, fraction: float) -> float:
        """Train on one batch.

        Args:
            batch: images (B, C, *patch) float32 and labels (B, 1, *patch) int64: this rank's share of it.
            number: of this step, from 0. Dropout depends on it and on the seed alone, as the batch does.
            fraction: completed fraction of the schedule, 0 to 1.

        Returns:
            The loss of the whole batch before the update, the same on every rank.
        """
        optimizer.freeze_encoder(self.network, fraction < self._train.freeze_encoder)
        rate = self.rate * optimizer.compute_learning_rate(self._train, fraction)
        optimizer.set_learning_rate(self.optimizer, rate)
        images, labels = self._place(batch, number)
        self._number = number
        torch.manual_seed(hash((self._train.seed, number)) % 2**63)
        loss = self._compute(images, labels)
        self.scaler.step(self.optimizer, directions_ready=self._uses_graph)
        self.scaler.update()
        optimizer.update_average(self.average, self.network, number + 1 - self._first, self._train.ema_decay)
        return loss.item()

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step, without the factors of groups."""
        group = self.optimizer.param_groups[0]
        return float(group["lr"] / group["factor"])

    def list_tensors(self) -> list[Tensor]:
        """List all that changes from step to step: weights, their average, and the state of the optimizer."""
        states = [state for _, state in sorted(self.optimizer.state_dict()["state"].items())]
        networks = [*self.network.state_dict().values(), *self.average.state_dict().values()]
        return [*networks, *(state[name] for state in states for name in sorted(state))]

    def use_memory_format(self, memory_format: torch.memory_format) -> None:
        """Store images, weights and the optimizer's state in this memory format."""
        self._memory_format = memory_format
        for network in (self.network, self.average):
            network.to(memory_format=memory_format)
        optimizer.match_memory_formats(self.optimizer)

    def _place(self, batch: Batch, number: int) -> Batch:
        """Copy the batch of a step to the device, and complete its images there."""
        images, labels = batch
        images = images.to(self._device, memory_format=self._memory_format, non_blocking=True)
        labels = labels.to(self._device, non_blocking=True)
        if self._first_stage is None:
            return images, labels
        images, labels = self._first_stage(images, labels, number, self._share.start)
        return images.contiguous(memory_format=self._memory_format), labels

    def _compute_directions(self, images: Tensor, labels: Tensor) -> Tensor:
        """Do the part of a step that is independent of the learning rate, for a CUDA graph."""
        loss = self._compute_gradients(images, labels)
        self.optimizer.compute_directions()
        return loss

    def _compute_gradients(self, images: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss and leave its clipped gradients in the weights; run eagerly if compiling fails."""
        if self._forward is self.network:
            return self._backpropagate(images, labels)
        try:
            return self._backpropagate(images, labels)
        except torch._dynamo.exc.TorchDynamoException as error:
            self._forward = self.network
            reason = f"train.compile: {type(error).__name__}: {error}".splitlines()[0]
            self._warn(f"{reason}; training without compiling")
            self.use_memory_format(memory_format(self._model, self._device))
            return self._backpropagate(images.contiguous(memory_format=self._memory_format), labels)

    @property
    def _share(self) -> range:
        """Indices of this rank's patches of a batch."""
        return self._ranks.share(self._train.batch)

    def _backpropagate(self, images: Tensor, labels: Tensor) -> Tensor:
        if self._ranks.is_alone and self._parts == 1:
            with self.arithmetic():
                outputs = self._forward(images, heads=True)
            loss: Tensor = self.loss(outputs, labels)
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(self.scaler.scale(loss))
        else:
            self.optimizer.zero_grad(set_to_none=True)
            with synchronize_norms(self.network, self._ranks):
                loss = self._backpropagate_parts(images, labels)
            self._ranks.sum_gradients(list(self.network.parameters()))
        self.scaler.unscale_(self.optimizer)
        if self.network.shells > 1:
            torch._foreach_zero_(list_outer_blocks(self.network, gradients=True))
        nn.utils.clip_grad_norm_(self.network.parameters(), self._train.gradient_clip)
        return loss.detach()

    def _backpropagate_parts(self, images: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of the whole batch, and its gradients for the parts that are here.

        The loss of a batch is no mean over its parts. So their sums are computed first, without gradients if there are
        several parts here, and added up; then the gradient goes through the sums of one part after the other.
        """
        parts = list(zip(images.tensor_split(self._parts), labels.tensor_split(self._parts), strict=True))
        summed: Tensor | None = None
        if len(parts) > 1:
            with torch.no_grad(), FrozenStatistics(self.network):
                found = [self._list_sums(number, *part)[0] for number, part in enumerate(parts)]
            summed = self._ranks.add_up(torch.stack(found).sum(0))
        for number, part in enumerate(parts):
            own, depths = self._list_sums(number, *part)
            summed = self._ranks.add_up(own.detach().clone()) if summed is None else summed
            loss = self.loss.combine(summed + (own - own.detach()), depths)
            torch.autograd.backward(self.scaler.scale(loss))
        return loss

    def _list_sums(self, number: int, images: Tensor, labels: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Compute the sums of which the loss is made, of one part; its dropout depends on the number of the part."""
        torch.manual_seed(hash((self._train.seed, self._number, self._share.start, number)) % 2**63)
        with self.arithmetic():
            outputs = self._forward(images, heads=True)
        return self.loss.list_sums(outputs, labels), outputs.depths


def make_loss(
    train: TrainPlan,
    network: UNetPlusPlus,
    ignored: int | None = None,
    distillation: bool = False,
    regions: Sequence[Sequence[int]] | None = None,
) -> DeepSupervisionLoss:
    """Make the loss of a training.

    Args:
        train: its plan.
        network: in a phase of growth, the part that has heads so far.
        ignored: class index of voxels that nobody labeled; None: there are none.
        distillation: all sizes but the largest learn from its answers; of labels, as validations count them, if False.
        regions: class indices of each logit; None: exclusive classes.
    """
    weights = train.head_weights
    weights = weights if weights == "equal" else weights[: network.head_depths[-1]]
    terms = (train.cross_entropy_weight, train.dice_weight)
    return DeepSupervisionLoss(
        weights, *terms, ignored, distillation, regions=regions, class_weights=train.class_weights
    )
