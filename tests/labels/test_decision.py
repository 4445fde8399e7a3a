"""Temperature and threshold: the same in NumPy and torch, and classes never change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unetpp.labels.decision import Decision


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_scaling_is_that_of_logits(temperature: float) -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    found = Decision(temperature=temperature).scale(logits.softmax(0))
    torch.testing.assert_close(found, (logits / temperature).softmax(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(Decision(temperature=temperature).scale(logits.softmax(0).numpy()), found, rtol=1e-4)
    assert bool((found.argmax(0) == logits.argmax(0)).all())


def test_the_compact_form_is_the_second_of_two() -> None:
    both = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).softmax(0)
    heat = Decision(temperature=3.0)
    torch.testing.assert_close(heat.scale(both[1:])[0], heat.scale(both)[1])


def test_rounding_beyond_one_stays_finite() -> None:
    assert bool(Decision(temperature=2.0).scale(torch.tensor([[1.0000001, -1e-8]])).isfinite().all())
