"""Table and picture of the family: quality and costs of every size of every member, from the lines of `family.py`.

Trainings are measured hours apart, on a machine that may be busy. Therefore a time is its ratio to the reference in the
same rounds, times the median time of the reference over all trainings.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import matplotlib
from family_members import REFERENCE
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unetpp.metrics.scores import bootstrap_interval, compute_dice_losses, mean_of
from unetpp.report.colors import THEME
from unetpp.report.plots import COLORS, GRID, INK, MUTED, STYLE

Row = dict[str, Any]
HEADINGS = (
    *("member", "seeds", "steps", "ms, MB of a step", "depth", "width", "Dice", "points above the U-Net", "IoU"),
    *("ms of a tile", "OpenVINO", "MB", "parameters", "10^9 multiply-adds"),
)
RUNTIMES = {"torch": "family", "openvino": "family_openvino"}
"""Runtime of a tile -> name of its picture."""
SAME_TIME = 1.03
"""Times that differ by less than this factor count as the same: they are no better measured."""
SHOWN = 0.06
"""Dice below the best at which the picture ends."""


def group_rows(rows: Sequence[Row]) -> dict[str, Row]:
    """Average the rows of each member over seeds: a member's row with `seeds`, and cases averaged over them."""
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["member"]].append(row)
    members = {name: _average(group) for name, group in groups.items()}
    for entries, kind in (("phases", "step"), *(("sizes", runtime) for runtime in RUNTIMES)):
        every = [entry for row in members.values() for entry in row[entries] if entry.get(f"{kind}_ms")]
        reference = median(entry[f"{kind}_ms"] / entry[f"{kind}_ratio"] for entry in every) if every else 0.0
        for entry in every:
            entry[f"{kind}_ms"] = reference * entry[f"{kind}_ratio"]
    return members


def _average(group: Sequence[Row]) -> Row:
    first = group[0]
    phases = [_average_numbers(each) for each in zip(*(row["phases"] for row in group), strict=True)]
    sizes = []
    for each in zip(*(row["sizes"] for row in group), strict=True):
        cases = {case: mean_of(size["cases"][case] for size in each) for case in each[0]["cases"]}
        sizes.append({**_average_numbers(each), "cases": cases})
    named = {key: first[key] for key in ("member", "title")}
    return {**named, "seeds": [row["seed"] for row in group], "phases": phases, "sizes": sizes}


def _average_numbers(entries: Sequence[Row]) -> Row:
    return {key: mean_of(entry.get(key) for entry in entries) for key in entries[0] if key != "cases"}


def make_table(rows: Sequence[Row]) -> str:
    """Write the table in Markdown; `points above the U-Net`: of the same width, of full depth, paired over cases."""
    members = group_rows(rows)
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
    for name, row in members.items():
        phases = row["phases"]
        steps = " + ".join(f"{phase['steps']:.0f}" for phase in phases)
        costs = "; ".join(
            f"{phase['step_ms']:.0f} ({phase['step_ratio']:.2f}), {_show(phase['step_mb'], '.0f')}" for phase in phases
        )
        first = [f"{row['title']} (`{name}`)", ", ".join(map(str, row["seeds"])), steps, costs]
        for place, size in enumerate(row["sizes"]):
            points = _compare_with_unet(rows, name, place)
            cells = [*([""] * 4 if place else first), *_describe_size(size, points)]
            lines.append(f"| {' | '.join(cells)} |")
    note = f"In parentheses: as a multiple of `{REFERENCE}`, in the same rounds. Steps and their costs: of each phase."
    return "\n".join([*lines, "", note, "", *_compare_dials(rows, members)])


def _describe_size(size: Row, points: str) -> list[str]:
    dice = [value for value in size["cases"].values() if value is not None]
    return [
        f"{size['depth']:.0f}",
        f"{size['width']:.0f}",
        f"{_show(size['dice'], '.4f')} {_interval(dice, '.3f')}",
        points,
        _show(size["iou"], ".3f"),
        f"{size['torch_ms']:.2f} ({size['torch_ratio']:.2f})",
        f"{size['openvino_ms']:.2f} ({size['openvino_ratio']:.2f})" if size.get("openvino_ms") else "-",
        _show(size["tile_mb"], ".0f"),
        f"{size['parameters']:,.0f}",
        f"{size['gmacs']:.2f}",
    ]


def _compare_with_unet(rows: Sequence[Row], name: str, place: int) -> str:
    """Write how many points a size is above the U-Net of its width and of full depth."""
    width = next(row["sizes"][place]["width"] for row in rows if row["member"] == name)
    return "-" if name == f"unet-{width:.0f}" else compare(rows, (name, place), (f"unet-{width:.0f}", -1))


def compare(rows: Sequence[Row], one: tuple[str, int], other: tuple[str, int]) -> str:
    """Write how many points a size is above another one, of the seeds that both have, with the interval over cases.

    Args:
        rows: trainings of one data set.
        one: a member, and the place of its size.
        other: what it is compared with.
    """
    found: list[dict[int, Row]] = [
        {row["seed"]: row["sizes"][place]["cases"] for row in rows if row["member"] == member}
        for member, place in (one, other)
    ]
    seeds = sorted(set(found[0]) & set(found[1]))
    if not seeds:
        return "-"
    means = [{case: mean_of(cases[seed][case] for seed in seeds) for case in cases[seeds[0]]} for cases in found]
    gains = [100 * gain for gain in compute_dice_losses(means[0].values(), [means[1][case] for case in means[0]])]
    return f"{mean(gains):+.2f} {_interval(gains, '+.2f')}"


def _show(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _interval(values: Sequence[float], form: str) -> str:
    found = bootstrap_interval(values)
    return f"[{found[0]:{form}}, {found[1]:{form}}]" if found else ""


def _compare_dials(rows: Sequence[Row], members: Mapping[str, Row]) -> Iterator[str]:
    """Say for each network of several sizes where it is worst, against the U-Nets, and on each runtime."""
    unets = {name: row["sizes"][0] for name, row in members.items() if name.startswith("unet-")}
    for member, row in members.items() if unets else ():
        for runtime in RUNTIMES if len(row["sizes"]) > 1 else ():
            timed = [size for size in row["sizes"] if size.get(f"{runtime}_ms")]
            gaps = find_gaps(timed, list(unets.values()), f"{runtime}_ms")
            if gaps:
                ms, size, unet = min(gaps, key=lambda gap: gap[1]["dice"] - gap[2]["dice"])
                name = next(name for name, each in unets.items() if each is unet)
                own = f"depth {size['depth']:.0f} and width {size['width']:.0f}"
                points = compare(rows, (member, row["sizes"].index(size)), (name, -1))
                yield f"- {row['title']}, {runtime}: at worst {points} points, at {ms:.1f} ms: {own} against `{name}`"


def find_gaps(sizes: Sequence[Row], unets: Sequence[Row], key: str) -> list[tuple[float, Row, Row]]:
    """List the best size and the best U-Net at or below each time from the smallest size's to the largest's.

    Sizes slower by less than SAME_TIME count too.

    Returns:
        Milliseconds, at which one of the two changes, the size and the U-Net.
    """
    mine, theirs = find_front(sizes, key), find_front(unets, key)
    first, last = (choose(size[key] for size in sizes) if sizes else 0.0 for choose in (min, max))
    found = []
    for ms in sorted({each[key] for each in (*mine, *theirs) if first / SAME_TIME <= each[key] <= last}):
        limits = ((mine, ms * SAME_TIME), (theirs, ms))
        best = [[each for each in front if each[key] <= limit] for front, limit in limits]
        if all(best):
            found.append((ms, best[0][-1], best[1][-1]))
    return found


def find_front(sizes: Sequence[Row], key: str = "torch_ms") -> list[Row]:
    """Return the sizes that no other one matches in less time, by time."""
    front: list[Row] = []
    for size in sorted(sizes, key=lambda each: (each[key], -(each["dice"] or 0))):
        if size["dice"] is not None and (not front or size["dice"] > front[-1]["dice"]):
            front.append(size)
    return front


def draw(rows: Sequence[Row], folder: Path, title: str) -> None:
    """Draw family.svg, for light and dark pages, and family.png, and the same for OpenVINO if every size has its time.

    Dice over milliseconds of a tile: a line for the front of each network of several sizes, whose other sizes are small
    points; a point for each network of one size. What lies more than SHOWN below the best is cut off.
    """
    members = list(group_rows(rows).values())
    folder.mkdir(parents=True, exist_ok=True)
    for runtime, name in RUNTIMES.items():
        if all(size.get(f"{runtime}_ms") and size["dice"] is not None for row in members for size in row["sizes"]):
            with matplotlib.rc_context(STYLE):
                figure = _draw(members, f"{runtime}_ms", title)
                (folder / f"{name}.svg").write_text(_encode(figure), encoding="utf-8")
                figure.savefig(folder / f"{name}.png", dpi=160, facecolor="white")


def _draw(members: Sequence[Row], key: str, title: str) -> Figure:
    figure = Figure(figsize=(8.4, 5.2), layout="constrained")
    axes = figure.subplots()
    dials = [row for row in members if len(row["sizes"]) > 1]
    for number, row in enumerate(dials):
        _draw_dial(axes, row, key, COLORS[number % len(COLORS)], "-" if number < len(COLORS) else "--")
    _draw_single([row for row in members if len(row["sizes"]) == 1], key, axes)
    every = [size["dice"] for row in members for size in row["sizes"]]
    axes.set_ylim(max(max(every) - SHOWN, min(every) - 0.005), max(every) + 0.004)
    _label(axes, f"milliseconds for a tile, {key.removesuffix('_ms')}", title)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9.5, labelcolor=INK)
    return figure


def _draw_dial(axes: Axes, row: Row, key: str, color: str, line: str) -> None:
    front = find_front(row["sizes"], key)
    times, dice = ([size[name] for size in row["sizes"]] for name in (key, "dice"))
    axes.scatter(times, dice, s=14, color=color, alpha=0.6, zorder=2)
    style = {"color": color, "linestyle": line, "linewidth": 1.8, "marker": "o", "markersize": 5.5, "zorder": 3}
    axes.plot([size[key] for size in front], [size["dice"] for size in front], label=row["title"], **style)


def _draw_single(rows: Sequence[Row], key: str, axes: Axes) -> None:
    """Draw networks of one size: for each plain U-Net a marker by its width and its depth as a number."""
    markers, drawn = iter("svD^p*PX"), dict[str, str]()
    for row in rows:
        [size] = row["sizes"]
        is_unet = row["member"].startswith("unet-")
        label = f"U-Net {size['width']:.0f}, and its depth" if is_unet else row["title"]
        known = label in drawn
        marker = drawn.setdefault(label, "" if known else next(markers))
        point = size[key], size["dice"]
        axes.scatter(*point, s=46, color=MUTED, marker=marker, zorder=4, label="_" if known else label)
        if is_unet:
            text = f"{size['depth']:.0f}"
            axes.annotate(text, point, (6, -3), textcoords="offset points", fontsize=9, color=INK, clip_on=True)


def _label(axes: Axes, x: str, title: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(lambda x, place: f"{x:g}" if f"{x:e}"[0] in "25" else "")
    axes.set_xlabel(x)
    axes.set_ylabel("Dice")
    axes.set_title(title, fontsize=11, color=INK, loc="left")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, which="both", labelcolor=MUTED)


def _encode(figure: Figure) -> str:
    """Encode a figure as SVG in the colors of the report, those of the dark page where the reader's is dark."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    text = buffer.getvalue()
    light, dark = (";".join(f"--{name}:{pair[place]}" for name, pair in THEME.items()) for place in (0, 1))
    for name, (color, _) in THEME.items():
        text = text.replace(color, f"var(--{name})")
    style = f"<style>:root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    return text.replace("<defs>", f"{style}<defs>", 1)
