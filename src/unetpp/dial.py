"""The dial of a network: its sizes by name, and those that are worth choosing.

A size is worth choosing if no other one is at least as fast and at least as good: if it lies on the front of Dice over
milliseconds. The ends of the dial are called small and large, the middle of three medium; sizes between them have the
names of `sizes.name_size` alone. Where all sizes have one depth, as in a U-Net with shells, each holds the ones before
it, so that their order and their words need no measurement. Needs no torch, and for tables whose rows know their sizes
no plan.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

from unetpp.measured import DepthRow, DepthTable
from unetpp.plan import ModelPlan
from unetpp.size_names import SizeNames
from unetpp.sizes import find_size

SMALL, MEDIUM, LARGE = "small", "medium", "large"
MARK = " *"
"""In a table behind the name of a size that another one beats."""
Table = TypeVar("Table", bound=DepthTable)


def add_sizes(table: Table, model: ModelPlan) -> Table:
    """Let the rows of a table know their sizes, where the network has shells; those of one width have depths alone.

    Args:
        table: of the network, by number (`unetpp.sizes`).
        model: its plan.
    """
    rows = {number: _add_size(row, number, model) for number, row in table.depths.items()}
    return table.model_copy(update={"depths": rows}) if rows != table.depths else table


def _add_size(row: DepthRow, number: int, model: ModelPlan) -> DepthRow:
    if len(model.shells) > 1:
        size = find_size(number, model.depth)
        return row.merge(DepthRow(depth=size.depth, channels=model.shell_channels[size.shell]))
    return DepthRow(**row.model_dump(exclude={"depth", "channels"})) if row.channels else row


def has_shells(table: DepthTable) -> bool:
    """Tell whether a table is of a network with shells: of several widths."""
    return any(row.channels for row in table.depths.values())


def is_chain(table: DepthTable) -> bool:
    """Tell whether all sizes are of one depth, so that each is a part of every wider one."""
    return has_shells(table) and len({row.depth for row in table.depths.values()}) == 1


def noun_of(table: DepthTable) -> str:
    """Return what a row of a table is called: a depth, with shells a size."""
    return "size" if has_shells(table) else "depth"


def name_row(table: DepthTable, number: int) -> str:
    """Name a size by its numbers, as `sizes.name_size` does: "4x8", or "4" in a network of one width."""
    row = table.depths.get(number, DepthRow())
    return f"{row.depth}x{row.channels}" if row.channels else str(number)


def label_size(table: DepthTable, number: int) -> str:
    """Name a size for a table: with its word, if it has one and the network has shells, as in "small (4x8)"."""
    word = name_words(table).get(number)
    return f"{word} ({name_row(table, number)})" if word else name_row(table, number)


def describe_size(table: DepthTable, number: int) -> str:
    """Name a size in a sentence: "small (4x8)", "size 3x8", or "depth 4" in a network of one width."""
    label = label_size(table, number)
    if not has_shells(table):
        return f"depth {label}"
    return label if "(" in label else f"size {label}"


def write_option(table: DepthTable, number: int) -> list[str]:
    """Write the option of a command that chooses a size: --depth 2, with shells --size 4x8."""
    return ["--size" if has_shells(table) else "--depth", name_row(table, number)]


def list_dial(table: DepthTable) -> list[int]:
    """List the sizes that are worth choosing, the cheapest first.

    Before all are scored and timed, those of the whole depth; in a network of one width then every depth.
    """
    rows = table.depths
    if not table.is_comparable:
        deepest = max((row.depth or 0 for row in rows.values()), default=0)
        return [number for number in sorted(rows) if (rows[number].depth or 0) == deepest]
    front: list[int] = []
    for number in list_by_cost(table):
        if not front or (rows[number].dice or 0.0) > (rows[front[-1]].dice or 0.0):
            front.append(number)
    return front


def list_by_cost(table: DepthTable) -> list[int]:
    """List all sizes, the cheapest first: by latency, equally fast ones by Dice; without latencies by number.

    Of one depth by width: that a part would take longer than the whole is noise.
    """
    rows = table.depths
    if is_chain(table) or any(row.latency_ms is None for row in rows.values()):
        return sorted(rows)
    return sorted(rows, key=lambda number: (rows[number].latency_ms, -(rows[number].dice or 0.0), number))


def find_left_out(table: DepthTable) -> dict[int, int]:
    """Find the sizes that another one beats: its number -> that of the best of the dial that is no slower."""
    if not table.is_comparable:
        return {}
    dial, found = list_dial(table), {}
    for number in list_by_cost(table):
        if number in dial:
            better = number
        else:
            found[number] = better
    return found


def name_words(table: DepthTable) -> dict[int, str]:
    """Name the ends of the dial, and the middle of three; a dial of a single size has no words.

    Nor have depths, and sizes that are not all scored and timed: what is small would change with the next measurement.
    Sizes of one depth have their words always, also those that others beat.
    An exported file calls its sizes what the model called them, even if it holds some of them only.
    """
    if given := getattr(table, "words", None):
        numbers = list(given.values())
        return {number: word for word, number in given.items() if numbers.count(number) == 1}
    chain = is_chain(table)
    dial = sorted(table.depths) if chain else list_dial(table)
    if len(dial) < 2 or not has_shells(table) or not (chain or table.is_comparable):
        return {}
    return {dial[0]: SMALL, dial[-1]: LARGE} | ({dial[1]: MEDIUM} if len(dial) == 3 else {})


def list_rows(table: DepthTable) -> list[tuple[str, DepthRow]]:
    """List the rows of a table as they are shown, then the mean of heads; with shells the cheapest first."""
    rows = [(label_row(table, number), table.depths[number]) for number in order_rows(table)]
    return rows + ([("mean", table.mean_of_heads)] if table.mean_of_heads else [])


def order_rows(table: DepthTable) -> list[int]:
    """Put the sizes of a table in the order in which they are shown: with shells the cheapest first."""
    return list_by_cost(table) if has_shells(table) else list(table.depths)


def label_row(table: DepthTable, number: int) -> str:
    """Name a size at the beginning of its row: as `label_size`, with a mark where another one beats it."""
    is_left_out = has_shells(table) and number in find_left_out(table)
    return label_size(table, number) + MARK * is_left_out


def list_remarks(table: DepthTable) -> list[str]:
    """List what is said below a table of sizes: those that are worth choosing, and those that others beat."""
    said = {"sizes": describe_dial(table), "* left out": describe_left_out(table)}
    return [f"{title}: {text}" for title, text in said.items() if text]


def describe_dial(table: DepthTable) -> str:
    """Say what each size of the dial gives: "small, 0.918 in 2.4 ms; large, 0.922 in 9.3 ms".

    Empty for a network of one width, and before its sizes can be compared.
    """
    if not (has_shells(table) and table.is_comparable):
        return ""
    words = name_words(table)
    return "; ".join(
        f"{words.get(number) or name_row(table, number)}, {row.dice:.3f} in {row.latency_ms:.1f} ms"
        for number in list_dial(table)
        for row in [table.depths[number]]
    )


def describe_left_out(table: DepthTable) -> str:
    """Say which sizes another one beats: "2x16, slower and worse than small (4x8)"; empty as `describe_dial`."""
    if not has_shells(table):
        return ""
    found: dict[str, list[str]] = {}
    for number, better in find_left_out(table).items():
        row, best = table.depths[number], table.depths[better]
        time = "slower" if (row.latency_ms or 0.0) > (best.latency_ms or 0.0) else "no faster"
        quality = "worse" if (row.dice or 0.0) < (best.dice or 0.0) else "no better"
        text = f"{time} and {quality} than {label_size(table, better)}"
        found.setdefault(text, []).append(name_row(table, number))
    return "; ".join(f"{', '.join(names)}, {text}" for text, names in found.items())


def complete_table(table: DepthTable, held: Collection[int], model: ModelPlan | None = None) -> DepthTable:
    """Make a table with a row for each size that there is, and for no other.

    Args:
        table: scores and costs of sizes.
        held: numbers of the sizes.
        model: plan of the network; None: the rows of the table know their sizes.
    """
    rows = {number: table.depths.get(number, DepthRow()) for number in sorted(held)}
    table = table.model_copy(update={"depths": rows})
    return add_sizes(table, model) if model else table


def find_words(table: DepthTable, held: Collection[int], model: ModelPlan | None = None) -> dict[str, int]:
    """Find the numbers of small, medium and large, as far as there are such; arguments as those of `complete_table`.

    Both ends are found where a single size beats all others.
    """
    whole = complete_table(table, held, model)
    dial, can_tell = list_dial(whole), has_shells(whole) and whole.is_comparable
    ends = {SMALL: dial[0], LARGE: dial[-1]} if can_tell and len(whole.depths) > 1 else {}
    return ends | {word: number for number, word in name_words(whole).items()}


def name_sizes(table: DepthTable, held: Collection[int], model: ModelPlan) -> SizeNames:
    """Name the sizes of a network in every way in which users may write them; arguments as those of `find_words`."""
    return SizeNames(tuple(sorted(held)), model.depth, model.shell_channels, find_words(table, held, model))
