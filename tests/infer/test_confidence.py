"""Expected Dice is near the true Dice, however the image is cut into bands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unetpp.infer.confidence import Disagreement, SoftDice
from unetpp.labels.coding_torch import CLASSES
from unetpp.metrics.scores import fast_dice


def expected_dice(probabilities: Tensor, bands: int = 1) -> float | None:
    confidence = SoftDice()
    for band in probabilities.chunk(bands, dim=1):
        confidence.add(band, CLASSES.class_indices(band))
    return confidence.value()


def drawn(channels: int, sharpness: float) -> Tensor:
    logits = sharpness * torch.randn(max(channels, 2), 60, 50, generator=torch.Generator().manual_seed(channels))
    return logits.softmax(0) if channels > 1 else logits.softmax(0)[1:]


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("sharpness", [0.5, 2.0, 8.0])
def test_it_is_the_dice_where_the_probabilities_are_right(channels: int, sharpness: float) -> None:
    probabilities = drawn(channels, sharpness)
    every = probabilities if channels > 1 else torch.cat([1 - probabilities, probabilities])
    truth = torch.multinomial(every.flatten(1).T, 1, generator=torch.Generator().manual_seed(0)).reshape(60, 50).numpy()
    segmentation = CLASSES.class_indices(probabilities).numpy().astype(np.uint8)
    true = fast_dice(segmentation, truth.astype(np.uint8), max(2, channels))
    assert expected_dice(probabilities) == pytest.approx(true, abs=0.03)
    assert expected_dice(probabilities, bands=7) == pytest.approx(expected_dice(probabilities))


def test_certainty_expects_everything_and_nothing_found_expects_nothing() -> None:
    certain = torch.zeros(1, 8, 8)
    assert expected_dice(certain) is None
    certain[0, :3] = 1
    assert expected_dice(certain) == 1
    assert SoftDice().value() is None


def disagreement(*answers: Tensor) -> Tensor:
    found = Disagreement()
    for answer in answers:
        found.add(answer)
    return found.value()


@pytest.mark.parametrize("channels", [1, 3])
@settings(deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 4), sharpness=st.sampled_from([0.1, 1.0, 30.0]))
def test_the_disagreement_is_the_mean_divergence_from_the_mean_answer(
    channels: int, seed: int, count: int, sharpness: float
) -> None:
    logits = sharpness * torch.randn(
        count, 2, max(2, channels), 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    every = logits.softmax(dim=2)
    answers = every[:, :, 1:] if channels == 1 else every
    found = disagreement(*answers)
    divergences = [torch.special.xlogy(one, one / every.mean(0)).sum(dim=1) / np.log(max(2, channels)) for one in every]
    torch.testing.assert_close(found, torch.stack(divergences).mean(0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found, disagreement(*answers.flip(0)))
    assert found.shape == (2, 3, 4)


def test_the_same_answer_does_not_disagree_and_two_sure_of_something_else_do_so_wholly() -> None:
    unsure, no, yes = torch.full((1, 1, 1), 0.5), torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    assert disagreement(unsure, unsure).item() == 0
    assert disagreement(no, no, no).item() == 0
    assert disagreement(no, yes).item() == pytest.approx(1)
    assert 0 < disagreement(unsure, yes).item() < disagreement(no, yes).item()
