"""A quick answer to strokes: what else of an object was meant, by the smallest size of the network around the stroke.

A network answers alike each time that it is asked; it has to learn from the strokes to answer otherwise. Here its last
layer alone does, which takes a moment: the features of the smallest size, of one pass over a small part of the image,
and the intensities are told apart anew, by what was painted and, with as much weight, by what was predicted. Of what
then differs only the pieces that a stroke touches are suggested, and not far from it: a stroke changes the object that
it lies on, and no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from unetpp.data.preprocess import PreparedImage
from unetpp.formats.sources import Slices
from unetpp.infer.case_predictor import CasePredictor
from unetpp.infer.predictor import Predictor
from unetpp.infer.restore import find_region, resample_region
from unetpp.serve.problems import Refused

SIDES = {2: 256, 3: 64}
"""Voxels along each axis of the part that is predicted anew, by the number of axes."""
MOST_VOXELS = 2**21
"""Largest number of voxels of that part on the grid of the network, which may be finer."""
SAMPLES = 20_000
"""Voxels that the last layer learns from."""
STEPS = 40
DECAY = 1e-3
NEAR = 3
"""Voxels around a stroke of which nothing is held against it: what was predicted there is likely wrong too."""
CERTAIN = 0.7
"""Probability above which a voxel is suggested."""
REACH = {2: 3.0, 3: 1.0}
"""How far from a stroke, as a multiple of the radius of a disk or ball as large as it is, by the number of axes: of a
volume a stroke shows one slice of an object, and its borders are fainter."""


def answer_strokes(
    model: Predictor, image: PreparedImage, area: Slices, shown: np.ndarray, strokes: np.ndarray
) -> np.ndarray:
    """Suggest what else strokes mean, in a part of an image.

    Args:
        model: the model, as `require_network` returns it.
        image: the image.
        area: the part, on the grid of the file, as `find_box` finds it.
        shown: class index of each voxel of it as it is shown, (*area).
        strokes: class that was painted, -1 elsewhere, (*area).

    Returns:
        Suggested class of each voxel, -1 where nothing changes, int16 (*area).

    Raises:
        DataError: the image cannot be read.
    """
    before = np.where(strokes >= 0, strokes, shown)
    probabilities = learn(read_features(model, image, area), strokes, before, model.data.num_classes)
    return keep_touched(probabilities, strokes, before)


def require_network(predictor: CasePredictor, axes: int) -> Predictor:
    """Return a predictor whose features can be had for an image of so many axes; raises Refused."""
    action = "Correct without suggestions, or serve a model file of one network."
    if not isinstance(predictor, Predictor):
        raise Refused(409, "model", "an exported file or a selection", "networks with their weights", action)
    if predictor.data.resolution == "cascade" or predictor.data.regions is not None:
        raise Refused(409, "model", "a cascade, or regions that overlap", "one stage, of classes", action)
    if predictor.data.dims != axes:
        raise Refused(409, "model", "a volume that is predicted plane by plane", "a network of as many axes", action)
    return predictor


def find_box(shape: Sequence[int], middle: Sequence[int]) -> Slices:
    """Find the part of an image around a voxel that is predicted anew."""
    side = SIDES[len(shape)]
    starts = [max(0, min(size - side, place - side // 2)) for size, place in zip(shape, middle, strict=True)]
    return tuple(slice(start, min(size, start + side)) for start, size in zip(starts, shape, strict=True))


@torch.inference_mode()
def read_features(model: Predictor, image: PreparedImage, area: Slices) -> Tensor:
    """Compute what the last layer of the smallest size receives, and the intensities, in a part of an image.

    Args:
        model: the networks; of several the first answers.
        image: the image.
        area: part of the image on the grid of its file.

    Returns:
        (features, *area) float32, axes as in the file.

    Raises:
        Refused: the grid of the network is so much finer that this would take long.
        DataError: the image cannot be read.
    """
    network = model.network.prune(model.sizes.numbers[0]).eval()
    network.heads = nn.ModuleDict({name: nn.Identity() for name in network.heads})
    network.fusion = None
    turned = image.orientation.find_turned_block(area, image.image_shape)
    shape, grid = image.turned_shape, image.shape[1:]
    region = find_region(turned, grid, shape, image.thick)
    if (voxels := prod(part.stop - part.start for part in region)) > MOST_VOXELS:
        got, expected = f"{voxels:,} voxels on the grid of the network", f"at most {MOST_VOXELS:,}"
        raise Refused(409, "image", got, expected, "Correct without suggestions.")
    block = np.array(image.read(region))
    smooth = np.stack([ndimage.gaussian_filter(channel, 1) for channel in block])
    found: Tensor = network(torch.from_numpy(block)[None].to(model.device))
    joined = torch.cat([found[0].float().cpu(), torch.from_numpy(block), torch.from_numpy(smooth)])
    on_image = resample_region(joined[None], region, turned, grid, shape, image.thick)[0]
    return torch.from_numpy(np.ascontiguousarray(image.orientation.turn_back(on_image.numpy())))


def learn(features: Tensor, strokes: np.ndarray, before: np.ndarray, num_classes: int) -> np.ndarray:
    """Tell the classes apart by the features anew; returns probabilities (classes, *area)."""
    flat = features.flatten(1).T
    flat = (flat - flat.mean(dim=0)) / flat.std(dim=0).clamp(min=1e-6)
    random = np.random.default_rng(0)
    far = ~ndimage.binary_dilation(strokes >= 0, iterations=NEAR)
    parts = [random.permutation(np.flatnonzero(each))[: SAMPLES // 2] for each in (strokes >= 0, far)]
    places = torch.from_numpy(np.concatenate(parts))
    weights = torch.cat([torch.full((len(each),), 0.5 / max(1, len(each))) for each in parts])
    known, target = flat[places], torch.from_numpy(before.reshape(-1).astype(np.int64))[places]
    matrix = torch.zeros(num_classes, known.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([matrix], max_iter=STEPS, line_search_fn="strong_wolfe")

    def measure() -> float:
        optimizer.zero_grad()
        logits = functional.linear(known, matrix[:, 1:], matrix[:, 0])
        loss = (weights * functional.cross_entropy(logits, target, reduction="none")).sum()
        loss = loss + DECAY * matrix[:, 1:].square().sum()
        loss.backward()
        return loss.item()

    optimizer.step(measure)
    with torch.inference_mode():
        found = functional.linear(flat, matrix[:, 1:], matrix[:, 0]).softmax(dim=1)
        return found.T.reshape(num_classes, *before.shape).numpy()


def keep_touched(probabilities: np.ndarray, strokes: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Keep of what differs the pieces of a painted class that its strokes touch, not far from them; -1 elsewhere."""
    kept = np.full(before.shape, -1, np.int16)
    for index in np.unique(strokes[strokes >= 0]):
        own = strokes == index
        differs = (probabilities[index] > CERTAIN) & (before != index) & (strokes < 0) & _find_reach(own)
        pieces, _ = ndimage.label(differs | own)
        kept[np.isin(pieces, np.unique(pieces[own])) & ~own] = index
    return kept


def _find_reach(own: np.ndarray) -> np.ndarray:
    """Find the voxels near strokes: each reaches farther the larger it is."""
    labels, _ = ndimage.label(own)
    sizes = np.bincount(labels.reshape(-1))
    radii = np.sqrt(sizes / np.pi) if own.ndim == 2 else np.cbrt(sizes * 3 / (4 * np.pi))
    distances, nearest = ndimage.distance_transform_edt(~own, return_indices=True)
    return np.asarray(distances <= REACH[own.ndim] * radii[labels[tuple(nearest)]])
