"""The temperature of probabilities: fitted on voxels of validation cases, kept where it helps cases it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from unetpp.labels.decision import Decision
from unetpp.selection import Temperature

BINS = 15
"""Bins of confidence of the calibration error (Guo et al. 2017, section 2)."""
RANGE = (0.1, 10.0)
"""Temperatures that may be found."""
_LEAST = 1e-7
"""Least probability of a logarithm, about the resolution of float32."""


def fit_temperature(probabilities: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> Temperature:
    """Fit a temperature by the negative logarithm of the probability of the true class.

    What is said to be gained is measured on the half of the cases to which a temperature was not fitted; without gain
    there it stays 1.

    Args:
        probabilities: (voxels, classes) of each case.
        truth: (voxels,) class index of these.
    """
    cases = [pair for pair in zip(probabilities, truth, strict=True) if len(pair[1])]
    if not cases:
        return Temperature()
    halves = [cases[0::2], cases[1::2]] if len(cases) > 1 else [cases, cases]
    parts = [_join(half) for half in halves]
    scaled = [_scale(own, _fit(*other)) for (own, _), other in zip(parts, reversed(parts), strict=True)]
    every, true = _join(cases)
    true_halves = np.concatenate([own for _, own in parts])
    after = np.concatenate(scaled)
    before = compute_nll(every, true), compute_ece(every, true)
    gained = compute_nll(after, true_halves), compute_ece(after, true_halves)
    helps = gained[0] < before[0] and gained[1] <= before[1]
    if not helps:
        gained = before
    return Temperature(
        value=_fit(every, true) if helps else 1.0,
        ece_before=before[1],
        ece_after=gained[1],
        nll_before=before[0],
        nll_after=gained[0],
        voxels=len(true),
    )


def compute_nll(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Compute the mean negative logarithm of the probability of the true class."""
    own = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(own, _LEAST)).mean())


def compute_ece(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Compute the expected calibration error: mean distance of confidence and accuracy over bins, by their voxels."""
    confidence, hit = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=hit - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(truth))


def _fit(probabilities: np.ndarray, truth: np.ndarray) -> float:
    from scipy.optimize import minimize_scalar

    def cost(logarithm: float) -> float:
        return compute_nll(_scale(probabilities, math.exp(logarithm)), truth)

    low, high = map(math.log, RANGE)
    return float(math.exp(minimize_scalar(cost, bounds=(low, high), method="bounded", options={"xatol": 1e-3}).x))


def _scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    scaled: np.ndarray = Decision(temperature=temperature).scale(probabilities.T).T
    return scaled


def _join(cases: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([found for found, _ in cases]), np.concatenate([true for _, true in cases])
