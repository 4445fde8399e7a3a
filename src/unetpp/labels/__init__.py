"""Meaning of the numbers in label files and of the channels of a network.

Label files: `facts.py` measures what each file shows, `meaning.py` decides from all of them what the values mean,
`encoding.py` makes class indices of a file, `matching.py` compares two folders of labels. Channels: one
object, made from the plan, knows how labels become targets and how logits become probabilities and classes: a
`TensorCoding` in `coding_torch.py`, for NumPy a `Coding` in `coding.py`. No other package interprets either.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unetpp.labels.classes import Classes, ignored_index
from unetpp.labels.coding import ClassArrays, Coding, RegionArrays
from unetpp.labels.encoding import cut_at_half, encode_label, guess_foreground
from unetpp.plan import DataPlan
from unetpp.volume import Volume

__all__ = ("Classes", "cut_at_half", "encode", "find_ignored_index", "guess_foreground", "make_coding", "make_labels")


def make_labels(data: DataPlan) -> Classes:
    """Make the classes of a plan."""
    return Classes(data.classes, data.label_values, data.labels.ignore)


def make_coding(data: DataPlan) -> Coding:
    """Make what knows the meaning of probabilities, as NumPy arrays; `coding_torch.make_tensor_coding` for tensors."""
    regions = data.region_indices
    return ClassArrays() if regions is None else RegionArrays(regions)


def encode(label: Volume, data: DataPlan, where: str | Path) -> np.ndarray:
    """Encode a label file as class indices (*spatial); raises DataError as `encode_label`."""
    return encode_label(label, make_labels(data), data.labels, where)


def find_ignored_index(data: DataPlan) -> int | None:
    """Find the class index of voxels that nobody labeled; None if the labels of a plan have no such voxels."""
    return None if data.labels.ignore is None else ignored_index(data.num_classes)
