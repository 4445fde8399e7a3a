"""Texts and tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from unetpp.dial import describe_size, list_remarks, list_rows, noun_of, write_option
from unetpp.measured import DepthRow, DepthTable, Measured, ScoredCase, Scores, list_columns, tabulate
from unetpp.model_notes import Metrics
from unetpp.plan import ModelPlan, Plan
from unetpp.words import find_value, format_value, wrap, write_command

WIDTH, LONGEST_NAME = 80, 30
"""Characters of a line, and of the first column of a table."""
NEW_IMAGES = "new_images"
"""Name of a folder in commands that are suggested."""
WORST = 5
"""Number of cases that are named as the worst."""


def suggest_prediction(model: Path, found: DepthTable | None = None) -> str:
    """Write the command that segments other images with a model, at the recommended size where there is one.

    Args:
        model: run folder, or file.
        found: its scores; None: it holds a single size, or nothing is known of them.
    """
    size = write_option(found, found.recommended.depth) if found and found.recommended else []
    return write_command("predict", model, NEW_IMAGES, "--out", "predictions", *size)


def describe_plan(plan: Plan) -> str:
    """List the values of a plan that have a reason, one a line."""
    lines = [f"  {key} = {value}   ({reason})" for key, value, reason in list_choices(plan, plan.reasons)]
    return "\n".join([f"Plan for {plan.name}:", *lines])


def list_choices(plan: Plan, reasons: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """List settings that have a reason: dotted name, value as text, reason."""
    values = plan.model_dump(mode="json")
    return [(key, format_value(find_value(values, key)), reason) for key, reason in reasons.items()]


def describe_parameters(parameters: int, model: ModelPlan) -> str:
    """Write the number of parameters of a whole network, and that those of all heads are counted, if it has several."""
    return f"{parameters:,} parameters{' with all heads' if len(model.list_sizes()) > 1 else ''}"


def describe_scores(metrics: Metrics) -> str:
    """Make a table of mean, pooled and class scores."""
    rows = [("mean", metrics.mean), ("pooled", metrics.pooled), *metrics.classes.items()]  # a class may be named so too
    return _fit_table("", Scores, rows, metrics.distance_unit)


def describe_depths(found: DepthTable) -> str:
    """Make the depth table: quality and cost of every depth that was measured, and of the mean of all heads.

    With shells every size has a row; then it says which of them are worth choosing, and which are left out.
    """
    noun = noun_of(found)
    lines = [_fit_table(noun, DepthRow, list_rows(found), found.distance_unit, found.count_cases())]
    lines += [f"  parameters: of the network pruned to the {noun}"] if "parameters" in lines[0] else []
    lines += [wrap(f"  {text}", WIDTH) for text in list_remarks(found)]
    lines += _describe_classes(found)
    lines += [wrap(f"  costs: {found.conditions}", WIDTH)] if found.conditions else []
    if partial := found.describe_scored():
        when = "after" if getattr(found, "step", None) is None else "during"  # notes have a step until the end
        lines.append(wrap(f"  {partial} {when} training: the Dice is preliminary, no {noun} is recommended", WIDTH))
    if chosen := found.recommended:
        lines.append(wrap(f"  recommended: {describe_size(found, chosen.depth)} ({chosen.reason})", WIDTH))
    return "\n".join(lines)


def _describe_classes(found: DepthTable) -> list[str]:
    """Write the Dice of each of several classes in a line, at the recommended size, else at the largest.

    Of more classes than a line holds, those with the lowest Dice are written.
    """
    if not found.depths:
        return []
    number = found.recommended.depth if found.recommended else max(found.depths)
    scores = found.depths.get(number, DepthRow()).classes
    dice = {name: each.dice for name, each in scores.items() if each.dice is not None}
    if len(dice) < 2:
        return []
    size = describe_size(found, number)
    texts = {name: f"{_shorten(name, LONGEST_NAME)} {value:.3f}" for name, value in dice.items()}
    whole = f"  Dice at {size}: {', '.join(texts.values())}"
    if len(whole) <= WIDTH:
        return [whole]
    line, *others = (texts[name] for name in sorted(dice, key=lambda name: (dice[name], name)))
    line = f"  lowest Dice of {len(dice)} classes at {size}: {line}"
    for text in others:
        if len(line) + len(f", {text}") > WIDTH:
            break
        line += f", {text}"
    return [line]


def describe_worst(metrics: Metrics) -> list[str]:
    """List the cases with the lowest Dice, and of several classes the worst of each."""
    if not (worst := find_worst(metrics.cases)):
        return []
    rows = [["worst cases", "Dice", *(["worst class"] if len(metrics.classes) > 1 else [])]]
    for case in worst:
        classes = sorted((each.dice, key) for key, each in case.classes.items() if each.dice is not None)
        rows.append(
            [
                case.id,
                f"{case.mean.dice:.4f}",
                *([f"{classes[0][1]} {classes[0][0]:.4f}"] if len(metrics.classes) > 1 else []),
            ]
        )
    return [table(rows)]


def find_worst(cases: Iterable[ScoredCase]) -> list[ScoredCase]:
    """Find the cases with the lowest Dice, the worst first: those below the mean, half of the cases at most."""
    dice = {case.id: case.mean.dice for case in cases if case.mean.dice is not None}
    mean = sum(dice.values()) / max(1, len(dice))
    below = [case for case in cases if dice.get(case.id, mean) < mean]
    return sorted(below, key=lambda case: (dice[case.id], case.id))[: min(WORST, len(dice) // 2)]


def _fit_table(
    first: str,
    kind: type[Measured],
    rows: Sequence[tuple[str, Measured]],
    unit: str | None,
    counts: Mapping[str, str] | None = None,
) -> str:
    """Make a table as wide as a terminal; what is left out where it is too wide is in the JSON and in the report."""
    text = table(tabulate(first, kind, rows, unit, brief=True, counts=counts))
    for spared in range(1 + max(column.spare for column in list_columns(kind).values())):
        if max(map(len, text.split("\n"))) <= WIDTH:
            break
        text = table(tabulate(first, kind, rows, unit, brief=True, spared=spared, counts=counts), tall=True)
    return text


def table(rows: Sequence[Sequence[str]], tall: bool = False) -> str:
    """Align columns, the first to the left, the others to the right.

    Args:
        rows: headings, then the texts of each row. A first text that is too long is shortened.
        tall: headings that are wider than their column take several lines.
    """
    headings, *body = [[_shorten(first, LONGEST_NAME), *others] for first, *others in rows]
    lines = [*(_split_headings(headings, body) if tall else [headings]), *body]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        ("  " + "  ".join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])])).rstrip()
        for first, *others in lines
    )


def _split_headings(headings: Sequence[str], body: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Split headings that are wider than the texts below them into lines; what is in brackets stays whole."""
    widest = [max(map(len, column)) for column in zip(*body, strict=True)]
    split = [_split_heading(text, width) for text, width in zip(headings, widest, strict=True)]
    height = max(map(len, split))
    return list(zip(*([""] * (height - len(lines)) + lines for lines in split), strict=True))


def _split_heading(text: str, width: int) -> list[str]:
    words, bracket, count = text.partition("(")
    parts = [*words.split(), *([bracket + count] if bracket else [])]
    lines = parts[:1]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) < max(width, *map(len, parts)):
            lines[-1] += f" {part}"
        else:
            lines.append(part)
    return lines


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
