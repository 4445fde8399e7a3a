"""Batches keyed by step: batch k depends on the seed and k alone, so that resuming needs no loader state."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from unetpp.data.patches import PatchLocation, draw_generator
from unetpp.runtime.device import batch_workers
from unetpp.train.augment import Augmentation, Variation

Batch = tuple[Tensor, Tensor]
"""Images (B, C, *patch) float32 and labels (B, 1, *patch) int64; of a cascade, the labels hold what the first stage
found as well (`data.first_stage`)."""


class Patches(Protocol):
    """Where patches are cut; `PatchSampler` for example."""

    batch: int
    seed: int

    def draw(self, step: int, index: int) -> PatchLocation:
        """Draw the location of a patch."""

    def cut(self, location: PatchLocation, margin: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Cut a patch and what is around it."""


class RawBatch(NamedTuple):
    """Patches as they were read, with their margins, each larger than the next or smaller: all in one piece."""

    images: Tensor
    """One window (C, *window) after the other, of the stored type."""
    labels: Tensor
    """One window (*window) after the other: uint8, or int32 if there are more classes."""
    shapes: list[tuple[int, ...]]
    """(C, *window) of each."""
    variations: list[Variation]

    def pin(self) -> RawBatch:
        """Copy to page-locked memory, which a GPU reads asynchronously."""
        return self._replace(images=self.images.pin_memory(), labels=self.labels.pin_memory())


class BatchMaker:
    """Maker of the batch of a step: reads its patches, and varies them on a device.

    Args:
        sampler: draws and cuts patches.
        augmentation: draws how they are varied.
        device: where they are varied, and where the batch is afterwards.
        share: indices of the patches of a batch that are made; None: all of them.
    """

    def __init__(
        self,
        sampler: Patches,
        augmentation: Augmentation,
        device: torch.device | str = "cpu",
        share: range | None = None,
    ) -> None:
        self.sampler = sampler
        self.share = range(sampler.batch) if share is None else share
        self.augmentation = augmentation
        self.device = torch.device(device)

    def __call__(self, step: int) -> Batch:
        return self.vary(self.read(step))

    def read(self, step: int) -> RawBatch:
        """Draw and read the patches of a step, each as large as its variation needs, flipped and turned."""
        sampler, patch = self.sampler, self.augmentation.patch
        variations = [self.augmentation.draw(draw_generator(sampler.seed, step, index, 1)) for index in self.share]
        images, labels = [], []
        for index, variation in zip(self.share, variations, strict=True):
            image, label = sampler.cut(sampler.draw(step, index), variation.find_margin(patch))
            images.append(variation.orient(image))
            labels.append(variation.orient(label))
        labels_type = np.uint8 if all(label.dtype == np.uint8 for label in labels) else np.int32
        return RawBatch(
            torch.from_numpy(np.concatenate([image.reshape(-1) for image in images])),
            torch.from_numpy(np.concatenate([label.reshape(-1) for label in labels], dtype=labels_type)),
            [image.shape for image in images],
            variations,
        )

    def vary(self, raw: RawBatch) -> Batch:
        """Deform patches and change their intensities, on the device."""
        patch, shapes = self.augmentation.patch, raw.shapes
        images = torch.empty(len(shapes), shapes[0][0], *patch, device=self.device)
        labels = torch.empty(len(shapes), 1, *patch, dtype=torch.int64, device=self.device)
        image_windows = raw.images.to(self.device, non_blocking=True).split([prod(shape) for shape in shapes])
        label_windows = raw.labels.to(self.device, non_blocking=True).split([prod(shape[1:]) for shape in shapes])
        for index, (shape, variation) in enumerate(zip(shapes, raw.variations, strict=True)):
            image, label = image_windows[index].view(shape), label_windows[index].view(shape[1:])
            if variation.deformation:
                image, label = variation.deformation.apply(image.float(), label, patch)
            images[index].copy_(image)
            labels[index, 0].copy_(label)
            for change in variation.changes:
                change(images[index])
        return images, labels


class Prefetcher:
    """Maker of the next batches, in threads, while the network works on the current one.

    Threads, not processes: an error in a thread is raised here instead of ending in a silent death.

    Args:
        make: makes the batch of a step.
        workers: number of batches that are made at once; several share the processor, each with one thread of torch.
        ahead: number of batches that wait beyond those that are being made.
        finish: completes what `make` has made, in a thread of its own, for the next batch alone; None: it is complete.

    Attributes:
        waited_s: seconds for which the consumer has waited.
    """

    def __init__(
        self,
        make: Callable[[int], Any],
        workers: int = 1,
        ahead: int = 2,
        finish: Callable[[Any], Batch] | None = None,
    ) -> None:
        self._make = make
        self._workers = workers
        self._ahead = workers + ahead
        self._finish = finish
        self.waited_s = 0.0

    def iterate(self, step: int) -> Generator[Batch, None, None]:
        """Yield the batches of `step`, `step` + 1, ... without end; close the iterator to stop."""
        start = partial(torch.set_num_threads, 1) if self._workers > 1 else None  # applies to the thread that calls it
        with (
            ThreadPoolExecutor(self._workers, thread_name_prefix="batches", initializer=start) as pool,
            ThreadPoolExecutor(1, thread_name_prefix="next batch", initializer=start) as last,
        ):
            waiting: list[Future[Any]] = [pool.submit(self._make, step + k) for k in range(self._ahead)]
            following = last.submit(self._complete, waiting.pop(0))
            try:
                while True:
                    started = time.perf_counter()
                    batch = following.result()
                    self.waited_s += time.perf_counter() - started
                    waiting.append(pool.submit(self._make, step + self._ahead))
                    following = last.submit(self._complete, waiting.pop(0))
                    step += 1
                    yield batch
            finally:
                for future in waiting:
                    future.cancel()

    def _complete(self, making: Future[Any]) -> Batch:
        made = making.result()
        return self._finish(made) if self._finish else made


def prefetch(make: BatchMaker) -> Prefetcher:
    """Return a prefetcher of batches that are on the device of their maker.

    A CPU varies patches in the thread that reads them. For a GPU many threads read; it varies those of the next batch
    on a stream of its own beside the present step, and holds no more of them.
    """
    workers = batch_workers(make.device)
    if make.device.type == "cpu":
        return Prefetcher(make, workers)
    consumer, aside = torch.cuda.current_stream(make.device), torch.cuda.Stream(make.device)

    def vary(raw: RawBatch) -> Batch:
        with torch.cuda.stream(aside):
            batch = make.vary(raw)
        aside.synchronize()
        for tensor in batch:
            tensor.record_stream(consumer)
        return batch

    return Prefetcher(lambda step: make.read(step).pin(), workers, finish=vary)
