"""Classes are encoded and decoded as a pair, with NumPy as with torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unetpp import labels, scratch, slabs
from unetpp.errors import DataError
from unetpp.labels.classes import Classes, ignored_index, index_type
from unetpp.labels.coding import ClassArrays
from unetpp.labels.coding_torch import CLASSES
from unetpp.labels.encoding import encode_label
from unetpp.plan import DataPlan, LabelPlan, Normalization
from unetpp.volume import Geometry, Volume

DRAWN = {"seed": st.integers(0, 10_000), "classes": st.integers(2, 6), "sharpness": st.sampled_from([0.0, 0.5, 5.0])}


def drawn_logits(seed: int, classes: int, sharpness: float) -> Tensor:
    """Make logits (2, classes, 5, 7), some of them equal."""
    logits = sharpness * torch.randn(2, classes, 5, 7, generator=torch.Generator().manual_seed(seed))
    logits[:, :, 0] = 0
    return logits


def named(values: list[int]) -> Classes:
    return Classes(tuple(f"class {value}" for value in values), tuple(values))


def test_the_labels_of_a_plan_are_what_its_data_say() -> None:
    names, values = ("background", "cell"), (0, 255)
    data = DataPlan(
        dims=2,
        channels=("image",),
        classes=names,
        label_values=values,
        labels="classes,ignore:7",
        normalization=(Normalization(),),
    )
    assert labels.make_labels(data) == Classes(names, values, ignore=7)
    assert labels.find_ignored_index(data) == ignored_index(2)


@given(
    values=st.lists(st.integers(-1000, 70_000), min_size=2, max_size=300, unique=True), slab=st.sampled_from([5, 2**22])
)
def test_values_of_files_come_back(values: list[int], slab: int) -> None:
    classes, label = named(values), np.random.default_rng(3).choice(values, size=(6, 7))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slabs, "SLAB_VALUES", slab)
        indices = classes.encode(label, "a.png")
    assert indices.dtype == (np.uint8 if len(values) <= 255 else np.uint16)
    np.testing.assert_array_equal(classes.decode(indices), label)
    assert classes.table.tolist() == values


def test_values_of_no_class_are_found_and_named() -> None:
    label = np.array([[0, 20, 7], [9, 10, 7]])
    with pytest.raises(DataError, match=r"a\.png.*no class: 7, 9; expected 0 \(class 0\), 10 \(class 10\).*Correct"):
        named([0, 10, 20]).encode(label, "a.png")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 255], np.uint8),
        ([0, 256], np.uint16),
        ([-1, 5], np.int16),
        ([-1, 40_000], np.int32),
        ([0, 3 * 10**9], np.uint32),
        ([0, 10**10], np.int64),
    ],
)
def test_files_have_the_smallest_numbers_that_hold_all_values(values: list[int], kind: type) -> None:
    assert named(values).decode(np.array([1, 0])).dtype == kind


@settings(deadline=None)
@given(**DRAWN)
def test_one_hot_targets_are_decoded_to_their_classes(seed: int, classes: int, sharpness: float) -> None:
    target = torch.randint(classes, (2, 1, 5, 7), generator=torch.Generator().manual_seed(seed))
    encoded = CLASSES.make_targets(target, classes)
    assert (encoded.shape, encoded.dtype) == ((2, classes, 5, 7), torch.float32)
    for each, channels in zip(target, encoded, strict=True):
        assert torch.equal(CLASSES.class_indices(channels), each[0])
    certain = CLASSES.to_probabilities(100 * encoded + sharpness)
    assert torch.equal(CLASSES.most_probable(certain, dim=1)[1], target[:, 0])


@settings(deadline=None)
@given(**DRAWN)
def test_numpy_and_torch_agree(seed: int, classes: int, sharpness: float) -> None:
    for probabilities in CLASSES.to_probabilities(drawn_logits(seed, classes, sharpness)):
        found = ClassArrays().fill_indices(probabilities.numpy(), np.full((5, 7), 9, np.uint8))
        np.testing.assert_array_equal(found, CLASSES.class_indices(probabilities).numpy())
        np.testing.assert_array_equal(found, probabilities.numpy().argmax(axis=0))
        best, chosen = CLASSES.most_probable(probabilities)
        np.testing.assert_array_equal(best.numpy(), probabilities.numpy().max(axis=0))
        np.testing.assert_array_equal(found, chosen.numpy())


@settings(deadline=None)
@given(seed=DRAWN["seed"], sharpness=DRAWN["sharpness"])
def test_one_sigmoid_channel_equals_two_soft_max_channels(seed: int, sharpness: float) -> None:
    logits = drawn_logits(seed, 2, sharpness)
    one, two = CLASSES.compact(logits), CLASSES.to_probabilities(logits)
    assert (one.shape[1], two.shape[1]) == (1, 2)
    torch.testing.assert_close(one, CLASSES.to_probabilities(logits[:, 1:] - logits[:, :1]))
    torch.testing.assert_close(CLASSES.expand(one, dim=1), two)
    assert CLASSES.expand(two, dim=1) is two
    torch.testing.assert_close(CLASSES.entropy(one, dim=1), CLASSES.entropy(two, dim=1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(CLASSES.most_probable(one, dim=1)[0], CLASSES.most_probable(two, dim=1)[0])
    both = CLASSES.expand(one, dim=1)  # with the very same numbers
    for single, pair in zip(one, both, strict=True):
        chosen = CLASSES.class_indices(single).long()
        assert torch.equal(chosen, CLASSES.class_indices(pair))
        assert torch.equal(chosen, CLASSES.most_probable(single)[1].long())
        torch.testing.assert_close(
            CLASSES.soft_counts(single, chosen), CLASSES.soft_counts(pair, chosen), rtol=1e-5, atol=1e-5
        )


def test_half_precision_is_decoded_in_single_precision() -> None:
    logits = drawn_logits(0, 3, 2.0).half()
    assert CLASSES.compact(logits).dtype == torch.float32


def test_soft_counts_are_those_of_each_foreground_class() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6]])
    total, within, voxels = CLASSES.soft_counts(probabilities, torch.tensor([0, 1, 1])).tolist()
    assert total == pytest.approx([1.0, 1.0])
    assert within == pytest.approx([0.8, 0.0])
    assert voxels == [2, 0]


@pytest.mark.parametrize("classes", [2, 3])
def test_entropy_is_0_where_it_is_certain_and_1_where_all_are_equal(classes: int) -> None:
    assert CLASSES.entropy(torch.eye(classes)).tolist() == [0.0] * classes
    torch.testing.assert_close(CLASSES.entropy(torch.full((classes, 4), 1 / classes)), torch.ones(4))


def test_probabilities_a_rounding_beyond_0_and_1_have_an_entropy() -> None:
    above = torch.nextafter(torch.ones(1, 2), torch.tensor(2.0))
    assert torch.equal(CLASSES.entropy(above), torch.zeros(2))
    assert torch.equal(CLASSES.entropy(torch.cat([above, 1 - above])), torch.zeros(2))
    assert CLASSES.entropy(torch.full((1, 2), 0.5)).tolist() == [1.0, 1.0]
    assert CLASSES.expand(above).min() == 0


def test_classes_need_no_torch() -> None:
    code = "import sys, unetpp.labels, unetpp.labels.find_meaning; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_ignored_index_is_of_no_class() -> None:
    assert [(ignored_index(count), index_type(count)) for count in (2, 255, 256)] == [
        (255, np.uint8),
        (255, np.uint8),
        (65535, np.uint16),
    ]


@given(
    values=st.lists(st.integers(0, 300), min_size=3, max_size=6, unique=True),
    kind=st.sampled_from(["classes", "objects"]),
    seed=st.integers(0, 100),
)
def test_voxels_that_nobody_labeled_have_their_own_index(values: list[int], kind: str, seed: int) -> None:
    """Wherever the value stands among the others: in place of a class, between two, above all."""
    ignore, *rest = values
    label = np.random.default_rng(seed).choice(values, (4, 5)).astype(np.int32)
    label[0, 0] = ignore
    filled = np.where(label == ignore, rest[0], label)
    plan = LabelPlan(kind=kind)
    expected = encode_label(Volume(filled[None], Geometry()), named(rest), plan, "a.png")
    expected = np.where(label == ignore, ignored_index(len(rest)), expected)
    classes = replace(named(rest), ignore=ignore)
    found = encode_label(Volume(label[None], Geometry()), classes, plan.model_copy(update={"ignore": ignore}), "a.png")
    assert found.dtype == index_type(len(rest))
    np.testing.assert_array_equal(found, expected)


def test_the_indices_of_a_large_label_lie_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    label = np.random.default_rng(0).choice([0, 7], (30, 20)).astype(np.uint8)
    classes = Classes(("background", "a"), (0, 7))
    small = classes.encode(label, "label")
    monkeypatch.setattr(scratch, "LARGE", 100)
    large = classes.encode(label, "label")
    assert isinstance(large, np.memmap) and not isinstance(small, np.memmap)
    np.testing.assert_array_equal(large, small)
    np.testing.assert_array_equal(small, label == 7)
