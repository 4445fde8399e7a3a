"""What is expected of a segmentation is near what it turns out to be, however it is cut into bands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from unetpp.infer.bands import class_indices
from unetpp.infer.confidence import SoftDice, review_level
from unetpp.metrics.scores import fast_dice


def expected_dice(probabilities: Tensor, bands: int = 1) -> float | None:
    confidence = SoftDice()
    for band in probabilities.chunk(bands, dim=1):
        confidence.add(band, class_indices(band))
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
    segmentation = class_indices(probabilities).numpy().astype(np.uint8)
    true = fast_dice(segmentation, truth.astype(np.uint8), max(2, channels))
    assert expected_dice(probabilities) == pytest.approx(true, abs=0.03)
    assert expected_dice(probabilities, bands=7) == pytest.approx(expected_dice(probabilities))


def test_certainty_expects_everything_and_nothing_found_expects_nothing() -> None:
    certain = torch.zeros(1, 8, 8)
    assert expected_dice(certain) is None
    certain[0, :3] = 1
    assert expected_dice(certain) == 1
    assert SoftDice().value() is None


def test_the_level_is_that_of_the_lowest_tenth() -> None:
    true = [0.5, 0.7, 0.8, 0.85, None, 0.9]
    found = review_level([0.6, 0.72, 0.81, 0.84, 0.3, 0.95], true)
    assert found
    assert found["expected_dice_correlation"] == pytest.approx(1)
    assert 0.6 < found["review_below"] < 0.72
    assert review_level([0.9, 0.8, None, 0.7, 0.6], [0.9, 0.8, 0.7, 0.7, 0.6]) is None
    constant = review_level([0.9] * 5, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert constant
    assert constant["expected_dice_correlation"] == 0
