from __future__ import annotations

import time

import pytest
import torch

from unetpp.train.batches import Batch, Prefetcher


def numbered(step: int) -> Batch:
    return torch.tensor(step), torch.tensor(-step)


def test_batches_come_in_order_from_any_step() -> None:
    batches = Prefetcher(numbered).from_step(5)
    assert [int(next(batches)[0]) for _ in range(10)] == list(range(5, 15))
    batches.close()


def test_an_error_in_the_thread_surfaces_at_its_step() -> None:
    def broken(step: int) -> Batch:
        if step == 2:
            raise ValueError("a broken file")
        return numbered(step)

    batches = Prefetcher(broken).from_step(0)
    assert [int(next(batches)[0]) for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match="a broken file"):
        next(batches)


def test_waiting_for_slow_data_is_counted() -> None:
    def slow(step: int) -> Batch:
        time.sleep(0.05)
        return numbered(step)

    prefetcher = Prefetcher(slow)
    batches = prefetcher.from_step(0)
    for _ in range(4):
        next(batches)
    batches.close()
    assert 0.1 < prefetcher.waited_s < 0.5
