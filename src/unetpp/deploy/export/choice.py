"""What is said of the size that is exported where none is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unetpp.measure.pooled import recommend_size
from unetpp.model_notes import Notes
from unetpp.size_names import SizeNames
from unetpp.words import write_command


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
