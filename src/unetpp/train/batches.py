"""Batches keyed by step: batch k depends on the seed and k alone, so that resuming needs no loader state."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from unetpp.data.patches import PatchSampler, draw_generator
from unetpp.train.augment import Augmentation

Batch = tuple[Tensor, Tensor]
"""Images (B, C, *patch) float32 and labels (B, 1, *patch) int64; of a cascade, the labels hold what the first stage
found as well (`data.first_stage`)."""


class BatchMaker:
    """Maker of the batch of a step: draws its patches and augments them."""

    def __init__(self, sampler: PatchSampler, augmentation: Augmentation) -> None:
        self.sampler = sampler
        self.augmentation = augmentation

    def __call__(self, step: int) -> Batch:
        pairs = [self._make_pair(step, index) for index in range(self.sampler.batch)]
        return torch.stack([image for image, _ in pairs]), torch.stack([label for _, label in pairs])

    def _make_pair(self, step: int, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.sampler.read(self.sampler.draw(step, index))
        seed = int(draw_generator(self.sampler.seed, step, index).integers(2**32))
        return self.augmentation(image, label, seed)


class Prefetcher:
    """Maker of the next batches, in threads, while the network works on the current one.

    Threads, not processes: an error in a thread is raised here instead of ending in a silent death.

    Args:
        make: makes the batch of a step.
        workers: number of batches that are made at once; several share the processor, each with one thread of torch.
        ahead: number of batches that wait beyond those that are being made.
        pinned: put batches into page-locked memory, which a GPU reads asynchronously.

    Attributes:
        waited_s: seconds for which the consumer has waited.
    """

    def __init__(self, make: Callable[[int], Batch], workers: int = 1, ahead: int = 2, pinned: bool = False) -> None:
        self._make = (lambda step: _pin(make(step))) if pinned else make
        self._workers = workers
        self._ahead = workers + ahead
        self.waited_s = 0.0

    def iterate(self, step: int) -> Generator[Batch, None, None]:
        """Yield the batches of `step`, `step` + 1, ... without end; close the iterator to stop."""
        start = partial(torch.set_num_threads, 1) if self._workers > 1 else None  # applies to the thread that calls it
        with ThreadPoolExecutor(self._workers, thread_name_prefix="batches", initializer=start) as pool:
            waiting: list[Future[Batch]] = [pool.submit(self._make, step + k) for k in range(self._ahead)]
            try:
                while True:
                    started = time.perf_counter()
                    batch = waiting.pop(0).result()
                    self.waited_s += time.perf_counter() - started
                    waiting.append(pool.submit(self._make, step + self._ahead))
                    step += 1
                    yield batch
            finally:
                for future in waiting:
                    future.cancel()


def _pin(batch: Batch) -> Batch:
    images, labels = batch
    return images.pin_memory(), labels.pin_memory()
