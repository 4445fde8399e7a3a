"""A training step as a CUDA graph: one launch instead of thousands, where launch overhead dominates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Gradients = Callable[[Tensor, Tensor], Tensor]
"""Computes the loss of images and labels, and leaves its gradients in the weights."""
WARM_UPS = 4
"""Steps before the capture, in which libraries choose their kernels and optimizers create their state."""
MAX_MEMORY_FRACTION = 0.45
"""Largest fraction of GPU memory that a captured step may use: a graph holds its memory during validation."""
make_stream: Callable[[], torch.cuda.Stream] = torch.cuda.Stream


class GraphedGradients:
    """Computes the same as `compute`; from the fifth batch on by replaying a CUDA graph, if there is enough memory.

    All batches have the same size.

    Args:
        compute: computes gradients without synchronizing with the device.
        weights: weights whose gradients stay where they were when the graph was captured.
    """

    def __init__(self, compute: Gradients, weights: Sequence[Tensor]) -> None:
        self._compute, self._weights = compute, list(weights)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._refused = False
        """Memory does not suffice for a graph, or an operation cannot be captured."""
        self._stream = make_stream()
        torch.cuda.reset_peak_memory_stats()
        self._steps = 0

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the loss; arguments as those of `compute`."""
        self._steps += 1
        if self._steps <= WARM_UPS:
            return self._warm_up(images, labels)
        if self._graph is None and not self._refused:
            self._capture(images, labels)
        if self._graph is None:
            return self._compute(images, labels)
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()
        for weight, gradient in self._gradients:
            weight.grad = gradient
        return self._loss

    def _warm_up(self, images: Tensor, labels: Tensor) -> Tensor:
        """Compute on the stream of the later capture: autograd remembers the stream it first ran on."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            loss = self._compute(images, labels)
        torch.cuda.current_stream().wait_stream(self._stream)
        return loss

    def _capture(self, images: Tensor, labels: Tensor) -> None:
        self._refused = torch.cuda.max_memory_allocated() > MAX_MEMORY_FRACTION * torch.cuda.mem_get_info()[1]
        if self._refused:
            return
        self._images, self._labels = images.clone(), labels.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            # other threads make batches and may allocate memory meanwhile
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._loss = self._compute(self._images, self._labels)
        except RuntimeError:  # torch.OutOfMemoryError is one
            torch.cuda.synchronize()
            self._refused = True
            return
        self._gradients = [(weight, weight.grad) for weight in self._weights if weight.grad is not None]
        self._graph = graph
