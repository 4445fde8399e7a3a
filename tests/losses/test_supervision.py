"""The loss of several heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from unetpp.errors import UsageError
from unetpp.losses.supervision import DeepSupervisionLoss
from unetpp.model.network import HeadOutputs


def heads(
    num_classes: int, *, dims: int = 2, depths: tuple[int, ...] = (1, 2, 3), dtype: torch.dtype = torch.float32
) -> tuple[HeadOutputs, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    spatial = (8,) * dims
    target = torch.randint(num_classes, (2, 1, *spatial), generator=generator)
    logits = tuple(
        torch.randn(2, num_classes, *spatial, generator=generator).to(dtype).requires_grad_() for _ in depths
    )
    return HeadOutputs(depths, logits), target


@pytest.mark.parametrize(("num_classes", "dims"), [(2, 2), (4, 2), (3, 3)])
def test_is_the_mean_of_monais_loss_over_the_heads(num_classes: int, dims: int) -> None:
    from monai.losses import DiceCELoss

    outputs, target = heads(num_classes, dims=dims)
    oracle = DiceCELoss(
        softmax=True, to_onehot_y=True, batch=True, include_background=False, lambda_ce=0.7, lambda_dice=1.3
    )
    expected = sum(oracle(logits, target) for logits in outputs.logits) / 3
    loss = DeepSupervisionLoss("equal", 0.7, 1.3)(outputs, target)
    torch.testing.assert_close(loss, expected)


def test_weights_belong_to_depths_and_sum_to_one() -> None:
    outputs, target = heads(2)
    loss = DeepSupervisionLoss((1.0, 2.0, 5.0))
    each = [DeepSupervisionLoss()(HeadOutputs((1,), (logits,)), target) for logits in outputs.logits]
    torch.testing.assert_close(loss(outputs, target), each[0] / 8 + each[1] / 4 + each[2] * 5 / 8)
    deepest = HeadOutputs((3,), outputs.logits[2:])  # a network with one head still has a loss on the scale of one head
    torch.testing.assert_close(loss(deepest, target), each[2])


def test_two_widths_have_a_weight_each() -> None:
    outputs, target = heads(2)
    nested = HeadOutputs((4, 8), outputs.logits[:2])
    small, large = (DeepSupervisionLoss()(HeadOutputs((1,), (logits,)), target) for logits in nested.logits)
    torch.testing.assert_close(DeepSupervisionLoss((1, 3))(nested, target), small / 4 + large * 3 / 4)


def test_every_head_learns() -> None:
    outputs, target = heads(2)
    DeepSupervisionLoss()(outputs, target).backward()
    assert all(logits.grad is not None and logits.grad.abs().sum() > 0 for logits in outputs.logits)


def test_is_float32_for_half_precision_logits() -> None:
    outputs, target = heads(2, dtype=torch.bfloat16)
    loss = DeepSupervisionLoss()(outputs, target)
    assert loss.dtype == torch.float32
    widened = HeadOutputs(outputs.depths, tuple(logits.float() for logits in outputs.logits))
    torch.testing.assert_close(loss, DeepSupervisionLoss()(widened, target))


def test_a_perfect_answer_costs_nothing_and_a_wrong_one_much() -> None:
    _, target = heads(2)
    perfect = torch.cat([1 - target, target], dim=1).float() * 40 - 20
    loss = DeepSupervisionLoss()
    assert loss(HeadOutputs((1,), (perfect,)), target).item() < 1e-4
    assert loss(HeadOutputs((1,), (-perfect,)), target).item() > 10


def test_finite_without_foreground() -> None:
    outputs, target = heads(3)
    loss = DeepSupervisionLoss()(outputs, torch.zeros_like(target))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(logits.grad).all() for logits in outputs.logits if logits.grad is not None)


def test_a_term_can_be_left_out() -> None:
    outputs, target = heads(2)
    only_cross_entropy = DeepSupervisionLoss("equal", 1.0, 0.0)(outputs, target)
    expected = sum(torch.nn.functional.cross_entropy(logits, target[:, 0]) for logits in outputs.logits) / 3
    torch.testing.assert_close(only_cross_entropy, expected)
    only_dice = DeepSupervisionLoss("equal", 0.0, 1.0)(outputs, target)
    torch.testing.assert_close(only_dice + only_cross_entropy, DeepSupervisionLoss()(outputs, target))


def test_says_what_is_wrong_with_the_weights() -> None:
    outputs, target = heads(2)
    with pytest.raises(UsageError, match=r"cross_entropy_weight.*got 0 and 0.*expected"):
        DeepSupervisionLoss("equal", 0, 0)
    with pytest.raises(UsageError, match=r"head_weights.*got \[1.0, 1.0\].*expected one for each"):
        DeepSupervisionLoss((1.0, 1.0))(outputs, target)


def test_any_loss_can_be_supervised() -> None:
    outputs, target = heads(3)
    loss = DeepSupervisionLoss(loss=torch.nn.CrossEntropyLoss(), head_weights=(1.0, 1.0, 2.0))
    expected = sum(
        weight * torch.nn.functional.cross_entropy(logits, target[:, 0])
        for weight, logits in zip((0.25, 0.25, 0.5), outputs.logits, strict=True)
    )
    torch.testing.assert_close(loss(outputs, target[:, 0]), expected)
    with pytest.raises(UsageError, match=r"ignored: got 255 with a loss of your own"):
        DeepSupervisionLoss(loss=torch.nn.CrossEntropyLoss(), ignored=255)


def test_a_target_needs_no_channel_axis() -> None:
    outputs, target = heads(3)
    torch.testing.assert_close(
        DeepSupervisionLoss()(outputs, target[:, 0].to(torch.uint8)), DeepSupervisionLoss()(outputs, target)
    )


def test_what_has_no_heads_is_refused_with_the_way_out() -> None:
    outputs, target = heads(2)
    with pytest.raises(UsageError, match=r"net\(images, heads=True\)"):
        DeepSupervisionLoss()(outputs.logits[-1], target)
    with pytest.raises(UsageError, match=r"got one logit; expected one for each class.*`out_channels=2`"):
        DeepSupervisionLoss()(HeadOutputs((1,), (outputs.logits[0][:, :1],)), target)


IGNORED = 255


def test_voxels_that_nobody_labeled_do_not_count() -> None:
    outputs, target = heads(3)
    target[:, :, :3] = IGNORED
    loss = DeepSupervisionLoss(ignored=IGNORED)
    value = loss(outputs, target)
    value.backward()
    for logits in outputs.logits:
        assert logits.grad is not None
        assert not logits.grad[:, :, :3].any()
        assert logits.grad[:, :, 3:].any()
    rest = HeadOutputs(outputs.depths, tuple(logits[:, :, 3:] for logits in outputs.logits))
    torch.testing.assert_close(value, DeepSupervisionLoss()(rest, target[:, :, 3:]))


def test_the_loss_is_the_same_if_nothing_is_ignored() -> None:
    outputs, target = heads(3)
    torch.testing.assert_close(
        DeepSupervisionLoss(ignored=IGNORED)(outputs, target), DeepSupervisionLoss()(outputs, target)
    )


def test_a_batch_without_labeled_voxels_costs_nothing() -> None:
    outputs, target = heads(2)
    loss = DeepSupervisionLoss(ignored=IGNORED)(outputs, torch.full_like(target, IGNORED))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert all(torch.isfinite(logits.grad).all() for logits in outputs.logits if logits.grad is not None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"head_weights": (1, -1, 1)}, r"^head_weights: got \(1, -1, 1\); expected .*at least 0"),
        ({"head_weights": "deepest"}, "^head_weights: got 'deepest'"),
        ({"loss": "dice"}, r"^loss: got 'dice'; expected loss\(logits, target\)"),
        ({"ignore_index": 255}, "^ignore_index: got an unknown argument; expected .*`ignored` is here"),
        ({"dice_weight": -1, "cross_entropy_weight": 2}, "^cross_entropy_weight, dice_weight: got 2 and -1"),
    ],
)
def test_arguments_are_checked_at_once(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        DeepSupervisionLoss(**arguments)


def test_more_weights_than_heads_are_refused() -> None:
    outputs, target = heads(2)
    with pytest.raises(UsageError, match=r"^head_weights: got \[1\.0, 1\.0, 1\.0, 5\.0\]; expected one for each head"):
        DeepSupervisionLoss((1, 1, 1, 5))(outputs, target)


def test_a_target_is_class_indices() -> None:
    outputs, target = heads(3)
    for wrong, said in (
        (target * 127, r"^target: got the value (127|254); expected integers, the class indices 0 to 2.*target > 0"),
        (target - 100, "^target: got the value -"),
        (target.float(), r"^target: got torch\.float32 of .*`target\.long\(\)`"),
        (torch.cat([target] * 3, dim=1), r"^target: got torch\.int64 of shape \(2, 3, 8, 8\);.*`target\.argmax\(1\)`"),
        (target[..., 1:], r"^target: got .*expected integers.*of shape \(2, 1, 8, 8\) or \(2, 8, 8\)"),
    ):
        with pytest.raises(UsageError, match=said):
            DeepSupervisionLoss()(outputs, wrong)


def test_small_sizes_learn_the_answer_of_the_largest() -> None:
    from monai.losses import DiceLoss

    whole = DiceLoss(softmax=True, batch=True, include_background=False)
    outputs, target = heads(3)
    plain, distilled = DeepSupervisionLoss(), DeepSupervisionLoss(distillation=True)
    largest = HeadOutputs(outputs.depths[2:], outputs.logits[2:])
    torch.testing.assert_close(distilled(largest, target), plain(largest, target))
    distilled(outputs, target).backward()
    grads = [logits.grad.clone() for logits in outputs.logits]
    answer = outputs.logits[2].detach().softmax(1)
    for logits, grad in zip(outputs.logits[:2], grads[:2], strict=True):
        logits.grad = None
        dice = whole(logits, answer)
        (-(answer * logits.log_softmax(1)).sum(1).mean() / 3 + dice / 3).backward()
        torch.testing.assert_close(logits.grad, grad)
    outputs.logits[2].grad = None
    (plain(largest, target) / 3).backward()  # which does not learn from the others
    torch.testing.assert_close(outputs.logits[2].grad, grads[2])


def test_voxels_without_a_label_teach_small_sizes_nothing() -> None:
    outputs, target = heads(3)
    target[:, :, 4:] = 255
    distilled = DeepSupervisionLoss(ignored=255, distillation=True)
    distilled(outputs, target).backward()
    assert all(
        logits.grad[:, :, 4:].abs().max() < 1e-7 < logits.grad[:, :, :4].abs().max() for logits in outputs.logits
    )
    nothing = distilled(outputs, torch.full_like(target, 255))
    assert nothing.isfinite()


WEIGHTS = (1.0, 3.0, 0.5)


@pytest.mark.parametrize("ignored", [None, 255])
def test_weights_of_classes_are_those_of_their_voxels(ignored: int | None) -> None:
    one, labeled = heads(3, depths=(1,))
    if ignored is not None:
        labeled[:, :, :2] = ignored
    options: dict[str, Any] = {"dice_weight": 0, "ignored": ignored, "class_weights": WEIGHTS}
    expected = torch.nn.functional.cross_entropy(
        one.logits[0], labeled[:, 0], torch.tensor(WEIGHTS), ignore_index=255 if ignored else -100
    )
    torch.testing.assert_close(DeepSupervisionLoss(**options)(one, labeled), expected)
    dice = DeepSupervisionLoss(ignored=ignored, cross_entropy_weight=0)(one, labeled)
    torch.testing.assert_close(DeepSupervisionLoss(**options | {"dice_weight": 1})(one, labeled), expected + dice)
    same = DeepSupervisionLoss(**options | {"class_weights": (2, 2, 2)})(one, labeled)
    torch.testing.assert_close(same, DeepSupervisionLoss(dice_weight=0, ignored=ignored)(one, labeled))


def test_weights_of_classes_hold_for_what_small_sizes_learn_and_for_regions() -> None:
    """Targets that are certain are those of labels; of regions with one class each, as well."""
    outputs, labeled = heads(3, depths=(1,))
    sure = torch.nn.functional.one_hot(labeled[:, 0], 3).movedim(-1, 1) * 200.0 - 100
    pair = HeadOutputs((1, 2), (outputs.logits[0], sure))
    plain, distilled = (
        DeepSupervisionLoss(dice_weight=0, class_weights=WEIGHTS, distillation=on)(pair, labeled)
        for on in (False, True)
    )
    torch.testing.assert_close(distilled, plain)
    logits = outputs.logits[0][:, :2]
    truth = torch.cat([labeled == 1, labeled == 2], dim=1).float()
    every = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    weighted = DeepSupervisionLoss(dice_weight=0, regions=((1,), (2,)), class_weights=(3, 1))
    expected = (3 * every[:, 0] + every[:, 1]).mean() / 4
    torch.testing.assert_close(weighted(HeadOutputs((1,), (logits,)), labeled), expected)


@pytest.mark.parametrize("weights", [(), (1, 0), (1, -1), (1, float("nan")), "equal", 3])
def test_weights_of_classes_are_above_0(weights: Any) -> None:
    with pytest.raises(UsageError, match="class_weights"):
        DeepSupervisionLoss(class_weights=weights)


def test_there_is_a_weight_for_each_logit() -> None:
    outputs, target = heads(3)
    with pytest.raises(UsageError, match="3, one for each logit"):
        DeepSupervisionLoss(class_weights=(1, 1))(outputs, target)


def test_a_loss_of_ones_own_does_not_distill() -> None:
    with pytest.raises(UsageError, match="distillation"):
        DeepSupervisionLoss(distillation=True, loss=torch.nn.CrossEntropyLoss())
