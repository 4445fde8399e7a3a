"""Labels whose classes are colors: color images, and palettes whose order differs between files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from unetpp.errors import Problem
from unetpp.labels.classes import Classes
from unetpp.labels.gray import find_mask
from unetpp.labels.meaning import FOREGROUND, MAX_CLASSES, Declared, Files, Meaning, some_of
from unetpp.labels.views import unpack_colors
from unetpp.plan import LabelPlan

_NAMES = {
    0x000000: "black",
    0xFFFFFF: "white",
    0xFF0000: "red",
    0x00FF00: "green",
    0x0000FF: "blue",
    0xFFFF00: "yellow",
    0x00FFFF: "cyan",
    0xFF00FF: "magenta",
    0x808080: "gray",
}
_BLACK, _WHITE = 0x000000, 0xFFFFFF
_NEAR, _MIXED, _SHOWN = 48, 12, 8
"""Largest difference of colors that compression makes of one, and from a mixture; number of colors in a message."""
_RARE = 0.002
"""Colors with a smaller share of all voxels may be left by compression or resizing."""


def must_compare(files: Files) -> bool:
    """Tell whether the numbers in these files mean nothing without their colors."""
    if any(facts.is_color for facts in files.values()):
        return True
    if not any(facts.palette for facts in files.values()):
        return False
    return not _agree(files) and find_mask(files, Declared("")) is None


def _agree(files: Files) -> bool:
    """Tell whether palettes give each number one color in all files, and each color one number."""
    pairs = {pair for facts in files.values() for pair in facts.palette.items()}
    indices, colors = {index for index, _ in pairs}, {color for _, color in pairs}
    plain = {value for facts in files.values() if not facts.palette for value in facts.values}
    if len(indices) < len(pairs) or len(colors) < len(pairs) or not plain <= indices | {0}:
        return False
    first = next((color for index, color in pairs if index == 0), _BLACK)
    return first == _BLACK or _BLACK not in colors


def use_colors(files: Files, plan: LabelPlan | None, declared: Declared) -> Meaning:
    """Give each color a class.

    Args:
        files: what each file shows.
        plan: what the user says; colors of a table take those that are near them.
        declared: what is known of the files.

    Returns:
        A class for each color, or the question for a table.
    """
    if plan is not None and plan.colors:
        return _use_table(files, plan, declared)
    totals, many = _count_colors(files)
    ignore = plan.ignore if plan else None
    main, other = _find_main(files, totals)
    if len(main) > 1 and ignore is None and not many and _are_blends(other, main):
        totals = Counter({color: totals[color] for color in main})
    else:
        other = {}
    if problems := _find_doubts(files, totals, many, plan, declared.where):
        return Meaning(LabelPlan(kind="colors"), Classes(FOREGROUND, (0, declared.mask_value)), "colors", problems)
    background = _choose_background([color for color, _ in totals.most_common() if color != ignore])
    ordered = [color for color in (background, *sorted({*totals} - {background, ignore})) if color is not None]
    values, names = _name_classes(ordered, declared)
    table = tuple((color >> 16, color >> 8 & 255, color & 255) for color in ordered)
    made = LabelPlan(kind="colors", colors=table, ignore=ignore)
    share = 100 * sum(other.values()) / max(1, sum(facts.voxels for facts in files.values()))
    notes = [f"{share:.2g} % of the voxels have colors between these, along outlines; the nearest one counts"]
    return Meaning(made, Classes(names, values), _describe(files, ordered), notes=notes if other else [])


def _find_main(files: Files, totals: Counter[int]) -> tuple[list[int], dict[int, int]]:
    """Find the colors that cover areas, and the voxels of all others."""
    looked_at = [facts for facts in files.values() if facts.is_color]
    areas = {color for facts in looked_at for color in facts.colors if color not in facts.thin}
    voxels = sum(totals.values())
    common = [color for color, count in totals.most_common() if color in areas and count >= _RARE * voxels]
    main = _choose_apart(common, MAX_CLASSES)
    return main, {color: count for color, count in totals.items() if color not in main}


def _are_blends(other: Mapping[int, int], main: Sequence[int]) -> bool:
    """Tell whether several colors are mixed of two main ones, as soft edges are."""
    if len(other) < 3:
        return False
    known, mixed = unpack_colors(np.asarray(main)).astype(float), unpack_colors(np.asarray([*other])).astype(float)
    nearest = np.full(len(mixed), np.inf)
    for first, second in combinations(known, 2):
        along = second - first
        place = np.clip((mixed - first) @ along / (along @ along), 0, 1)
        nearest = np.minimum(nearest, np.abs(mixed - first - place[:, None] * along).max(axis=1))
    counts = np.asarray([*other.values()])
    return bool(counts[nearest <= _MIXED].sum() >= 0.97 * counts.sum())


def _find_doubts(files: Files, totals: Counter[int], many: bool, plan: LabelPlan | None, where: str) -> list[Problem]:
    """Find out why colors cannot become classes without a table."""
    by_user, ignore = plan is not None, plan.ignore if plan else None
    voxels = sum(totals.values())
    main = [color for color, count in totals.most_common() if count >= _RARE * voxels]
    rare = len(totals) - len(main)
    background = _choose_background([color for color, _ in totals.most_common() if color != ignore])
    several = len(_find_main(files, totals)[1]) > 3 and not by_user
    if (
        many
        or several
        or len(totals) > MAX_CLASSES
        or rare > max(3, len(main))
        or background is None
        or len(totals) < 2
    ):
        return [
            _ask(
                where,
                _find_main(files, totals)[0] or [color for color, _ in totals.most_common()],
                f"{len(totals)} colors{', most of them rare' * (rare > len(main))}",
            )
        ]
    if any(len({*facts.palette.values()}) < len(facts.palette) for facts in files.values()) and not by_user:
        got, expected = "palettes that give several numbers one color", "a color for each class"
        action = 'Use `data.labels="classes"` to go by the numbers, or `data.labels="colors"` to go by the colors.'
        return [Problem(where, got, expected, action)]
    if strange := _find_numbers(files, {*totals}):
        return [Problem(where, f"numbers among colors in {strange}", "colors in all files", "Save all in one way.")]
    return []


def _name_classes(ordered: list[int], declared: Declared) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Choose value and name of the class of each color."""
    if len(ordered) == 2:
        return (0, declared.mask_value), FOREGROUND
    if declared.classes and len(declared.classes) == len(ordered):
        values = tuple(sorted(declared.classes))
        return values, tuple(declared.classes[value] for value in values)
    if single := _read_single_channel(ordered):
        return single, (FOREGROUND[0], *(f"class_{value}" for value in single[1:]))
    names = (_NAMES.get(color, f"color_{color:06x}") for color in ordered[1:])
    return tuple(range(len(ordered))), (FOREGROUND[0], *names)


def _count_colors(files: Files) -> tuple[Counter[int], bool]:
    totals: Counter[int] = Counter()
    for facts in files.values():
        totals.update(facts.colors)
    return totals, any(facts.many_colors for facts in files.values())


def _use_table(files: Files, plan: LabelPlan, declared: Declared) -> Meaning:
    """Take the user's table; other colors count as the nearest of it."""
    assert plan.colors is not None
    names = plan.names or tuple(f"class_{place}" for place in range(len(plan.colors)))
    values = tuple(range(len(names))) if len(names) != 2 else (0, declared.mask_value)
    known = {red << 16 | green << 8 | blue for red, green, blue in plan.colors} | {plan.ignore}
    totals, _ = _count_colors(files)
    other = sum(count for color, count in totals.items() if color not in known)
    notes = []
    if other:
        share = 100 * other / sum(totals.values())
        notes = [f"{share:.2g} % of the voxels have other colors than the table; the nearest one counts"]
    problems = []
    if not totals:
        got, action = "labels without colors", 'Use `data.labels="classes"`.'
        problems = [Problem(declared.where, got, "color images or palettes", action)]
    line = f"colors of the table: {', '.join(names)}"
    return Meaning(plan.model_copy(update={"names": None}), Classes(names, values), line, problems, notes)


def _choose_background(common: list[int]) -> int | None:
    """Choose the color of the background, from colors in the order of their frequency; None: any may be."""
    if _BLACK in common and (_WHITE not in common or common.index(_BLACK) < common.index(_WHITE) or len(common) == 2):
        return _BLACK
    return _WHITE if _WHITE in common and _BLACK not in common else None


def _find_numbers(files: Files, colors: set[int]) -> str:
    """Name how many files hold gray numbers that are no colors of the others."""
    gray = [facts for facts in files.values() if not facts.colors and not facts.channels]
    odd = [facts for facts in gray if not {value * 0x010101 for value in facts.values} <= {*colors, _BLACK}]
    return some_of(len(odd), len(files)) if odd else ""


def _read_single_channel(colors: list[int]) -> tuple[int, ...] | None:
    """Take the numbers of the only channel that is not 0 everywhere: the class number in the red channel."""
    for shift in (16, 8, 0):
        if all(color == (color >> shift & 255) << shift for color in colors):
            return tuple(color >> shift & 255 for color in colors)
    return None


def _describe(files: Files, ordered: list[int]) -> str:
    some = ", ".join(_NAMES.get(color, f"#{color:06x}") for color in ordered[:6]) + ", ..." * (len(ordered) > 6)
    kind = "palettes" if not any(facts.is_color for facts in files.values()) else "color images"
    return f"{len(ordered)} colors of {kind} ({some}); the first is the background"


def _choose_apart(common: list[int], most: int = _SHOWN) -> list[int]:
    """Choose the first colors, without those that are near an earlier one."""
    chosen: list[int] = []
    for color in common[:1000]:
        parts = unpack_colors(np.asarray(color))
        if all(np.abs(parts - unpack_colors(np.asarray(other))).max() > _NEAR for other in chosen):
            chosen.append(color)
        if len(chosen) == most:
            break
    return chosen


def _ask(where: str, common: list[int], got: str) -> Problem:
    """Ask for a table of colors."""
    common = _choose_apart(common)
    some = ", ".join(f"#{color:06x}" for color in common)
    example = ",".join(
        f"{FOREGROUND[0] if place == 0 else f'class_{place}'}=#{color:06x}" for place, color in enumerate(common)
    )
    action = f'Give a table, background first: `data.labels="colors:{example}"`; or `data.labels="binary"` for a mask.'
    return Problem(where, f"{got} (the most frequent: {some})", "a color for each class", action)
