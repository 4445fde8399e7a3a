"""Binary masks whose values are not two: compressed, resized, soft, or of several ranges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path

import numpy as np

from unetpp.errors import Problem
from unetpp.labels.classes import Classes
from unetpp.labels.encoding import half
from unetpp.labels.meaning import FOREGROUND, Declared, Files, Meaning, some_of
from unetpp.labels.outlines import END as _END
from unetpp.labels.outlines import Outlines
from unetpp.labels.views import scale_of
from unetpp.plan import LabelPlan

_WHITE = {1, 4095, 32767, 65534, 65535, *range(250, 256)}
"""Values that stand for the foreground of a mask when each file has one of them."""


def find_mask(files: Files, declared: Declared) -> Meaning | None:
    """Recognize binary masks with other values than 0 and one more.

    Args:
        files: what each file shows.
        declared: what is known of them.

    Returns:
        The cut between background and foreground; None if these are no such masks, or plain ones.
    """
    through = _are_gray_palettes(files)
    has_palette = any(facts.palette for facts in files.values())
    counts = {name: facts.look_through_palette() if through else facts.counts for name, facts in files.items()}
    soft = {name: facts for name, facts in files.items() if facts.fractions or len(counts[name]) > 2}
    white = Counter(value for name in files if name not in soft for value in counts[name] if value > 0)
    odd = any(facts.lowest < 0 for facts in files.values()) or any(
        0 not in counts[name] and len(counts[name]) == 2 for name in files
    )
    if odd or (has_palette and not through) or any(facts.outlines is None for facts in soft.values()):
        return None
    if not soft:
        return _join_ranges(white, has_palette, declared)
    found, values = add_outlines(soft), {value for name in soft for value in counts[name]}
    between = {value for value in values if found.highest / 8 < value < found.highest * 7 / 8}
    many = any(facts.fractions or facts.overflows for facts in soft.values())
    is_noisy = _have_noisy_ends(found, values) or has_gray_outlines(found, len(between) + 99 * many)
    if not is_noisy or not all(_is_end(value, soft) for value in white):
        return None
    if not (between or many) and not _look_like_noise(values, found.highest):
        return None
    cut = choose_cut(files)
    jpeg = all(is_jpeg(name) for name in soft)
    where = f"gray values between 0 and {'the highest' if cut is None else f'{_top(files):g}'} along outlines"
    reason = f"{where} in {some_of(len(soft), len(files))}{' (JPEG)' * jpeg}"
    is_border = len(between) == 1 and not (many or found.contacts or found.dark or found.bright)
    problems = [_ask_for_border(declared.where)] if is_border else []
    numbers = values - {0, found.highest}
    if not (between or many or found.bright or jpeg) and len(numbers) <= 8 and numbers == {*range(1, len(numbers) + 1)}:
        problems = [_ask_for_scribbles(declared.where, found.highest, len(numbers))]
    return _as_mask(cut, reason, declared, problems)


def is_jpeg(name: str) -> bool:
    """Tell whether a file has the name of a JPEG, which changes its numbers."""
    return Path(name).suffix.lower() in (".jpg", ".jpeg", ".jpe", ".jfif")


def _have_noisy_ends(found: Outlines, values: set[int]) -> bool:
    """Tell whether both ends have several values and hardly a voxel lies between: no set of classes looks like that."""
    dark = sum(0 < value <= found.highest / _END for value in values)
    bright = sum(found.highest * (1 - 1 / _END) <= value < found.highest for value in values)
    return min(dark, bright) >= 3 and found.between <= 0.02 * (found.dark + found.bright)


def _ask_for_scribbles(where: str, top: float, most: int) -> Problem:
    got = f"scattered values from 1 to {most} beside 0 and {top:g}"
    action = f'Use `data.labels="classes,ignore:{top:g}"`, or `data.labels="binary"` if the low values are noise.'
    return Problem(where, got, f"classes and voxels that nobody labeled ({top:g}), or a mask", action)


def _look_like_noise(values: set[int], highest: float) -> bool:
    """Tell whether values near 0 and near the highest alone may be noise: they begin at the ends."""
    return highest in _WHITE and min((value for value in values if 0 < value <= highest / 8), default=1) <= 3


def _ask_for_border(where: str) -> Problem:
    got = "labels with one gray value, which lies between dark and bright along whole outlines"
    action = 'Use `data.labels="binary"` to cut at half, or `data.labels="classes"` if it is a class of its own.'
    return Problem(where, got, "masks or classes", action)


def _as_mask(cut: float | None, reason: str, declared: Declared, problems: list[Problem]) -> Meaning:
    plan, classes = LabelPlan(kind="binary", cut=cut), Classes(FOREGROUND, (0, declared.mask_value))
    return Meaning(plan, classes, f"binary, {describe_cut(cut)}: {reason}", problems)


def _join_ranges(white: Mapping[int, int], by_palette: bool, declared: Declared) -> Meaning | None:
    """Join masks that have 0 and one more value each, such as 255 in some files and 65535 in others."""
    if by_palette and set(white) <= _WHITE:
        return _as_mask(half(min(white, default=255)), "palettes of black and white, by brightness", declared, [])
    if len(white) < 2 or not set(white) <= _WHITE:
        return None
    some = " and ".join(f"{value} in {some_of(count, sum(white.values()))}" for value, count in sorted(white.items()))
    return _as_mask(1, f"the foreground is {some}", declared, [])


def has_gray_outlines(found: Outlines, between: int) -> bool:
    """Tell whether gray values lie along the outlines between dark and bright, as compression and resizing leave them.

    Args:
        found: voxels by brightness.
        between: number of different values between dark and bright.

    Returns:
        False for classes, objects and photographs.
    """
    if not found.full or found.voxels - found.between < 0.65 * found.voxels:
        return False
    # noise at both ends is no class; values near 0 alone may be classes beside a value for unknown: be strict
    at_both_ends = found.bright > 0 and found.solid_bright <= 0.15 * found.bright
    near, solid, ends = (0.8, 0.6, 2.0) if at_both_ends else (0.95, 0.15, 0.5)
    if found.dark and found.dark_near < (0.8 if found.between else near) * found.dark:
        return False
    if not found.between:
        scattered = found.solid_dark <= solid * found.dark and found.solid_bright <= 0.5 * found.bright
        return scattered and found.dark + found.bright < ends * (found.full + found.bright)
    in_areas = found.solid_between > 0.15 * found.between
    return found.along >= (0.5 if between > 3 else 0.8) * found.between and not in_areas


def add_outlines(files: Files) -> Outlines:
    """Add what several files show."""
    found = [facts.outlines for facts in files.values() if facts.outlines is not None]
    _, *sums = np.sum([astuple(each) for each in found], axis=0)
    return Outlines(max(each.highest for each in found), *(int(number) for number in sums))


def choose_cut(files: Files) -> float | None:
    """Choose the value from which on voxels are foreground; None if files have several ranges."""
    through = _are_gray_palettes(files)
    tops = [255.0 if through and facts.palette else facts.highest for facts in files.values() if facts.highest > 0]
    scales = {scale_of(top) for top in tops}
    if len(scales) > 1:
        return None
    top = max(tops, default=255.0)
    return half(scale_of(top) if top >= 0.85 * scale_of(top) else top)


def describe_cut(cut: float | None) -> str:
    """Describe where masks are cut."""
    return "cut at half of the range of each file" if cut is None else f"cut at {cut:g}"


def _are_gray_palettes(files: Files) -> bool:
    return all(_is_gray(color) for facts in files.values() for color in facts.palette.values())


def _is_gray(color: int) -> bool:
    parts = (color >> 16, color >> 8 & 255, color & 255)
    return max(parts) - min(parts) <= 2


def _is_end(value: int, soft: Files) -> bool:
    """Tell whether the value of a clean mask may be the foreground of masks with these ranges."""
    top = max(facts.highest for facts in soft.values())
    return value in _WHITE or value >= top / 16


def _top(files: Files) -> float:
    return max(255.0 if facts.palette else facts.highest for facts in files.values())
