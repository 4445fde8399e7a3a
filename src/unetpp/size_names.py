"""Names of the sizes that a model holds, and what users write to choose one.

A size of a network of one width is a depth, and is named so. With shells it is a depth and a width: "4x8".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from unetpp.errors import UsageError
from unetpp.sizes import Size, find_size, name_size, parse_size


@dataclass(frozen=True)
class SizeNames:
    """Sizes of one model, and their names."""

    numbers: tuple[int, ...]
    """Numbers of the sizes, see `unetpp.sizes`, smallest first."""
    depth: int
    """Depth of the whole network."""
    channels: tuple[int, ...] = (1,)
    """Channels of level 0 up to and with each shell."""
    words: Mapping[str, int] = field(default_factory=dict)
    """Other names, such as "small", of some of the sizes."""

    @classmethod
    def of_depths(cls, depths: Iterable[int]) -> SizeNames:
        """Name the sizes of a network of one width."""
        numbers = tuple(depths)
        return cls(numbers, max(numbers))

    @property
    def noun(self) -> str:
        """What a size of this model is called."""
        return "depth" if len(self.channels) == 1 else "size"

    def name(self, number: int) -> int | str:
        """Name a size: a number for a depth, text for a depth and a width."""
        name = name_size(number, self.depth, self.channels)
        return int(name) if len(self.channels) == 1 else name

    def list_names(self) -> list[int | str]:
        """Name all sizes, smallest first."""
        return [self.name(number) for number in self.numbers]

    def describe(self) -> str:
        """List the names of all sizes, with the other names of some."""
        if len(self.channels) == 1:
            return f"one of {self.list_names()}"
        words = {number: f"{word} ({self.name(number)})" for word, number in self.words.items()}
        return f"one of {', '.join(words.get(number, str(self.name(number))) for number in self.numbers)}"

    def find(self, written: int | str) -> int | None:
        """Find the number of a size by what users write: a depth, which is of the whole width, or a name.

        None: no such size.
        """
        text = str(written).strip().lower()
        number = self.words.get(text) or parse_size(text, self.depth, self.channels)
        return number if number in self.numbers else None

    def require(self, written: int | str, setting: str, model: str = "this model") -> int:
        """Find the number of a size.

        Args:
            written: a depth or a name.
            setting: `size` or `depth`, in which it was given.
            model: what holds the sizes, for the error.

        Raises:
            UsageError: no such size.
        """
        number = self.find(written)
        if number is None:
            expected = f"{self.describe()}, the {self.noun}s of {model}{self.explain_no_words(written)}"
            raise UsageError(setting, repr(written), expected, "Change it.")
        return number

    def explain_no_words(self, written: object) -> str:
        """Say why a word such as "small" names no size here; empty for others."""
        if str(written).strip().lower() not in ("small", "medium", "large") or self.words:
            return ""
        if len(self.channels) == 1:
            return "; small, medium and large are sizes of networks with several widths (`model.shells`)"
        return "; which is small shows when all are scored and timed: `unetpp report` on the run"

    def holds(self, number: int, other: int) -> bool:
        """Tell whether a size computes another: one that is neither deeper nor wider, or itself."""
        return find_size(number, self.depth).holds(find_size(other, self.depth))

    def join(self, numbers: Sequence[int]) -> int:
        """Find the smallest size that holds all of these."""
        sizes = [find_size(number, self.depth) for number in numbers]
        return Size(max(size.depth for size in sizes), max(size.shell for size in sizes)).number(self.depth)


def find_noun(names: Iterable[int | str]) -> str:
    """Return what sizes with these names are called: "size", or of one width "depth"."""
    return "size" if any("x" in str(name) for name in names) else "depth"


def choose_setting(depth: int | str | None, size: int | str | None) -> str:
    """Return the name of the one of two settings that is given: `size` or `depth`.

    Raises:
        UsageError: both are given.
    """
    if depth is not None and size is not None:
        action = "Leave one out: `size` names a depth or a depth with a width, `depth` is of the whole width."
        raise UsageError("`depth`, `size`", f"both ({depth} and {size})", "one of them", action, setting="size")
    return "depth" if size is None else "size"


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
