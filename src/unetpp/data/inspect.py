"""Inspection of a data set: read every file once, measure every case, report every problem."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from unetpp.data.case_files import read_case_image, read_case_label
from unetpp.data.folds import make_splits
from unetpp.data.preprocess import RGB_CHANNELS
from unetpp.errors import DataError, Problem
from unetpp.formats import is_medical
from unetpp.formats.readers import describe_shape
from unetpp.labels.values import choose_classes, count_values
from unetpp.layouts.dataset import Case, Dataset
from unetpp.plan import AS_FILES_SAY, LabelPlan, ReadPlan
from unetpp.volume import Volume
from unetpp.words import list_some

_AIR, _SOFT_TISSUE = (-3100, -900), 20
"""Hounsfield units: lowest intensities of a CT, with the usual paddings; and an intensity that every body exceeds."""
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
    """Intensities (channels, at most 1000) of voxels above 0 in the label, evenly spread."""
    label_counts: dict[int, int]
    """Number of voxels of each label value but that of voxels that nobody labeled; empty without a label."""
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
    classes: tuple[str, ...]
    label_values: tuple[int, ...]
    instances: bool
    channels: tuple[str, ...]
    labels: LabelPlan | None = None
    """Meaning of the label values, as far as it was declared or set."""


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
    dataset = replace(dataset, channels=reading.channels or dataset.channels)
    meaning = reading.labels or (LabelPlan(ignore=dataset.ignored_value) if dataset.ignored_value is not None else None)
    ignore = meaning.ignore if meaning else None
    results = list(_inspect_cases(dataset.cases, reading, ignore, progress))
    facts = [facts for facts, _ in results if facts is not None]
    cases = {case.id: case for case in dataset.cases}
    medical = any(is_medical(path) for case in dataset.cases[:1] for path in case.images)
    found = choose_classes(
        {str(cases[fact.id].labels[0]): fact.label_counts for fact in facts if fact.label_counts},
        dataset.classes,
        (1 if medical else 255) if dataset.instances else None,
        str(dataset.root),
    )
    channels, channel_problems = _choose_channels(dataset, facts)
    problems = [*dataset.problems, *(problem for _, problems in results for problem in problems), *channel_problems]
    problems += [*found.problems, *_check_dims(facts), *_check_splits(dataset)]
    notes = [*dataset.notes, *found.notes, *_note_repeated_images(facts), *_note_hounsfield_units(dataset, facts)]
    notes += _note_ignored(ignore, facts)
    names, values = found.classes.names, found.classes.values
    return Inspection(facts, problems, notes, names, values, dataset.instances, channels, meaning)


def _inspect_cases(
    cases: Sequence[Case], reading: ReadPlan, ignore: int | None, progress: Callable[[int, int], object] | None
) -> Iterable[tuple[CaseFacts | None, list[Problem]]]:
    pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))
    try:
        for done, result in enumerate(pool.map(partial(_inspect_case, reading=reading, ignore=ignore), cases), start=1):
            if progress is not None:
                progress(done, len(cases))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, too


def _inspect_case(case: Case, reading: ReadPlan, ignore: int | None) -> tuple[CaseFacts | None, list[Problem]]:
    """Measure a case without problems; otherwise report those of the image, of the label and between them."""
    image, problems = _attempt(read_case_image, case, reading)
    label, label_problems = _attempt(read_case_label, case, reading) if case.labels else (None, [])
    problems += label_problems
    if image is not None:
        problems += _check_finite(case, image)
        if label is not None:
            problems += _check_same_grid(case, image, label)
    return (None if problems or image is None else _measure(case, image, label, ignore)), problems


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
    action = "Replace them with a number, such as `data.fill=0`, for training and prediction alike; or remove the case."
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


def _measure(case: Case, image: Volume, label: Volume | None, ignore: int | None) -> CaseFacts:
    pixels = image.array.reshape(image.channels, -1)
    counts = count_values(label.array) if label is not None else {}
    return CaseFacts(
        id=case.id,
        shape=image.shape,
        channels=image.channels,
        spacing_mm=image.geometry.spacing_mm,
        minimum=tuple(float(channel.min()) for channel in pixels),
        maximum=tuple(float(channel.max()) for channel in pixels),
        foreground_sample=_sample_foreground(pixels, label, ignore),
        label_counts={value: count for value, count in counts.items() if value != ignore},
        is_gray=image.channels == 3 and all(np.array_equal(channel, pixels[0]) for channel in pixels[1:]),
        is_color_format=len(case.images) == 1 and not is_medical(case.images[0]),
        digest=_hash(image),
    )


def _hash(image: Volume) -> str:
    voxels = np.ascontiguousarray(image.array).reshape(-1).view(np.uint8)
    return hashlib.blake2b(voxels.data, digest_size=16).hexdigest() + str(image.array.shape)


def _sample_foreground(pixels: np.ndarray, label: Volume | None, ignore: int | None) -> np.ndarray:
    values = label.array.reshape(-1) if label is not None else np.zeros(0, np.uint8)
    foreground = np.flatnonzero((values > 0) if ignore is None else (values > 0) & (values != ignore))
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
    why = "as declared" if dataset.channels else "as most images have"
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


def _note_ignored(ignore: int | None, facts: Sequence[CaseFacts]) -> list[str]:
    """Say how much nobody labeled, and name the cases of which nobody labeled anything."""
    labeled = {fact.id: sum(fact.label_counts.values()) for fact in facts}
    voxels = sum(prod(fact.shape) for fact in facts)
    if ignore is None or not voxels:
        return []
    share = 1 - sum(labeled.values()) / voxels
    nothing = [case for case, count in labeled.items() if not count]
    notes = [
        f"{share:.0%} of the voxels have the value {ignore}: nobody labeled them, and no loss or score counts them"
    ]
    return notes + ([f"{list_some(nothing)}: nothing is labeled"] if nothing else [])


def _note_hounsfield_units(dataset: Dataset, facts: Sequence[CaseFacts]) -> list[str]:
    """Tell how to declare CT where most undeclared images have air and tissue at the places of Hounsfield units."""
    seen = [fact for fact in facts if _AIR[0] <= min(fact.minimum) <= _AIR[1] and max(fact.maximum) > _SOFT_TISSUE]
    if dataset.channels or 2 * len(seen) <= len(facts):
        return []
    name = "data.channels=" + json.dumps(["CT"] * seen[0].channels).replace(" ", "")
    return [f"intensities like Hounsfield units; if these are CT, say so for their absolute scale: `{name}`"]


def _name_files(paths: Sequence[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
