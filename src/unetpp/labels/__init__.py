"""Meaning of the numbers in label files and of the channels of a network.

Label files: `Classes` in `classes.py`, encode and decode. Channels: functions from labels to targets and from logits to
probabilities and classes, in `classes_torch.py`, and in `classes.py` for NumPy. No other package interprets either.
"""

from __future__ import annotations

from unetpp.labels.classes import Classes, ignored_index
from unetpp.plan import DataPlan


def make_labels(data: DataPlan) -> Classes:
    """Make the labels of a plan: the one place that chooses the kind of labels in files."""
    return Classes(data.classes, data.label_values, data.instances, data.labels.ignore if data.labels else None)


def find_ignored_index(data: DataPlan) -> int | None:
    """Find the class index of voxels that nobody labeled; None if the labels of a plan have no such voxels."""
    return None if make_labels(data).ignore is None else ignored_index(data.num_classes)
