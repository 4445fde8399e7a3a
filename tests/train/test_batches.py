from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from tests.data.test_patches import ArrayCase
from unetpp.data.patches import PatchSampler
from unetpp.plan import AugmentPlan
from unetpp.train.augment import Augmentation
from unetpp.train.batches import Batch, BatchMaker, Prefetcher, prefetch


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


def test_batches_are_completed_one_batch_ahead() -> None:
    completed = []

    def complete(batch: Batch) -> Batch:
        completed.append(int(batch[0]))
        return batch

    batches = Prefetcher(number_batch, workers=3, finish=complete).iterate(0)
    for step in range(6):
        assert int(next(batches)[0]) == step
        time.sleep(0.02)
        assert completed[-1] <= step + 1  # the others would take the memory of a GPU
    batches.close()


def make_maker(plan: AugmentPlan, label: np.ndarray | None = None, patch: tuple[int, ...] = (16, 16)) -> BatchMaker:
    label = np.eye(40, dtype=np.uint8) if label is None else label
    cases = [ArrayCase(label.shape, label) for _ in range(5)]
    return BatchMaker(PatchSampler(cases, patch, 3, 0.5, seed=0), Augmentation(plan, patch, None))


EVERYTHING = AugmentPlan(
    **{name: 1.0 for name in AugmentPlan.model_fields if name.endswith("_probability")},  # type: ignore[arg-type]
)


def test_several_workers_make_the_same_batches_as_one() -> None:
    make = make_maker(EVERYTHING)

    def batches(prefetcher: Prefetcher) -> list[Batch]:
        found = prefetcher.iterate(7)
        taken = [next(found) for _ in range(20)]
        found.close()
        return taken

    threads = torch.get_num_threads()
    later = Prefetcher(make.read, 3, finish=make.vary)  # as for a GPU
    for ways in zip(batches(prefetch(make)), batches(Prefetcher(make, 4)), batches(later), strict=True):
        for images, labels in ways[1:]:
            assert torch.equal(images, ways[0][0])
            assert torch.equal(labels, ways[0][1])
    assert torch.get_num_threads() == threads


def test_a_batch_depends_on_its_step_alone() -> None:
    make, again = make_maker(EVERYTHING), make_maker(EVERYTHING)
    again(99)
    assert all(torch.equal(*pair) for pair in zip(make(5), again(5), strict=True))
    assert not torch.equal(make(5)[0], make(6)[0])


def test_patches_without_variation_are_those_of_the_case() -> None:
    off = {name: 0.0 for name in AugmentPlan.model_fields if name.endswith("_probability")}
    make = make_maker(AugmentPlan(mirror=False, quarter_turns=False, **off))  # type: ignore[arg-type]
    images, labels = make(4)
    for index in range(3):
        image, label = make.sampler.read(make.sampler.draw(4, index))  # type: ignore[attr-defined]
        assert (images[index].numpy() == image).all() and (labels[index, 0].numpy() == label).all()


@pytest.mark.parametrize("values", [[0, 1, 255], [0, 300, 4095, 65535]])
def test_labels_keep_their_values(values: list[int]) -> None:
    label = np.random.default_rng(0).choice(values, (40, 40)).astype(np.uint8 if max(values) < 256 else np.uint16)
    make = make_maker(EVERYTHING, label)
    assert {int(value) for step in range(5) for value in make(step)[1].unique()} == set(values)


def test_shares_of_a_batch_are_parts_of_the_whole() -> None:
    make = make_maker(EVERYTHING)
    shares = [BatchMaker(make.sampler, make.augmentation, share=share) for share in (range(0, 1), range(1, 3))]
    whole, parts = make(5), [share(5) for share in shares]
    for number, tensor in enumerate(whole):
        assert torch.equal(torch.cat([part[number] for part in parts]), tensor)
