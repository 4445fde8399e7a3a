"""What is asked of a prediction, besides the images. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

from unetpp.errors import UsageError
from unetpp.infer.prediction import AUTO, MEAN, Uncertainty

Depth = int | Literal["all", "all and mean", "mean", "auto"] | None


@dataclass(frozen=True)
class PredictOptions:
    """Options of one prediction. An exported file refuses each that is not at its default, unless it says otherwise.

    Raises:
        UsageError: no such uncertainty.
    """

    depth: Depth | str = None
    """A depth (a number as text is one too); "all" of them; "all and mean": the mean of all heads too; the "mean" of all
    heads; "auto": for each tile the first that is sure; None: the plan's."""
    tta: bool = False
    """Average over mirrored copies: 4 times the work in 2D, 8 times in 3D."""
    probabilities: bool = False
    """Keep the probability of every class."""
    uncertainty: Uncertainty | None = None
    """Keep the entropy of the probabilities, or the disagreement of heads, folds and mirrored copies."""

    def __post_init__(self) -> None:
        if isinstance(self.depth, str) and self.depth.isdecimal():
            object.__setattr__(self, "depth", int(self.depth))
        if self.uncertainty not in (None, *get_args(Uncertainty)):
            raise UsageError("uncertainty", repr(self.uncertainty), " or ".join(get_args(Uncertainty)))

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the options that are not at their default."""
        return tuple(option.name for option in fields(self) if getattr(self, option.name) != option.default)

    def choose_depths(self, heads: Sequence[int], default: int, networks: int = 1) -> tuple[int, ...]:
        """Resolve `depth` to heads, and check that the other options go with them.

        Args:
            heads: the depths at which the model has a head, shallowest first.
            default: the depth that is meant by None.
            networks: how many predict together.

        Returns:
            depths, among which MEAN and AUTO stand for the words.

        Raises:
            UsageError: there is no such head, or only one prediction, which cannot disagree with itself.
        """
        words = {"all": tuple(heads), "mean": (MEAN,), "auto": (AUTO,)}
        words["all and mean"] = (*heads, MEAN) if len(heads) > 1 else tuple(heads)
        wanted = default if self.depth is None else self.depth
        depths = words.get(wanted) if isinstance(wanted, str) else (wanted,) if wanted in heads else None
        if depths is None:
            expected = f'"all", "mean", "auto" or one of {list(heads)}, the depths at which this model has a head'
            raise UsageError("depth", repr(self.depth), expected)
        if self.uncertainty == "disagreement":
            self._require_several(depths, heads, networks)
        return depths

    def _require_several(self, depths: Sequence[int], heads: Sequence[int], networks: int) -> None:
        if AUTO in depths:
            got, expected = 'disagreement with `depth="auto"`, where not every head is computed', "entropy, or a depth"
            raise UsageError("uncertainty", got, expected, "Change one of the two.")
        count = len(heads) if MEAN in depths else sum(head <= min(depths) for head in heads)
        if count * networks == 1 and not self.tta:
            got = f"disagreement at depth {min(depths)}, where one head of one network predicts"
            action = "Take a deeper head, a run of several folds or `tta=True`, or ask for the entropy."
            raise UsageError("uncertainty", got, "several predictions to compare", action)


DEFAULTS = PredictOptions()
