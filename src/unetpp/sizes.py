"""Sizes of a network nested in depth and in width, as numbers.

A head predicts at a depth, from a shell of channels (`model.shells`). Size number `shell * L + depth` of a network of
depth L is the head on X[0, depth] that reads the shells up to number `shell`, 0 the innermost. In a network of one
width, the numbers are the depths. The numbers of the inner sizes stay the same when a network grows by a shell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Size(NamedTuple):
    """Part of a network that predicts by itself."""

    depth: int
    shell: int = 0
    """Outermost shell, from 0."""

    def number(self, depth: int) -> int:
        """Return the number of this size in a network of a depth."""
        return self.shell * depth + self.depth

    def holds(self, other: Size) -> bool:
        """Tell whether this size computes another."""
        return other.depth <= self.depth and other.shell <= self.shell


def find_size(number: int, depth: int) -> Size:
    """Return the size of a number in a network of a depth."""
    shell, above = divmod(number - 1, depth)
    return Size(above + 1, shell)


def list_sizes(depths: Iterable[int], shells: int, depth: int) -> dict[int, Size]:
    """List the sizes of a network by number.

    Args:
        depths: depths of its heads.
        shells: number of shells.
        depth: of the whole network.
    """
    sizes = [Size(each, shell) for shell in range(shells) for each in sorted(depths)]
    return {size.number(depth): size for size in sizes}


def name_size(number: int, depth: int, channels: Sequence[int]) -> str:
    """Name the size of a number: its depth, and where there are shells its channels of level 0, as in "4x8".

    Args:
        number: of the size.
        depth: of the whole network.
        channels: channels of level 0 up to and with each shell.
    """
    size = find_size(number, depth)
    return str(size.depth) if len(channels) == 1 else f"{size.depth}x{channels[size.shell]}"


def parse_size(name: str, depth: int, channels: Sequence[int]) -> int | None:
    """Find the number of a named size; a depth alone, as in "4", is of the whole width. None: no such name.

    Args:
        name: as `name_size` writes it, or a depth.
        depth: of the whole network.
        channels: channels of level 0 up to and with each shell.
    """
    names = {str(each): Size(each, len(channels) - 1).number(depth) for each in range(1, depth + 1)}
    names |= {name_size(number, depth, channels): number for number in range(1, depth * len(channels) + 1)}
    return names.get(name.strip().lower())


def list_growth(numbers: Sequence[int], depth: int) -> tuple[int, ...]:
    """List the sizes that a prediction grows through, each holding the one before it.

    First the depths of the innermost shell, then the outer shells at full depth: context costs less than channels.

    Args:
        numbers: of the sizes of a network, rising.
        depth: of the network.
    """
    sizes = {number: find_size(number, depth) for number in numbers}
    return tuple(number for number, size in sizes.items() if size.shell == 0 or size.depth == depth)
