"""What the numbers in label files and the channels of a network mean. Each kind of label encodes and decodes, as a pair."""

from __future__ import annotations

from unetpp.labels.classes import Classes
from unetpp.plan import DataPlan


def make_labels(data: DataPlan) -> Classes:
    """The labels of a plan: the one place where their kind is chosen."""
    return Classes(data.classes, data.label_values, data.instances)
