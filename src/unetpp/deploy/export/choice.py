"""The sizes that an exported file holds, and what is said of the one that is taken where none is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unetpp.errors import UsageError
from unetpp.measure.pooled import recommend_size
from unetpp.measured import Notes
from unetpp.size_names import SizeNames, choose_setting
from unetpp.words import write_command


def choose_sizes(depth: int | str | None, size: int | str | None, sizes: SizeNames, default: int) -> tuple[int, ...]:
    """Resolve `depth` or `size` of an export: a size, "all", or some, as "1,3" or "4x8,4x16"; smallest first."""
    setting, wanted = choose_setting(depth, size), depth if size is None else size
    if wanted in (None, "all"):
        return sizes.numbers if wanted else (default,)
    numbers = {sizes.find(word) for word in str(wanted).split(",")}
    found = tuple(sorted(number for number in numbers if number is not None))
    if len(found) < len(numbers):
        some = ",".join(map(str, dict.fromkeys([sizes.name(sizes.numbers[0]), sizes.name(sizes.numbers[-1])])))
        expected = f"{sizes.describe()}, some of them (as in {some}), or all"
        raise UsageError(setting, str(wanted), expected, f"Choose {sizes.noun}s at which this model has a head.")
    return found


def describe_default(
    model: Path, sizes: SizeNames, default: int, notes: Sequence[Notes], options: Sequence[object]
) -> str:
    """Say which size is exported where none is asked for, and how to export the recommended one, if that is another.

    Args:
        model: run folder or model file.
        sizes: all sizes of the model.
        default: number of the one that is exported.
        notes: those of each fold.
        options: further options of the command.

    Returns:
        A line; empty for a model of a single size.
    """
    if len(sizes.numbers) == 1:
        return ""
    text, recommended = f"{sizes.noun.capitalize()} {sizes.name(default)} is the default", recommend_size(model, notes)
    if recommended is None:
        return f"{text}, that of the plan."
    if recommended.depth == default:
        return f"{text}, that of the plan, and it is recommended."
    name = sizes.name(recommended.depth)
    command = write_command("export", model, f"--{sizes.noun}", name, *options)
    return f"{text}, that of the plan; recommended is {sizes.noun} {name}: {command}"
