"""Cases that are parts of files: planes of a volume, and blocks of an image that is the only one.

Planes of one volume are neighbors, and so are blocks of one image. What validates must not be seen in training, so a
gap is left out between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from unetpp.data.blocks import BlockSizes, Cut, choose_cut
from unetpp.data.case_files import open_whole_image, read_whole_label
from unetpp.errors import DataError, Problem
from unetpp.formats import suffix_of
from unetpp.formats.planes import find_turn
from unetpp.labels.facts import count_block
from unetpp.layouts.dataset import Case, Dataset
from unetpp.plan import ReadPlan
from unetpp.slabs import slabs
from unetpp.volume import Volume
from unetpp.words import count_noun

AREA_SIZES = {
    2: BlockSizes(gap=32, smallest=64, wanted=128),
    3: BlockSizes(gap=8, smallest=16, wanted=32),
}
"""Sizes of blocks of an image (pixels) and of a volume (voxels)."""
PLANES_IN_GAP = 0.05
"""Planes on either side of a block that do not train while it validates, as a fraction of the stack; at least one."""
_ONE_PLANE = (".png", ".jpg", ".jpeg", ".bmp")
"""Formats that hold no volumes: such files are not opened to learn it."""
_AXES = ("planes", "rows", "columns")
_NEAR = "scores are those of neighboring tissue"
_PLANES_INSTEAD = "; `data.dims=2` takes its planes as images instead"


def split_dataset(dataset: Dataset, reading: ReadPlan) -> Dataset:
    """Make cases of the parts of files, where the data set needs it.

    With `data.dims=2`, each plane of a volume is a case, and planes of one volume stay together. If all labelled cases
    are one image, one volume or one group, they are cut into blocks that train and validate, with gaps between them.
    Files that cannot be read stay whole: the inspection reports them.

    Args:
        dataset: the data set.
        reading: how files are read.

    Returns:
        The data set, with a note on what was split.
    """
    cases = dataset.cases
    if reading.dims == 2:
        cases = tuple(part for case in cases for part in _try_planes(case, reading))
    splits = _split_alone(_find_alone(cases), reading)
    parts = {name: found for split in splits for name, found in split.parts.items()}
    cases = tuple(part for case in cases for part in parts.get(case.id, (case,)))
    if cases == dataset.cases:
        return dataset
    problems = (*dataset.problems, *_find_same_ids(cases))
    return replace(dataset, cases=cases, notes=(*dataset.notes, *_describe(splits)), problems=problems)


def _describe(splits: Sequence[_Split]) -> list[str]:
    """Say what was split, once for all files that were split alike."""
    kinds = Counter((split.kind, split.note) for split in splits)
    alone = len(splits) == 1
    return [
        f"{'one ' + kind if alone else f'{count} {kind}s of one group'}: {note}"
        for (kind, note), count in kinds.items()
    ]


def list_planes(case: Case, reading: ReadPlan) -> tuple[Case, ...]:
    """List the planes of a volume as cases; an image is returned as it is.

    Raises:
        DataError: as `open_case_image`.
    """
    if case.is_part or all(suffix_of(path) in _ONE_PLANE for path in case.images):
        return (case,)
    shape = open_whole_image(case, reading).shape[1:]
    if len(shape) != 3:
        return (case,)
    digits, group = max(3, len(str(shape[0] - 1))), case.group or case.id
    names = [f"{case.id}_z{plane:0{digits}}" for plane in range(shape[0])] if shape[0] > 1 else [case.id]
    return tuple(replace(case, id=name, plane=plane, group=group) for plane, name in enumerate(names))


def _try_planes(case: Case, reading: ReadPlan) -> tuple[Case, ...]:
    try:
        return list_planes(case, reading)
    except DataError:
        return (case,)


def _find_alone(cases: Iterable[Case]) -> list[Case]:
    """Find the labelled cases, if they are one group, which no fold can divide; none if a split is declared."""
    usable = [case for case in cases if case.labels and case.split != "test"]
    groups = {case.group or case.id for case in usable}
    declared = any(case.split == "validation" for case in usable)
    return usable if len(groups) == 1 and not declared else []


def suggest_split(shape: tuple[int, ...]) -> str:
    """Say what allows a data set of one image or volume of this shape to be split."""
    sizes, unit = AREA_SIZES[len(shape)], "pixels" if len(shape) == 2 else "voxels"
    least = 2 * sizes.smallest + sizes.gap
    text = f" One of at least {least} {unit} along an axis is split by area"
    planes = "; or take the planes of the volume as images: `data.dims=2`" if len(shape) == 3 else ""
    return f"{text}{planes}."


class _TooSmallError(Exception):
    """An image is too small to be cut, or its label has another shape."""


@dataclass(frozen=True)
class _Split:
    """What became of the cases of one image or volume."""

    parts: Mapping[str, tuple[Case, ...]]
    """By the id of the case."""
    kind: str
    """image, volume or stack."""
    note: str


def _split_alone(alone: Sequence[Case], reading: ReadPlan) -> list[_Split]:
    """Split every file; nothing if one of them cannot be split."""
    files: dict[object, list[Case]] = {}
    for case in alone:
        files.setdefault((case.images, case.labels), []).append(case)
    try:
        return [_split_file(cases, reading) for cases in files.values()]
    except (DataError, _TooSmallError):
        return []


def _split_file(cases: Sequence[Case], reading: ReadPlan) -> _Split:
    """Split the whole image, or all planes of a volume; raises _TooSmallError if that is impossible."""
    image, label = open_whole_image(cases[0], reading), read_whole_label(cases[0], reading)
    if label.shape != image.shape[1:]:
        raise _TooSmallError  # the inspection reports it
    profiles = measure_foreground(label)
    if cases[0].plane is None:
        return _split_areas(cases, profiles, reading)
    exchange, flips = find_turn(image.geometry)
    in_plane = profiles[:0:-1] if exchange else profiles[1:]
    in_plane = [profile[::-1] if flip else profile for profile, flip in zip(in_plane, flips, strict=True)]
    return _split_stack(cases, profiles[0]) or _split_areas(cases, in_plane, reading)


def _split_stack(planes: Sequence[Case], profile: np.ndarray) -> _Split | None:
    """Give the planes of a stack groups of neighbors, and name those that are too near to be trained on."""
    gap = max(1, int(PLANES_IN_GAP * len(planes)))
    cut = choose_cut([profile], BlockSizes(gap=0, smallest=gap + 1, wanted=gap + 1))
    if cut is None:
        return None
    parts = {}
    for number, (start, stop) in enumerate(cut.blocks, start=1):
        for place, case in enumerate(planes[start:stop], start=start):
            near = [*planes[max(0, place - gap) : start], *planes[stop : max(stop, place + gap + 1)]]
            names = tuple(other.id for other in near)
            parts[case.id] = (replace(case, group=f"{case.group} block {number}", neighbors=names),)
    text = f"its {len(planes)} planes are split into {len(cut.blocks)} blocks; each fold leaves out"
    text += f" {count_noun(gap, 'plane')} on either side of those it validates on; {_NEAR}"
    return _Split(parts, "stack", text + _describe_lack(cut))


def _split_areas(cases: Sequence[Case], profiles: Sequence[np.ndarray], reading: ReadPlan) -> _Split:
    """Cut an image, a volume, or all planes of a volume into the same blocks along one axis."""
    shape = tuple(map(len, profiles))
    cut, sizes = choose_cut(profiles, AREA_SIZES[len(shape)]), AREA_SIZES[len(shape)]
    if cut is None:
        raise _TooSmallError
    unit, kind = ("pixels", "image") if len(shape) == 2 else ("voxels", "volume")
    planes = _PLANES_INSTEAD if len(shape) == 3 and reading.dims is None else ""
    along = _AXES[cut.axis - len(shape)]
    text = f"split along its {along} into {len(cut.blocks)} blocks with gaps of {sizes.gap} {unit}; {_NEAR}"
    parts = {case.id: tuple(_cut_case(case, shape, cut)) for case in cases}
    return _Split(parts, kind, f"{text}{_describe_lack(cut)}{planes}")


def _cut_case(case: Case, shape: tuple[int, ...], cut: Cut) -> Iterator[Case]:
    for number, block in enumerate(cut.blocks, start=1):
        area = tuple(block if axis == cut.axis else (0, size) for axis, size in enumerate(shape))
        yield replace(case, id=f"{case.id}_part{number}", area=area, group=f"{case.group or case.id} block {number}")


def _describe_lack(cut: Cut) -> str:
    return "" if cut.holds_foreground else "; not every block has foreground"


def measure_foreground(label: Volume) -> list[np.ndarray]:
    """Count the voxels at each position of each axis that have another value than most voxels of the label."""
    common = [_find_most_common(channel) for channel in label.array]
    profiles = [np.zeros(size, dtype=np.int64) for size in label.shape]
    axes = range(label.dims)
    for slices in slabs(label.shape):
        inside = np.zeros([part.stop - part.start for part in slices], dtype=bool)
        for channel, value in zip(label.array, common, strict=True):
            inside |= channel[slices] != value
        for axis, profile in enumerate(profiles):
            profile[slices[axis]] += np.count_nonzero(inside, axis=tuple(other for other in axes if other != axis))
    return profiles


def _find_most_common(channel: np.ndarray) -> int:
    counts: Counter[int] = Counter()
    for slices in slabs(channel.shape):
        values, voxels = count_block(channel[slices])
        counts.update(dict(zip(values.tolist(), voxels.tolist(), strict=True)))
    return counts.most_common(1)[0][0]


def _find_same_ids(cases: Iterable[Case]) -> list[Problem]:
    """Report names of parts that other cases have."""
    twice = [name for name, count in Counter(case.id for case in cases).items() if count > 1]
    action = "Rename one of the files."
    return [Problem(name, "two cases of this name", "names that differ", action) for name in twice]
