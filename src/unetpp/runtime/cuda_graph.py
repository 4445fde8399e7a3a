"""A training step as a CUDA graph: one launch in place of thousands, which take a GPU longer to receive than to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Gradients = Callable[[Tensor, Tensor], Tensor]
"""From images and labels to the loss; leaves its gradients in the weights."""
WARM_UPS = 4
"""Steps before the recording, in which libraries choose their kernels and states begin to exist."""
MOST_MEMORY = 0.45
"""Of a device: a graph keeps its own while cases are validated."""


class GraphedGradients:
    """Computes as `work` does, from the fifth batch on by replaying what that did, where there is memory for it.

    All batches have one size.

    Args:
        work: without anything that waits for the device.
        weights: their gradients lie where they lay when `work` was recorded.
    """

    def __init__(self, work: Gradients, weights: Sequence[Tensor]) -> None:
        self._work, self._weights = work, list(weights)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._refused = False
        """There is no memory for a graph, or something in `work` cannot be recorded."""
        self._stream = torch.cuda.Stream()
        torch.cuda.reset_peak_memory_stats()
        self._steps = 0

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        self._steps += 1
        if self._steps <= WARM_UPS:
            return self._beside(images, labels)
        if self._graph is None and not self._refused:
            self._record(images, labels)
        if self._graph is None:
            return self._work(images, labels)
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()
        for weight, gradient in self._gradients:
            weight.grad = gradient
        return self._value

    def _beside(self, images: Tensor, labels: Tensor) -> Tensor:
        """On the stream that is recorded later: autograd remembers where it ran first."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            value = self._work(images, labels)
        torch.cuda.current_stream().wait_stream(self._stream)
        return value

    def _record(self, images: Tensor, labels: Tensor) -> None:
        self._refused = torch.cuda.max_memory_allocated() > MOST_MEMORY * torch.cuda.mem_get_info()[1]
        if self._refused:
            return
        self._images, self._labels = images.clone(), labels.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            # other threads make batches and may ask for memory meanwhile
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._value = self._work(self._images, self._labels)
        except RuntimeError:  # torch.OutOfMemoryError is one
            torch.cuda.synchronize()
            self._refused = True
            return
        self._gradients = [(weight, weight.grad) for weight in self._weights if weight.grad is not None]
        self._graph = graph
