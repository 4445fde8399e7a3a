"""Inspection of a data set: read every file once, measure every case, report every problem."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from unetpp import scratch
from unetpp.cluster.engine import HERE, Engine
from unetpp.data.case_facts import CaseFacts
from unetpp.data.case_files import close_whole_files, name_files, name_label, open_case_image, read_case_label
from unetpp.data.case_runs import run_cases
from unetpp.data.folds import make_splits
from unetpp.data.intensities import SAMPLE, Intensities, measure_intensities
from unetpp.data.known_cases import KnownCases
from unetpp.data.orientation import find_orientation
from unetpp.data.parts import suggest_split
from unetpp.data.preprocess import MOST_RESAMPLED, RGB_CHANNELS
from unetpp.data.training_range import keep_filled, measure_levels, sample_values
from unetpp.data.workers import count_at_once
from unetpp.errors import DataError, Problem, failures_of
from unetpp.formats import is_medical
from unetpp.formats.orientation import note_turned_pair
from unetpp.formats.sources import ImageSource
from unetpp.labels import guess_foreground
from unetpp.labels.facts import LabelFacts, join_facts, measure_label
from unetpp.labels.find_meaning import find_meaning
from unetpp.labels.meaning import Declared, Meaning
from unetpp.layouts.dataset import Case, Dataset
from unetpp.plan import AS_FILES_SAY, LabelPlan, ReadPlan
from unetpp.volume import Volume
from unetpp.words import count_noun, list_some, merge_remarks

_Found = TypeVar("_Found")

_READ_AT_ONCE = 4
_NAMED = 5
"""Largest number of images that a note names, and of notes of one kind."""
_SAMPLE_OF_ALL = 1_000_000
"""Largest number of sampled foreground voxels of all cases together."""
_VOXEL_MM = (1e-7, 50.0)
"""Smallest and largest voxel size of an image, in mm: a tenth of a nanometer, and beyond any slice of a scanner."""
_AIR, _SOFT_TISSUE = (-3100, -900), 20
"""Hounsfield units: lowest intensities of a CT, with the usual paddings; and an intensity that every body exceeds."""


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
    dataset: Dataset,
    reading: ReadPlan = AS_FILES_SAY,
    progress: Callable[[int, int], object] | None = None,
    engine: Engine = HERE,
    known: KnownCases | None = None,
) -> Inspection:
    """Read every file and report every problem, those of `dataset.problems` first.

    Args:
        dataset: a data set, found tolerantly.
        reading: how files are read.
        progress: called with (cases done, cases in all).
        engine: where the files are read.
        known: cases that were read before, and are not read again while their files are the same; what is read is
            added.

    Raises:
        MissingExtraError: a format needs the extra `medical`.
    """
    dataset = replace(dataset, channels=reading.channels or dataset.channels)
    declared = collect_declared(dataset, reading)
    how, known = complete_reading(declared, reading), known or KnownCases()
    results = _inspect_unknown(dataset.cases, how, progress, engine, known)
    facts = [facts for facts, _ in results if facts is not None]
    cases = {case.id: case for case in dataset.cases}
    found = find_meaning(_collect_shown(facts, cases), declared)
    channels, channel_problems = _choose_channels(dataset, facts)
    problems = [*dataset.problems, *(problem for _, problems in results for problem in problems), *channel_problems]
    problems += [*found.problems, *_check_dims(facts, reading.dims), *_check_splits(dataset, facts)]
    problems += _check_sizes(dataset, facts)
    problems = list(dict.fromkeys(problems))  # parts of one file have the problems of the file
    remarks = dict.fromkeys((cases[fact.id].images[0].name, note) for fact in facts for note in fact.notes)
    series = [] if channel_problems else _note_series(dataset, facts)
    notes = [*dataset.notes, *found.notes, *series, *merge_remarks(remarks)]
    notes += [
        *_note_unknown_sizes(facts),
        *_note_impossible_sizes(facts),
        *_note_repeated_images(facts),
        *_note_hounsfield_units(dataset, facts),
        *_note_ignored(found, facts),
    ]
    return Inspection(facts, problems, list(dict.fromkeys(notes)), found, channels)


def _collect_shown(facts: Sequence[CaseFacts], cases: Mapping[str, Case]) -> dict[str, LabelFacts]:
    """Collect what each label file shows, of which several cases may be parts."""
    parts: dict[str, list[LabelFacts]] = {}
    for fact in facts:
        case = cases[fact.id]
        if fact.label is not None:
            parts.setdefault(str(case.labels[0]) if case.is_part else name_label(case), []).append(fact.label)
    return {name: join_facts(found) for name, found in parts.items()}


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


def _inspect_unknown(
    cases: Sequence[Case],
    reading: ReadPlan,
    progress: Callable[[int, int], object] | None,
    engine: Engine,
    known: KnownCases,
) -> list[tuple[CaseFacts | None, list[Problem]]]:
    """Inspect the cases that are not known, and add them to those that are."""
    most = min(SAMPLE, _SAMPLE_OF_ALL // max(1, len(cases)))
    recalled = [known.recall(case, reading, most) for case in cases]
    unknown = [case for case, facts in zip(cases, recalled, strict=True) if facts is None]
    inspect = _inspect_elsewhere if engine.is_remote else _inspect_cases
    read = iter(inspect(unknown, reading, progress, engine, most) if unknown else ())
    results = [(facts, []) if facts else next(read) for facts in recalled]
    for case, (facts, _) in zip(cases, results, strict=True):
        known.add(case, facts)
    return results


def _inspect_elsewhere(
    cases: Sequence[Case], reading: ReadPlan, progress: Callable[[int, int], object] | None, engine: Engine, most: int
) -> Iterable[tuple[CaseFacts | None, list[Problem]]]:
    """Inspect cases on the workers of an engine; of each at most so many voxels of the sample are kept."""
    engine.require_shared(list({path.absolute().parent for case in cases for path in (*case.images, *case.labels)}))
    task = partial(_inspect_case, reading=reading)
    for outcome in run_cases(engine, task, cases, name="inspect", progress=progress):
        if outcome.result is None:
            yield None, list(outcome.problems)
        else:
            facts, problems = outcome.result
            yield _thin(facts, most), list(map(outcome.unit.name_as_given, problems))


def _inspect_cases(
    cases: Sequence[Case], reading: ReadPlan, progress: Callable[[int, int], object] | None, engine: Engine, most: int
) -> Iterable[tuple[CaseFacts | None, list[Problem]]]:
    """Inspect cases in this process, some at once."""
    pool = ThreadPoolExecutor(max_workers=count_at_once(cases, min(_READ_AT_ONCE, os.cpu_count() or 1)))
    try:
        for done, result in enumerate(pool.map(partial(_inspect_case, reading=reading), cases), start=1):
            if progress is not None:
                progress(done, len(cases))
            yield _thin(result[0], most), result[1]
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, too
        close_whole_files()


def _thin(facts: CaseFacts | None, size: int) -> CaseFacts | None:
    """Shorten the sample of a case of many, so that those of all cases fit into memory."""
    if facts is None or facts.foreground_sample.shape[1] <= max(1, size):
        return facts
    kept = np.linspace(0, facts.foreground_sample.shape[1] - 1, max(1, size)).astype(np.int64)
    return replace(facts, foreground_sample=facts.foreground_sample[:, kept])


def _inspect_case(case: Case, reading: ReadPlan) -> tuple[CaseFacts | None, list[Problem]]:
    """Measure a case without problems; otherwise report those of the image, of the label and between them."""
    where = name_files(case.images)
    image, problems = _attempt(lambda: open_case_image(case, reading), where)
    label, label_problems = None, list[Problem]()
    if case.labels:
        label, label_problems = _attempt(lambda: read_case_label(case, reading, image), name_label(case))
    problems += [problem for problem in label_problems if problem not in problems]
    if image is None:
        return None, problems
    found, late_problems = _attempt(lambda: _measure_case(case, image, label, reading), where)
    facts, more = found or (None, late_problems)
    problems += more
    return (None if problems else facts), problems


def _measure_case(
    case: Case, image: ImageSource, label: Volume | None, reading: ReadPlan
) -> tuple[CaseFacts, list[Problem]]:
    """Measure what was opened: voxels are read, and may fail, here."""
    shown = None if label is None else measure_label(label, is_medical(case.labels[0]), reading.labels is None)
    scratch.release(None if label is None else label.array)
    ignore = None if reading.labels is None else reading.labels.ignore
    found = measure_intensities(image, _find_foreground(label, shown), ignore)
    return _collect_facts(case, image, label, shown, found), _check_finite(case, found)


def _attempt(read: Callable[[], _Found], where: str) -> tuple[_Found | None, list[Problem]]:
    """Do a part of the inspection; whatever it raises is a problem of the file."""
    try:
        with failures_of(where):
            return read(), []
    except DataError as error:
        return None, error.problems


def _check_finite(case: Case, found: Intensities) -> list[Problem]:
    if not found.not_finite:
        return []
    action = "Replace them with a number, such as `data.fill=0`, for training and prediction alike; or remove the case."
    got = f"{found.not_finite} voxels that are NaN or infinite"
    return [Problem(name_files(case.images), got, "finite numbers", action)]


def _collect_facts(
    case: Case, image: ImageSource, label: Volume | None, shown: LabelFacts | None, found: Intensities
) -> CaseFacts:
    notes, values = image.geometry.notes, sample_values(image)
    if label is not None:
        notes += tuple(note_turned_pair(image.geometry, label.geometry))
    return CaseFacts(
        id=case.id,
        shape=image.shape[1:],
        channels=image.shape[0],
        spacing_mm=image.geometry.spacing_mm,
        minimum=found.minimum,
        maximum=found.maximum,
        foreground_sample=found.sample,
        label=shown,
        is_gray=found.is_gray,
        is_color_format=len(case.images) == 1 and not is_medical(case.images[0]),
        digest=found.digest,
        levels=measure_levels(values),
        levels_inside=measure_levels(keep_filled(values)),
        inside=found.inside,
        orientation=find_orientation(image.geometry, len(image.shape) - 1),
        notes=tuple(dict.fromkeys(notes)),
    )


def _find_foreground(label: Volume | None, shown: LabelFacts | None) -> np.ndarray | None:
    """Find what a label marks, before its meaning is known: an array (*spatial) whose foreground is above 0."""
    if label is None or shown is None:
        return None
    is_plain = label.channels == 1 and label.palette is None and label.alpha is None
    return label.array[0] if is_plain and shown.highest < 250 and not shown.fractions else guess_foreground(label)


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
    images = {case.id: case.images for case in dataset.cases} if wrong else {}
    why = "as declared" if dataset.channels else "as most images have"
    problems = [_describe_wrong_channels(images[fact.id], fact, f"{usual}, {why}") for fact in wrong]
    return dataset.channels or default, problems


def _is_color(fact: CaseFacts) -> bool:
    return fact.channels == 3 and fact.is_color_format and not fact.is_gray


def _fits_channels(fact: CaseFacts, channels: int) -> bool:
    """Tell whether the channels can be converted: gray is repeated for RGB, RGB becomes gray for one channel."""
    return fact.channels == channels or (fact.is_color_format and {fact.channels, channels} == {1, 3})


def _describe_wrong_channels(images: Sequence[Path], fact: CaseFacts, expected: str) -> Problem:
    if len(images) == 1 and is_medical(images[0]) and fact.channels > 1:
        got = f"{fact.channels} channels or time points"
        action = "Split a time series into files of one volume each; give every case the same channels."
    else:
        got = f"{fact.channels} channel{'s' * (fact.channels != 1)}"
        action = "Give every case the same channels, or remove the case."
    return Problem(name_files(images), got, expected, action)


def _check_dims(facts: Sequence[CaseFacts], wanted: int | None) -> list[Problem]:
    by_dims = {dims: [fact.id for fact in facts if len(fact.shape) == dims] for dims in (2, 3)}
    if wanted == 3 and by_dims[2]:
        action = "Leave the setting out, or give volumes."
        return [Problem(list_some(by_dims[2]), "2D images", "volumes, by `data.dims=3`", action)]
    if not all(by_dims.values()):
        return []
    rare, usual = sorted(by_dims, key=lambda dims: len(by_dims[dims]))
    some = ", ".join(by_dims[rare][:3]) + (", ..." if len(by_dims[rare]) > 3 else "")
    got, expected = f"{len(by_dims[rare])} {rare}D cases", f"{usual}D, as the other {len(by_dims[usual])}"
    return [Problem(some, got, expected, "Make one data set of images and one of volumes.")]


def _turn_sizes(fact: CaseFacts) -> tuple[float, ...]:
    sizes = fact.spacing_mm or ()
    return fact.orientation.turn_sizes(sizes) if fact.orientation else sizes


def _check_sizes(dataset: Dataset, facts: Sequence[CaseFacts]) -> list[Problem]:
    """Report voxel sizes that are far from those of the other cases: a header with the wrong unit."""
    sizes = {fact.id: _turn_sizes(fact) for fact in facts if fact.spacing_mm is not None}
    if len({len(each) for each in sizes.values()}) != 1:
        return []
    usual = np.median(list(sizes.values()), axis=0)
    images = {case.id: case.images for case in dataset.cases}
    action = "Correct the voxel size in its header, or its unit; or remove the case."
    expected = f"about {_join(usual)} mm, the median, within a factor of {MOST_RESAMPLED}"
    return [
        Problem(name_files(images[case]), f"voxels of {_join(own)} mm", expected, action)
        for case, own in sizes.items()
        if np.abs(np.log(own / usual)).max() > np.log(MOST_RESAMPLED)
    ]


def _note_unknown_sizes(facts: Sequence[CaseFacts]) -> list[str]:
    """Note that images without a voxel size keep all others from being resampled to one."""
    unknown = [fact.id for fact in facts if fact.spacing_mm is None]
    if not unknown or len(unknown) == len(facts):
        return []
    number = f"{len(unknown)} of {len(facts)} images state no voxel size"
    return [f"{number} ({list_some(unknown)}): no image is resampled to a common one"]


def _note_impossible_sizes(facts: Sequence[CaseFacts]) -> list[str]:
    """Name images whose voxels are of a size that no instrument makes: a wrong header, or one in another unit."""
    low, high = _VOXEL_MM
    strange = {
        f.id: f.spacing_mm for f in facts if f.spacing_mm and not low <= min(f.spacing_mm) <= max(f.spacing_mm) <= high
    }
    if not strange:
        return []
    sizes = _join(next(iter(strange.values())))
    why = "no instrument makes such; it decides how images are resampled and distances scored. Correct the headers"
    return [f"{list_some(strange)}: a voxel size of {sizes} mm; {why}"]


def _join(sizes: Iterable[float]) -> str:
    return " x ".join(f"{size:.3g}" for size in sizes)


def _check_splits(dataset: Dataset, facts: Sequence[CaseFacts]) -> list[Problem]:
    """Report why the cases cannot be divided into folds; of a single image, what would allow to split it."""
    hint = suggest_split(facts[0].shape) if len(dataset.cases) == len(facts) == 1 else ""
    try:
        make_splits(dataset.cases)
    except DataError as error:
        found = error.problems
        return [replace(problem, where=str(dataset.root), action=problem.action + hint) for problem in found]
    return []


def _note_series(dataset: Dataset, facts: Sequence[CaseFacts]) -> list[str]:
    """Note what the fourth axis of medical files is taken for, where nothing declares it."""
    images = {case.id: case.images for case in dataset.cases}
    remarks = [
        (images[fact.id][0].name, f"its {fact.channels} values at each voxel are read as channels, not as time points")
        for fact in facts
        if fact.channels > 1 and dataset.channels is None and len(images[fact.id]) == 1
        if is_medical(images[fact.id][0])
    ]
    return merge_remarks(remarks)


def _note_repeated_images(facts: Sequence[CaseFacts]) -> list[str]:
    by_digest: dict[str, list[str]] = {}
    for fact in facts:
        if fact.minimum != fact.maximum:  # empty planes of volumes are equal
            by_digest.setdefault(fact.digest, []).append(fact.id)
    risk = "scores are too good if one of them trains and another validates"
    repeated = [list_some(ids, _NAMED) for ids in by_digest.values() if len(ids) > 1]
    notes = [f"{names}: the same image several times; {risk}" for names in repeated[:_NAMED]]
    rest = len(repeated) - len(notes)
    return notes + ([f"{count_noun(rest, 'other image')} several times, too; {risk}"] if rest else [])


def _note_ignored(meaning: Meaning, facts: Sequence[CaseFacts]) -> list[str]:
    """Say how much nobody labeled, and name the cases of which nobody labeled anything."""
    ignore, shown = meaning.plan.ignore, {fact.id: fact.label for fact in facts if fact.label is not None}
    voxels = sum(label.voxels for label in shown.values())
    if ignore is None or not voxels:
        return []
    unlabeled = {case: label.counts.get(ignore, 0) for case, label in shown.items()}
    share = sum(unlabeled.values()) / voxels
    nothing = [case for case, count in unlabeled.items() if count == shown[case].voxels]
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
