"""Calls of several threads that run in one pass: each gets what it would get alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from tests.conftest import toy_plan
from torch import Tensor

from unetpp.model.build import build_from_plan
from unetpp.runtime.shared_runner import SharedRunner


class Gate:
    """A runner that notes the sizes of its passes, and waits at the first until it is opened."""

    def __init__(self, network: Any) -> None:
        self.network, self.batches, self.is_open, self.began = network, [], threading.Event(), threading.Event()

    def __call__(self, x: Tensor, depth: int | None = None, heads: bool = False) -> Any:
        self.batches.append(len(x))
        self.began.set()
        assert self.is_open.wait(30)
        return self.network(x, depth=depth, heads=heads)

    def start_forward(self, x: Tensor) -> Any:
        return self.network.start_forward(x)


def ask_together(gate: Gate, shared: SharedRunner, images: list[Tensor], **options: Any) -> list[Any]:
    """Ask from a thread for each image, while the first pass waits."""
    with ThreadPoolExecutor(len(images)) as pool:
        first = pool.submit(shared, images[0], **options)
        assert gate.began.wait(30)
        others = [pool.submit(shared, image, **options) for image in images[1:]]
        while len(shared._waiting) < len(others):
            threading.Event().wait(0.001)
        gate.is_open.set()
        return [each.result(30) for each in (first, *others)]


@pytest.fixture
def network() -> Any:
    torch.manual_seed(0)
    return build_from_plan(toy_plan().model).eval()


def test_calls_that_wait_run_together(network: Any) -> None:
    gate, images = Gate(network), [torch.randn(1, 1, 16, 16) for _ in range(5)]
    found = ask_together(gate, SharedRunner(gate, "fp32", 3), images, heads=True)
    assert gate.batches == [1, 3, 1]
    with torch.inference_mode():
        for image, outputs in zip(images, found, strict=True):
            alone = network(image, heads=True)
            assert outputs.depths == alone.depths
            for ours, theirs in zip(outputs.logits, alone.logits, strict=True):
                torch.testing.assert_close(ours, theirs)


def test_other_kinds_wait_for_a_pass_of_their_own(network: Any) -> None:
    gate = Gate(network)
    images = [torch.randn(1, 1, 16, size) for size in (16, 32, 16, 32)]
    found = ask_together(gate, SharedRunner(gate, "fp32", 8), images, depth=1)
    assert sorted(gate.batches) == [1, 1, 2] and [tuple(each.shape[-2:]) for each in found] == [
        tuple(each.shape[-2:]) for each in images
    ]


def test_a_pass_that_fails_is_tried_call_by_call(network: Any) -> None:
    def run(x: Tensor, depth: int | None = None, heads: bool = False) -> Any:
        if len(x) > 1 or bool(x.isnan().any()):
            raise RuntimeError("out of memory")
        return network(x, depth=depth, heads=heads)

    gate = Gate(run)
    shared = SharedRunner(gate, "fp32", 8)
    images = [torch.randn(1, 1, 16, 16) for _ in range(3)]
    assert len(ask_together(gate, shared, images, depth=1)) == 3
    with pytest.raises(RuntimeError, match="out of memory"):
        shared(torch.full((1, 1, 16, 16), torch.nan))
