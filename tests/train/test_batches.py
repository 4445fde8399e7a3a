from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from tests.data.test_patches import ArrayCase
from unetpp.data.patches import PatchSampler
from unetpp.plan import AugmentPlan
from unetpp.train.augment import Augmentation
from unetpp.train.batches import Batch, BatchMaker, Prefetcher


def number_batch(step: int) -> Batch:
    return torch.tensor(step), torch.tensor(-step)


def test_batches_come_in_order_from_any_step() -> None:
    batches = Prefetcher(number_batch).iterate(5)
    assert [int(next(batches)[0]) for _ in range(10)] == list(range(5, 15))
    batches.close()


def test_an_error_in_the_thread_surfaces_at_its_step() -> None:
    def broken(step: int) -> Batch:
        if step == 2:
            raise ValueError("a broken file")
        return number_batch(step)

    batches = Prefetcher(broken).iterate(0)
    assert [int(next(batches)[0]) for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match="a broken file"):
        next(batches)


def test_time_spent_waiting_for_data_is_counted() -> None:
    def slow(step: int) -> Batch:
        time.sleep(0.05)
        return number_batch(step)

    prefetcher = Prefetcher(slow)
    batches = prefetcher.iterate(0)
    for _ in range(4):
        next(batches)
    batches.close()
    assert 0.1 < prefetcher.waited_s < 0.5


def test_several_workers_make_the_same_batches_as_one() -> None:
    cases = [ArrayCase((40, 40), np.eye(40, dtype=np.uint8)) for _ in range(5)]
    varied = AugmentPlan(affine_probability=1.0, noise_probability=1.0, blur_probability=1.0)

    def batches(workers: int) -> list[Batch]:
        make = BatchMaker(PatchSampler(cases, (16, 16), 3, 0.5, seed=0), Augmentation(varied, (16, 16), None))
        found = Prefetcher(make, workers).iterate(7)
        taken = [next(found) for _ in range(20)]
        found.close()
        return taken

    threads = torch.get_num_threads()
    for one, other in zip(batches(1), batches(4), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    assert torch.get_num_threads() == threads
