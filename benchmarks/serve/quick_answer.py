"""What the quick answer to a stroke is worth, and how long it takes.

python -m benchmarks.serve.quick_answer RUN DATA [--cases 40]

Each validation case of fold 0 is predicted by the largest size. A stroke is drawn through the inner part (farther than
0.6 of the largest distance from its border) of each of its three largest errors, which have 12 voxels or more after an
opening; of a volume in one slice of it. Printed are the voxels that are wrong less after the stroke and after what is
suggested, how often that is better or worse, and the seconds of processor and of clock for an answer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from unetpp.data.case_files import open_case_image, read_case_classes
from unetpp.data.folds import read_splits
from unetpp.data.preprocess import prepare_image
from unetpp.infer.loading import load
from unetpp.infer.options import PredictOptions
from unetpp.layouts.cases import find_cases
from unetpp.run_folder import RunFolder
from unetpp.serve.quick_answer import answer_strokes, find_box, require_network

SMALLEST = 12
STROKES = 3


class Answer(NamedTuple):
    stroke: int
    """Voxels that the stroke itself made right."""
    gain: int
    """Voxels that the suggestion made right, less those that it made wrong."""
    region: int
    cpu_s: float
    wall_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cases", type=int, default=40)
    given = parser.parse_args()
    answers = list(answer_all(given.run, given.data, given.cases))
    gains = np.array([each.gain for each in answers])
    cpu, wall = (np.array([getattr(each, name) for each in answers]) for name in ("cpu_s", "wall_s"))
    print(f"{len(answers)} strokes on {sum(each.region for each in answers):,} wrong voxels")
    print(
        f"made right by the strokes {sum(each.stroke for each in answers):,}, by the suggestions {gains.sum():,} more"
    )
    print(
        f"suggestions better {(gains > 0).mean():.0%}, none {(gains == 0).mean():.0%}, worse {(gains < 0).mean():.0%}"
    )
    print(f"if only the better ones are taken: {gains[gains > 0].sum():,}")
    print(f"seconds of processor: median {np.median(cpu):.2f}, largest {cpu.max():.2f}")
    print(f"seconds of clock: median {np.median(wall):.2f}, largest {wall.max():.2f}")


def answer_all(run: Path, data: Path, count: int) -> Iterator[Answer]:
    """Answer strokes on the errors of some validation cases."""
    predictor = load(run, "cpu", "torch")
    cases = {case.id: case for case in find_cases(data).cases}
    for id in read_splits(RunFolder(run).splits)[0].validation[:count]:
        source = open_case_image(cases[id], predictor.data)
        truth = read_case_classes(cases[id], predictor.data).astype(int)
        found = predictor.predict_source(source, id, PredictOptions("all"))[predictor.sizes.numbers[-1]]
        shown, model = found.segmentation.astype(int), require_network(predictor, truth.ndim)
        image = prepare_image(source, model.data)
        for region, index in find_errors(shown, truth, model.data.num_classes):
            yield answer(model, image, shown, truth, region, index)


def find_errors(shown: np.ndarray, truth: np.ndarray, num_classes: int) -> list[tuple[np.ndarray, int]]:
    """Find the largest errors, and the class that each ought to have."""
    found = []
    for index in range(num_classes):
        pieces, _ = ndimage.label(ndimage.binary_opening((shown != truth) & (truth == index)))
        sizes = np.bincount(pieces.reshape(-1))
        sizes[0] = 0
        found += [(int(sizes[piece]), pieces == piece, index) for piece in np.argsort(-sizes)[:STROKES]]
    ranked = sorted((each for each in found if each[0] >= SMALLEST), key=lambda each: -each[0])
    return [(region, index) for _, region, index in ranked[:STROKES]]


def draw_stroke(region: np.ndarray) -> np.ndarray:
    """Draw a stroke through the inner part of a region, in one slice of a volume."""
    depth = ndimage.distance_transform_edt(region)
    inner = depth > 0.6 * depth.max()
    if region.ndim == 3:
        fullest = int(inner.sum(axis=(1, 2)).argmax())
        inner &= (np.arange(len(inner)) == fullest)[:, None, None]
    pieces, _ = ndimage.label(inner)
    return np.asarray(pieces == 1 + np.argmax(np.bincount(pieces.reshape(-1))[1:]))


def answer(model: Any, image: Any, shown: np.ndarray, truth: np.ndarray, region: np.ndarray, index: int) -> Answer:
    """Answer one stroke, and count."""
    stroke = draw_stroke(region)
    middle = [int(np.median(places)) for places in np.nonzero(stroke)]
    started = time.process_time(), time.perf_counter()
    area = find_box(shown.shape, middle)
    strokes = np.where(stroke[area], index, -1).astype(np.int16)
    found = answer_strokes(model, image, area, shown[area], strokes)
    cpu_s, wall_s = time.process_time() - started[0], time.perf_counter() - started[1]
    before = np.where(strokes >= 0, strokes, shown[area])
    after = np.where(found >= 0, found, before)
    gain = int((before != truth[area]).sum() - (after != truth[area]).sum())
    return Answer(int(stroke.sum()), gain, int(region.sum()), cpu_s, wall_s)


if __name__ == "__main__":
    main()
