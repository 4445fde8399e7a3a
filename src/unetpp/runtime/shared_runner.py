"""A runner that several threads share: what they ask for at the same moment runs in one pass."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor

from unetpp.model.network import HeadOutputs
from unetpp.runtime.device import autocast
from unetpp.runtime.runner import ForwardPass, IncrementalRunner

MOST_VOXELS = 2**20
"""Largest number of voxels of one pass of several threads: a larger one is no faster, and takes memory for all."""


@dataclass(frozen=True, eq=False)
class _Call:
    """What one thread asks for."""

    images: Tensor
    depth: int | None
    heads: bool
    answer: Future[Tensor | HeadOutputs] = field(default_factory=Future)

    @property
    def kind(self) -> tuple[Any, ...]:
        """Calls of one kind can run together."""
        return self.depth, self.heads, self.images.shape[1:], self.images.dtype, self.images.device


class SharedRunner:
    """Runs the calls of several threads, one pass after the other: while one runs, others wait, and then run together.

    A call that waits for nobody runs as it is. All passes run in a thread of their own, so that there is one set of
    threads of the computation, and one store of freed memory.

    Args:
        runner: what runs the network.
        precision: of its convolutions, as in `PredictPlan`.
        most: largest number of images in a pass of several calls.
    """

    def __init__(self, runner: IncrementalRunner, precision: str, most: int) -> None:
        self._runner, self._precision, self._most = runner, precision, most
        self._waiting: list[_Call] = []
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="passes")

    def start_forward(self, x: Tensor) -> ForwardPass:
        """Begin an incremental forward pass, which runs by itself."""
        return self._runner.start_forward(x)

    def __call__(self, x: Tensor, depth: int | None = None, heads: bool = False) -> Tensor | HeadOutputs:
        """Compute logits; arguments and result as those of `UNetPlusPlus.forward`, without gradients."""
        call = _Call(x, depth, heads)
        with self._lock:
            self._waiting.append(call)
        self._pool.submit(self._run_next)  # one for each call: the last ones may find nothing left to do
        return call.answer.result()

    def _take(self) -> list[_Call]:
        """Take the calls that run next: the first that waits, and others of its kind; none if others took them."""
        with self._lock:
            if not self._waiting:
                return []
            first, count = self._waiting[0], 0
            taken: list[_Call] = []
            most = min(self._most, MOST_VOXELS // prod(first.images.shape[2:]))
            for call in [each for each in self._waiting if each.kind == first.kind]:
                count += len(call.images)
                if taken and count > most:
                    break
                taken.append(call)
            self._waiting = [each for each in self._waiting if each not in taken]
            return taken

    def _run_next(self) -> None:
        calls = self._take()
        if len(calls) > 1:
            with suppress(Exception):  # such as out of memory: then each by itself
                self._run_together(calls)
                return
        for call in calls:
            try:
                call.answer.set_result(self._run(call.images, call))
            except BaseException as error:
                call.answer.set_exception(error)

    def _run_together(self, calls: list[_Call]) -> None:
        output = self._run(torch.cat([call.images for call in calls]), calls[0])
        counts = [len(call.images) for call in calls]
        if isinstance(output, HeadOutputs):
            heads = [logits.split(counts) for logits in output.logits]
            for call, *logits in zip(calls, *heads, strict=True):
                call.answer.set_result(HeadOutputs(output.depths, tuple(logits)))
            return
        for call, each in zip(calls, output.split(counts), strict=True):
            call.answer.set_result(each)

    @torch.inference_mode()
    def _run(self, images: Tensor, call: _Call) -> Tensor | HeadOutputs:
        with autocast(images.device, self._precision):
            return self._runner(images, depth=call.depth, heads=call.heads)
