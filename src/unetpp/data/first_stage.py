"""The segmentation of the first stage of a cascade, as an input of the second: one channel for each class or region.

In training patches it travels with the label, as one number for both: what moves the voxels of a label moves it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from unetpp.data.orientation import Orientation
from unetpp.data.preprocess import PreparedImage
from unetpp.data.resampling import Readable, resample_nearest
from unetpp.data_plan import MOST_CLASSES_OF_CASCADE
from unetpp.formats.sources import Slices
from unetpp.labels.classes import find_region, list_regions
from unetpp.plan import DataPlan
from unetpp.slabs import Sliced

CODES = MOST_CLASSES_OF_CASCADE + 1
"""Number of class indices of a label that may go with one of the first stage; the square of it is exact in float32."""


def list_channels(plan: DataPlan) -> Sequence[Sequence[int]]:
    """List the class indices of each channel."""
    return list_regions(plan.num_classes, plan.region_indices)


def join_codes(label: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Join two arrays of class indices, the label and the first stage's, to one of int32."""
    codes: np.ndarray = first.astype(np.int32) * CODES + label
    return codes


def split_codes(codes: Any) -> tuple[Any, Any]:
    """Return the label and the first stage's class indices of an array or tensor of whole numbers."""
    return codes % CODES, codes // CODES


def encode(first: np.ndarray, channels: Sequence[Sequence[int]]) -> np.ndarray:
    """Encode class indices (*spatial) as float32 (channels, *spatial), 1 where the class or region is."""
    return np.stack([find_region(first, indices) for indices in channels]).astype(np.float32)


def place_segmentation(segmentation: np.ndarray, orientation: Orientation, grid: tuple[int, ...]) -> np.ndarray:
    """Bring a segmentation on the grid of a file to the network's grid, by the nearest voxel as labels are.

    Args:
        segmentation: class indices (*spatial), axes as in the file.
        orientation: what turns the axes of the file into those of the network.
        grid: the network's grid.
    """
    turned = orientation.turn(segmentation)
    return turned if turned.shape == grid else resample_nearest(turned, grid)


class WithFirstStage:
    """An image with the channels of a first stage after its own, in blocks.

    Args:
        image: yields blocks of the image.
        first: class indices (*grid).
        channels: class indices of each channel.
    """

    def __init__(self, image: Readable, first: Sliced, channels: Sequence[Sequence[int]]) -> None:
        self._image, self._first, self._channels = image, first, channels

    def read(self, slices: Slices) -> np.ndarray:
        """Read a block (C + channels, ...) float32."""
        return np.concatenate([self._image.read(slices), encode(self._first[slices], self._channels)])


def add_segmentation(image: PreparedImage, segmentation: np.ndarray, plan: DataPlan) -> PreparedImage:
    """Add the segmentation of a first stage to a prepared image.

    Args:
        image: the image (C, *grid).
        segmentation: class indices (*spatial) on the grid of the file.
        plan: of the second stage.

    Returns:
        The image with `plan.in_channels` channels.
    """
    first = place_segmentation(segmentation, image.orientation, image.shape[1:])
    source = WithFirstStage(image.source, first, list_channels(plan))
    return replace(image, shape=(plan.in_channels, *image.shape[1:]), source=source)
