"""Meaning of the numbers in label files and of the channels of a network.

Label files: `facts.py` measures what each file shows, `meaning.py` decides from all of them what the values mean,
`encoding.py` makes class indices of a file, `matching.py` compares two folders of labels. Channels: functions from
labels to targets and from logits to probabilities and classes, in `classes_torch.py`, and in `classes.py` for NumPy. No
other package interprets either.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unetpp.labels.classes import Classes, ignored_index
from unetpp.labels.encoding import encode_label
from unetpp.labels.views import drop_even_alpha, is_drawn_in_alpha, read_brightness
from unetpp.plan import DataPlan
from unetpp.slabs import slabs
from unetpp.volume import Volume


def make_labels(data: DataPlan) -> Classes:
    """Make the classes of a plan."""
    return Classes(data.classes, data.label_values, data.labels.ignore)


def encode(label: Volume, data: DataPlan, where: str | Path) -> np.ndarray:
    """Encode a label file as class indices (*spatial); raises DataError as `encode_label`."""
    return encode_label(label, make_labels(data), data.labels, where)


def cut_at_half(label: Volume) -> np.ndarray:
    """Cut a mask at half of its own range: foreground (*spatial)."""
    in_alpha, label = is_drawn_in_alpha(label), drop_even_alpha(label)
    found = np.zeros(label.shape, bool)
    blocks = [*slabs(label.shape)]
    top = max(float(read_brightness(label, block, in_alpha=in_alpha).max()) for block in blocks)
    for block in blocks:
        found[block] = read_brightness(label, block, in_alpha=in_alpha) >= top / 2 if top > 0 else False
    return found


def guess_foreground(label: Volume) -> np.ndarray:
    """Guess what one label marks (*spatial), before the meaning of its values is known."""
    if is_drawn_in_alpha(label):
        return cut_at_half(label)
    found = np.zeros(label.shape, bool)
    blocks = [*slabs(label.shape)]
    top = max(float(read_brightness(label, block).max()) for block in blocks)
    noise = top / 8 if top >= 250 else 0.0
    for block in blocks:
        found[block] = read_brightness(label, block) > noise
    return found


def find_ignored_index(data: DataPlan) -> int | None:
    """Find the class index of voxels that nobody labeled; None if the labels of a plan have no such voxels."""
    return None if data.labels.ignore is None else ignored_index(data.num_classes)
