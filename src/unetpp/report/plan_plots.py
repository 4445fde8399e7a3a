"""Histograms of intensities before and after normalization."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from unetpp.data.inspect import Inspection
from unetpp.plan import DataPlan, Normalization
from unetpp.report.plots import COLORS, encode_figure, label_axes, make_figure

MOST_CHANNELS = 4
BINS = 60


def plot_intensities(inspection: Inspection, plan: DataPlan) -> list[tuple[str, str]]:
    """Plot the sampled foreground of the first channels, before and after normalization, each with its title."""
    before, after = dict[str, np.ndarray](), dict[str, np.ndarray]()
    for index, name in enumerate(plan.channels[:MOST_CHANNELS]):
        scale = plan.normalization[index]
        pairs = [
            (
                fact.foreground_sample[place].astype(np.float64),
                (fact.levels_inside if scale.nonzero else fact.levels)[place],
            )
            for fact in inspection.facts
            for place in [min(index, len(fact.foreground_sample) - 1)]
        ]
        before[name] = np.concatenate([values for values, _ in pairs])
        after[name] = np.concatenate([normalize(values, levels, scale) for values, levels in pairs])
    if not all(values.size for values in before.values()):
        return []
    titles = ("Foreground, as stored", "Foreground, as the network sees it")
    labels = ("intensity", "standard deviations")
    return [(title, _plot(found, label)) for title, found, label in zip(titles, (before, after), labels, strict=True)]


def normalize(values: np.ndarray, levels: np.ndarray, plan: Normalization) -> np.ndarray:
    """Normalize a sample as training does, with the mean and standard deviation of its image where the plan says so.

    Args:
        values: intensities of the sample.
        levels: percentiles, mean and standard deviation of its image, as `measure_levels` returns them.
        plan: normalization of the channel.
    """
    mean, std = (levels[2], levels[3]) if plan.per_case else (plan.mean, plan.std)
    if plan.scale == "0_to_1":  # of the image but its outermost hundredths
        mean, std = levels[0], levels[1] - levels[0]
    clipped = values if plan.lower is None and plan.upper is None else np.clip(values, plan.lower, plan.upper)
    normalized: np.ndarray = (clipped - mean) / (std or 1.0)
    return normalized


def _plot(channels: Mapping[str, np.ndarray], label: str) -> str:
    figure, [axes] = make_figure(height=2.1)
    joined = np.concatenate([*channels.values()])
    low, high = np.percentile(joined, [0.1, 99.9])
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    several = len(channels) > 1
    for color, (name, values) in zip(COLORS, channels.items(), strict=False):
        counts, _ = np.histogram(values, edges)
        share = counts / max(1, counts.sum())
        axes.stairs(share, edges, color=color, fill=not several, alpha=0.85, label=name if several else None)
    axes.set_yticks([])
    label_axes(axes, label, "", legend=several)
    return encode_figure(figure)
