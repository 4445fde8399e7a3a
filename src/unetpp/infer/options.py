"""Options of a prediction. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from unetpp.errors import UsageError
from unetpp.infer.prediction import AUTO, MEAN, Uncertainty
from unetpp.size_names import SizeNames, choose_setting

Depth = int | Literal["all", "all and mean", "mean", "auto"] | None
_NOT_RECORDED = ("depth", "size", "probabilities", "uncertainty")
"""Options that predictions.json has elsewhere, or that only add maps."""


@dataclass(frozen=True)
class PredictOptions:
    """Options of one prediction. Exported files refuse what they cannot do: early exit and disagreement.

    Raises:
        UsageError: no such uncertainty, or both a depth and a size.
    """

    depth: Depth | str = None
    """A depth (also as text: "2"), with shells of the whole width; "all" depths; "mean": the mean of all heads; "all
    and mean"; "auto": for each tile the first depth that is certain; None: the plan's."""
    tta: bool = False
    """Average over mirrored copies (test-time augmentation): 4 times the work in 2D, 8 times in 3D."""
    probabilities: bool = False
    """Return the probability of every class."""
    uncertainty: Uncertainty | None = None
    """Return the entropy of the probabilities, or the disagreement between heads, folds and mirrored copies."""
    size: int | str | None = None
    """Instead of `depth`: the name of a size, such as "4x8" or "small", a depth, or one of the words of `depth`."""

    def __post_init__(self) -> None:
        if isinstance(self.depth, str) and self.depth.isdecimal():
            object.__setattr__(self, "depth", int(self.depth))
        choose_setting(self.depth, self.size)
        if self.uncertainty not in (None, *get_args(Uncertainty)):
            expected = " or ".join(get_args(Uncertainty))
            raise UsageError("uncertainty", repr(self.uncertainty), expected, "Choose one of them, or leave it out.")

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the options that are not at their default."""
        return tuple(option.name for option in fields(self) if getattr(self, option.name) != option.default)

    @property
    def recorded(self) -> dict[str, Any]:
        """Options that change a segmentation, apart from the depth, in terms of JSON; defaults are left out."""
        return {name: getattr(self, name) for name in self.changed if name not in _NOT_RECORDED}

    @property
    def setting(self) -> str:
        """Name of the one that was given, for messages: `size` or `depth`."""
        return choose_setting(self.depth, self.size)

    @property
    def wanted(self) -> int | str | None:
        """What was given as `size` or as `depth`."""
        return self.depth if self.size is None else self.size

    def choose_sizes(
        self, sizes: SizeNames, default: int, networks: int = 1, model: str = "this model"
    ) -> tuple[int, ...]:
        """Resolve `size` or `depth` to numbers of sizes, and check that the other options go with them.

        Args:
            sizes: those of the model.
            default: number of the size for None.
            networks: number of networks that are averaged (folds).
            model: its name, for errors.

        Returns:
            Numbers of sizes; MEAN and AUTO stand for "mean" and "auto".

        Raises:
            UsageError: there is no such size, or only one prediction, which cannot disagree with itself.
        """
        heads, wanted = sizes.numbers, self.wanted
        words = {"all": heads, "mean": (MEAN,), "auto": (AUTO,)}
        words["all and mean"] = (*heads, MEAN) if len(heads) > 1 else heads
        number = default if wanted is None else sizes.find(wanted)
        chosen = words.get(str(wanted)) or (() if number is None else (number,))
        if not chosen:
            expected = f'"all", "mean", "auto" or {sizes.describe()}, the {sizes.noun}s of {model}'
            expected += sizes.explain_no_words(wanted)
            raise UsageError(self.setting, repr(wanted), expected, "Choose one of them.")
        if self.uncertainty == "disagreement":
            self._require_several(chosen, sizes, networks)
        return chosen

    def _require_several(self, chosen: Sequence[int], sizes: SizeNames, networks: int) -> None:
        if AUTO in chosen:
            got = f'disagreement with `{self.setting}="auto"`, where not every head is computed'
            raise UsageError("uncertainty", got, f"entropy, or a {sizes.noun}", "Change one of the two.")
        counts = {each: sum(each == MEAN or sizes.holds(each, head) for head in sizes.numbers) for each in chosen}
        fewest = min(chosen, key=lambda each: counts[each])
        if counts[fewest] * networks == 1 and not self.tta:
            name = "the mean" if fewest == MEAN else f"{sizes.noun} {sizes.name(fewest)}"
            got = f"disagreement at {name}, where one head of one network predicts"
            action = "Choose a larger one, a run of several folds, `tta=True`, or the entropy."
            raise UsageError("uncertainty", got, "several predictions to compare", action)


DEFAULTS = PredictOptions()
