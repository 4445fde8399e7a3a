"""Batches keyed by step: batch k is the same whoever asks for it and whenever, so that resuming needs no loader state."""

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


class BatchMaker:
    """Cuts and varies the patches of one step.

    Calling it with a step gives images (B, C, *patch) float32 and labels (B, 1, *patch) int64.
    """

    def __init__(self, sampler: PatchSampler, augmentation: Augmentation) -> None:
        self.sampler = sampler
        self.augmentation = augmentation

    def __call__(self, step: int) -> Batch:
        pairs = [self._one(step, index) for index in range(self.sampler.batch)]
        return torch.stack([image for image, _ in pairs]), torch.stack([label for _, label in pairs])

    def _one(self, step: int, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.sampler.read(self.sampler.draw(step, index))
        seed = int(draw_generator(self.sampler.seed, step, index).integers(2**32))
        return self.augmentation(image, label, seed)


class Prefetcher:
    """Makes the next batches in threads while the network works on the current one.

    Threads, not processes: an error in one surfaces here instead of as a silent death. `waited_s` sums the time in
    which the consumer had to wait.

    Args:
        make: gives the batch of a step.
        workers: batches that are made at once; several share the processor, each with one thread of torch.
        ahead: batches that wait beyond those that are being made.
        pinned: in memory that a GPU reads while the program goes on.
    """

    def __init__(self, make: Callable[[int], Batch], workers: int = 1, ahead: int = 2, pinned: bool = False) -> None:
        self._make = (lambda step: _pinned(make(step))) if pinned else make
        self._workers = workers
        self._ahead = workers + ahead
        self.waited_s = 0.0

    def from_step(self, step: int) -> Generator[Batch, None, None]:
        """Batches step, step + 1, ... without end; close the iterator to stop."""
        start = partial(torch.set_num_threads, 1) if self._workers > 1 else None  # holds for the thread that says it
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


def _pinned(batch: Batch) -> Batch:
    images, labels = batch
    return images.pin_memory(), labels.pin_memory()
