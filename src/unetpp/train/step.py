"""One training step: a batch's loss, its gradients, and the update of the weights and of their running mean."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from unetpp.losses.supervision import DeepSupervisionLoss
from unetpp.model.network import UNetPlusPlus
from unetpp.plan import ModelPlan, TrainPlan
from unetpp.runtime.cuda_graph import GraphedGradients
from unetpp.runtime.device import autocast, memory_format
from unetpp.train.batches import Batch
from unetpp.train.optimizer import (
    freeze_encoder,
    learning_rate,
    make_optimizer,
    match_layouts,
    set_learning_rate,
    update_average,
)


class TrainingStep:
    """Trains a network on one batch at a time, and holds all that changes from step to step.

    Args:
        network: to be trained; moved to the device.
        model: the network's plan.
        train: how to train it.
        device: where to train.
        record: on a GPU, replay the step as a CUDA graph where that is possible.
        warn: called with a message if the network cannot be compiled, and so trains without.
    """

    def __init__(
        self,
        network: UNetPlusPlus,
        model: ModelPlan,
        train: TrainPlan,
        device: torch.device,
        *,
        record: bool = True,
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.network = network.to(device).train()
        self.network.checkpointing = train.checkpointing
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.optimizer = make_optimizer(network, train)
        self.scaler = torch.amp.GradScaler(device.type, enabled=train.precision == "fp16" and device.type == "cuda")
        self.loss = DeepSupervisionLoss(train.head_weights, train.cross_entropy_weight, train.dice_weight)
        self._model, self._train, self._device, self._warn = model, train, device, warn
        self._forward: Callable[..., Any] = torch.compile(network, dynamic=False) if train.compile else network
        self.use_layout(memory_format(model, device, train.compile))
        # checkpointing reads the state of the random generator; freezing and scaling change from step to step
        varies = train.checkpointing or train.freeze_encoder or self.scaler.is_enabled()
        self._recorded = record and device.type == "cuda" and not varies
        self._compute = (
            GraphedGradients(self._prepare, list(network.parameters())) if self._recorded else self._gradients
        )

    def __call__(self, batch: Batch, number: int, done: float) -> float:
        """Train on one batch.

        Args:
            batch: images (B, C, *patch) float32 and labels (B, 1, *patch) int64.
            number: of this step, from 0. Dropout depends on it and on the seed alone, as the batch does.
            done: the part of the schedule that is done, 0 to 1.

        Returns:
            The loss before the update.
        """
        freeze_encoder(self.network, done < self._train.freeze_encoder)
        set_learning_rate(self.optimizer, learning_rate(self._train, done))
        images, labels = self._place(batch)
        torch.manual_seed(hash((self._train.seed, number)) % 2**63)
        loss = self._compute(images, labels)
        self.scaler.step(self.optimizer, directions_ready=self._recorded)
        self.scaler.update()
        update_average(self.average, self.network, number + 1, self._train.ema_decay)
        return loss.item()

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step, without the factors of groups."""
        group = self.optimizer.param_groups[0]
        return float(group["lr"] / group["factor"])

    def use_layout(self, layout: torch.memory_format) -> None:
        """Lay out images, weights and the optimizer's state in this memory format."""
        self._layout = layout
        for network in (self.network, self.average):
            network.to(memory_format=layout)
        match_layouts(self.optimizer)

    def _place(self, batch: Batch) -> Batch:
        images, labels = batch
        images = images.to(self._device, memory_format=self._layout, non_blocking=True)
        return images, labels.to(self._device, non_blocking=True)

    def _prepare(self, images: Tensor, labels: Tensor) -> Tensor:
        """All of a step that does not depend on the learning rate, for a graph."""
        loss = self._gradients(images, labels)
        self.optimizer.compute_directions()
        return loss

    def _gradients(self, images: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss and leave its clipped gradients in the weights; fall back to eager if the compiler fails."""
        if self._forward is self.network:
            return self._backward(images, labels)
        try:
            return self._backward(images, labels)
        except torch._dynamo.exc.TorchDynamoException as error:
            self._forward = self.network
            self._warn(
                f"train.compile: {type(error).__name__}: {error}".splitlines()[0] + "; training without compiling"
            )
            self.use_layout(memory_format(self._model, self._device))
            return self._backward(images.contiguous(memory_format=self._layout), labels)

    def _backward(self, images: Tensor, labels: Tensor) -> Tensor:
        with autocast(self._device, self._train.precision):
            outputs = self._forward(images, heads=True)
        loss = self.loss(outputs, labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), self._train.gradient_clip)
        return loss.detach()
