"""Distances between surfaces against MONAI's own, on masks of any kind."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetpp.metrics.surfaces import score_surfaces

shapes = st.one_of(st.tuples(*[st.integers(1, 12)] * 2), st.tuples(*[st.integers(1, 7)] * 3))
pairs = shapes.flatmap(lambda shape: st.tuples(*[hnp.arrays(np.bool_, shape, elements=st.booleans())] * 2))
sizes = st.sampled_from([0.33, 0.75, 1.0, 2.5])


@settings(max_examples=150, deadline=None)
@given(pairs, st.one_of(st.none(), st.tuples(sizes, sizes, sizes)), st.integers(0, 2))
def test_equals_monai(pair: tuple[np.ndarray, np.ndarray], spacing: tuple[float, ...] | None, alike: int) -> None:
    """Random masks, equal ones, and solid ones of which one is moved."""
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    predicted, expected = pair
    if alike == 1:
        predicted = expected
    elif alike == 2:
        predicted, expected = np.zeros_like(expected), np.zeros_like(expected)
        expected[...] = True
        predicted[..., : max(1, predicted.shape[-1] // 2)] = True
    if not (predicted.any() and expected.any()):
        return
    sizes_mm = spacing and spacing[: expected.ndim]
    tensors = tuple(torch.from_numpy(mask)[None, None] for mask in (predicted, expected))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hd95 = compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=sizes_mm)
        nsd = compute_surface_dice(*tensors, [1.0], include_background=True, spacing=sizes_mm)
    found = score_surfaces(predicted, expected, sizes_mm, 1.0)
    assert found == pytest.approx((float(hd95), float(nsd)), rel=1e-5, abs=1e-5)
