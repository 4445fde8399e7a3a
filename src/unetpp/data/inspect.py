"""Inspection of a data set: read every file once, measure every case, report every problem."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from unetpp.data.case_files import read_case_image, read_case_label
from unetpp.data.folds import make_splits
from unetpp.data.preprocess import RGB_CHANNELS
from unetpp.errors import DataError, Problem
from unetpp.formats import is_medical
from unetpp.formats.readers import describe_shape
from unetpp.labels import guess_foreground
from unetpp.labels.facts import LabelFacts, measure_label
from unetpp.labels.find_meaning import find_meaning
from unetpp.labels.meaning import Declared, Meaning
from unetpp.layouts.dataset import Case, Dataset
from unetpp.plan import AS_FILES_SAY, LabelPlan, ReadPlan
from unetpp.volume import Volume

_SAMPLE = 1000
"""Largest number of foreground voxels of a case whose intensities are sampled."""


@dataclass(frozen=True, eq=False)
class CaseFacts:
    """Measurements of one case. Tuples and the rows of the sample have one entry for each channel."""

    id: str
    shape: tuple[int, ...]
    channels: int
    spacing_mm: tuple[float, ...] | None
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    foreground_sample: np.ndarray
    """Intensities (channels, at most 1000) of voxels that the label marks, evenly spread."""
    label: LabelFacts | None
    """What its label shows; None without a label."""
    is_gray: bool
    """Three channels that are equal everywhere."""
    is_color_format: bool
    """One file of a format in which three channels are colors."""
    digest: str
    """Hash of the voxels, equal for equal images."""


@dataclass(frozen=True)
class Inspection:
    """Facts, problems and notes of a data set."""

    facts: list[CaseFacts]
    """Facts of the cases without problems, in the order of the data set."""
    problems: list[Problem]
    """Problems that prevent training."""
    notes: list[str]
    """Observations that do not prevent training."""
    meaning: Meaning
    """What the values of the labels mean."""
    channels: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, background first."""
        return self.meaning.classes.names

    @property
    def label_values(self) -> tuple[int, ...]:
        """Value of each class in label files and predictions."""
        return self.meaning.classes.values


def inspect_dataset(
    dataset: Dataset, reading: ReadPlan = AS_FILES_SAY, progress: Callable[[int, int], object] | None = None
) -> Inspection:
    """Read every file and report every problem, those of `dataset.problems` first.

    Args:
        dataset: a data set, found tolerantly.
        reading: how files are read.
        progress: called with (cases done, cases in all).

    Raises:
        MissingExtraError: a format needs the extra `medical`.
    """
    declared = collect_declared(dataset, reading)
    results = list(_inspect_cases(dataset.cases, complete_reading(declared, reading), progress))
    facts = [facts for facts, _ in results if facts is not None]
    cases = {case.id: case for case in dataset.cases}
    shown = {str(cases[fact.id].labels[0]): fact.label for fact in facts if fact.label is not None}
    found = find_meaning(shown, declared)
    channels, channel_problems = _choose_channels(dataset, facts)
    problems = [*dataset.problems, *(problem for _, problems in results for problem in problems), *channel_problems]
    problems += [*found.problems, *_check_dims(facts), *_check_splits(dataset)]
    notes = [*dataset.notes, *found.notes, *_note_repeated_images(facts)]
    return Inspection(facts, problems, notes, found, channels)


def collect_declared(dataset: Dataset, reading: ReadPlan) -> Declared:
    """Collect what is known of the labels before they are read."""
    medical = any(is_medical(path) for case in dataset.cases[:1] for path in case.images)
    return Declared(
        str(dataset.root),
        dataset.classes,
        dataset.instances,
        dataset.joined == "union",
        dataset.ignored_value,
        reading.labels,
        mask_value=1 if medical else 255,
    )


def complete_reading(declared: Declared, reading: ReadPlan) -> ReadPlan:
    """Add what is known of the labels to how files are read."""
    if reading.labels is not None or not (declared.objects or declared.united):
        return reading
    return reading.model_copy(update={"labels": LabelPlan(kind="objects" if declared.objects else "binary")})


def _inspect_cases(
    cases: Sequence[Case], reading: ReadPlan, progress: Callable[[int, int], object] | None
) -> Iterable[tuple[CaseFacts | None, list[Problem]]]:
    pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))
    try:
        for done, result in enumerate(pool.map(partial(_inspect_case, reading=reading), cases), start=1):
            if progress is not None:
                progress(done, len(cases))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, too


def _inspect_case(case: Case, reading: ReadPlan) -> tuple[CaseFacts | None, list[Problem]]:
    """Measure a case without problems; otherwise report those of the image, of the label and between them."""
    image, problems = _attempt(read_case_image, case, reading)
    label, label_problems = _attempt(read_case_label, case, reading) if case.labels else (None, [])
    problems += label_problems
    if image is not None:
        problems += _check_finite(case, image)
        if label is not None:
            problems += _check_same_grid(case, image, label)
    return (None if problems or image is None else _measure(case, image, label, reading)), problems


def _attempt(
    read: Callable[[Case, ReadPlan], Volume], case: Case, reading: ReadPlan
) -> tuple[Volume | None, list[Problem]]:
    try:
        return read(case, reading), []
    except DataError as error:
        return None, error.problems


def _check_finite(case: Case, image: Volume) -> list[Problem]:
    if image.array.dtype.kind != "f":
        return []
    wrong = image.array.size - int(np.count_nonzero(np.isfinite(image.array)))
    if not wrong:
        return []
    action = "Replace them, for example with the smallest value, or remove the case."
    return [Problem(_name_files(case.images), f"{wrong} voxels that are NaN or infinite", "finite numbers", action)]


def _check_same_grid(case: Case, image: Volume, label: Volume) -> list[Problem]:
    where, name = _name_files(case.labels), case.images[0].name
    if image.shape != label.shape:
        got = f"a {label.dims}D label of {describe_shape(label.shape)}"
        expected = f"{image.dims}D, {describe_shape(image.shape)}, as {name}"
        action = "Give the label that belongs to the image; do not resize it with interpolation."
        return [Problem(where, got, expected, action)]
    if not label.geometry.matches(image.geometry):
        got = f"another place in space than {name} ({_describe_grid_difference(image, label)})"
        action = "Resample the label onto the image, or correct its header."
        return [Problem(where, got, "the same spacing, origin and direction", action)]
    return []


def _describe_grid_difference(image: Volume, label: Volume) -> str:
    first, second = image.geometry, label.geometry
    if first.spacing_mm and second.spacing_mm and not np.allclose(first.spacing_mm, second.spacing_mm, rtol=0.01):
        return f"spacing {_format_mm(second.spacing_mm)} against {_format_mm(first.spacing_mm)} mm"
    if first.affine is None or second.affine is None:
        return "direction of the axes"
    if not np.allclose(first.affine[:3, :3], second.affine[:3, :3], atol=1e-3):
        return "direction of the axes"
    return f"origin {_format_mm(second.affine[:3, 3])} against {_format_mm(first.affine[:3, 3])} mm"


def _format_mm(values: Iterable[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def _measure(case: Case, image: Volume, label: Volume | None, reading: ReadPlan) -> CaseFacts:
    pixels = image.array.reshape(image.channels, -1)
    return CaseFacts(
        id=case.id,
        shape=image.shape,
        channels=image.channels,
        spacing_mm=image.geometry.spacing_mm,
        minimum=tuple(float(channel.min()) for channel in pixels),
        maximum=tuple(float(channel.max()) for channel in pixels),
        foreground_sample=_sample_foreground(pixels, label),
        label=None if label is None else measure_label(label, is_medical(case.labels[0]), reading.labels is None),
        is_gray=image.channels == 3 and all(np.array_equal(channel, pixels[0]) for channel in pixels[1:]),
        is_color_format=len(case.images) == 1 and not is_medical(case.images[0]),
        digest=_hash(image),
    )


def _hash(image: Volume) -> str:
    voxels = np.ascontiguousarray(image.array).reshape(-1).view(np.uint8)
    return hashlib.blake2b(voxels.data, digest_size=16).hexdigest() + str(image.array.shape)


def _sample_foreground(pixels: np.ndarray, label: Volume | None) -> np.ndarray:
    foreground = np.flatnonzero(guess_foreground(label)) if label is not None else np.zeros(0, dtype=np.int64)
    chosen = foreground[np.linspace(0, len(foreground) - 1, min(len(foreground), _SAMPLE)).astype(np.int64)]
    return pixels[:, chosen].astype(np.float32)


def _choose_channels(dataset: Dataset, facts: Sequence[CaseFacts]) -> tuple[tuple[str, ...], list[Problem]]:
    """Name the channels, and report each case whose number of channels cannot be converted."""
    if not facts:
        return dataset.channels or ("image",), []
    color = any(_is_color(fact) for fact in facts)
    counts = Counter(1 if fact.is_gray and fact.is_color_format and not color else fact.channels for fact in facts)
    usual = 3 if color and set(counts) <= {1, 3} else counts.most_common(1)[0][0]
    usual = len(dataset.channels) if dataset.channels else usual
    wrong = [fact for fact in facts if not _fits_channels(fact, usual)]
    names = {1: ("image",), 3: RGB_CHANNELS if color else ("channel_1", "channel_2", "channel_3")}
    default = names.get(usual, tuple(f"channel_{number}" for number in range(1, usual + 1)))
    return dataset.channels or default, [_describe_wrong_channels(dataset, fact, usual) for fact in wrong]


def _is_color(fact: CaseFacts) -> bool:
    return fact.channels == 3 and fact.is_color_format and not fact.is_gray


def _fits_channels(fact: CaseFacts, channels: int) -> bool:
    """Tell whether the channels can be converted: gray is repeated for RGB, RGB becomes gray for one channel."""
    return fact.channels == channels or (fact.is_color_format and {fact.channels, channels} == {1, 3})


def _describe_wrong_channels(dataset: Dataset, fact: CaseFacts, channels: int) -> Problem:
    images = next(case.images for case in dataset.cases if case.id == fact.id)
    why = "as dataset.json declares" if dataset.channels else "as most images have"
    got = f"{fact.channels} channel{'s' * (fact.channels != 1)}"
    action = "Give every case the same channels, or remove the case."
    return Problem(_name_files(images), got, f"{channels}, {why}", action)


def _check_dims(facts: Sequence[CaseFacts]) -> list[Problem]:
    by_dims = {dims: [fact.id for fact in facts if len(fact.shape) == dims] for dims in (2, 3)}
    if not all(by_dims.values()):
        return []
    rare, usual = sorted(by_dims, key=lambda dims: len(by_dims[dims]))
    some = ", ".join(by_dims[rare][:3]) + (", ..." if len(by_dims[rare]) > 3 else "")
    got, expected = f"{len(by_dims[rare])} {rare}D cases", f"{usual}D, as the other {len(by_dims[usual])}"
    return [Problem(some, got, expected, "Make one data set of images and one of volumes.")]


def _check_splits(dataset: Dataset) -> list[Problem]:
    """Report why the cases cannot be divided into folds."""
    try:
        make_splits(dataset.cases)
    except DataError as error:
        return [replace(problem, where=str(dataset.root)) for problem in error.problems]
    return []


def _note_repeated_images(facts: Sequence[CaseFacts]) -> list[str]:
    by_digest: dict[str, list[str]] = {}
    for fact in facts:
        by_digest.setdefault(fact.digest, []).append(fact.id)
    risk = "scores are too good if one of them trains and another validates"
    repeated = (", ".join(ids) for ids in by_digest.values() if len(ids) > 1)
    return [f"{names}: the same image several times; {risk}" for names in repeated]


def _name_files(paths: Sequence[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
