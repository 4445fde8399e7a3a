"""Meaning of the numbers in label files and of the channels of a network: each kind of label encodes and decodes."""

from __future__ import annotations

from unetpp.labels.classes import Classes
from unetpp.plan import DataPlan


def make_labels(data: DataPlan) -> Classes:
    """Make the labels of a plan. The kind of labels is chosen here and nowhere else."""
    return Classes(data.classes, data.label_values, data.instances)
