"""Options of a prediction. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from unetpp.errors import UsageError
from unetpp.infer.prediction import AUTO, MEAN, Uncertainty

Depth = int | Literal["all", "all and mean", "mean", "auto"] | None
MAX_DROP = 0.3
"""Points (hundredths) of Dice that `depth="auto"` may lose against the deepest head."""


_NOT_RECORDED = ("depth", "probabilities", "uncertainty")
"""Options that predictions.json has elsewhere, or that only add maps."""


@dataclass(frozen=True)
class PredictOptions:
    """Options of one prediction. Exported files refuse what they cannot do: early exit and disagreement.

    Raises:
        UsageError: no such uncertainty.
    """

    depth: Depth | str = None
    """A depth (also as text: "2"); "all" depths; "mean": the mean of all heads; "all and mean"; "auto": for each tile
    the first depth that is certain; None: the plan's."""
    tta: bool = False
    """Average over mirrored copies (test-time augmentation): 4 times the work in 2D, 8 times in 3D."""
    probabilities: bool = False
    """Return the probability of every class."""
    uncertainty: Uncertainty | None = None
    """Return the entropy of the probabilities, or the disagreement between heads, folds and mirrored copies."""

    def __post_init__(self) -> None:
        if isinstance(self.depth, str) and self.depth.isdecimal():
            object.__setattr__(self, "depth", int(self.depth))
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

    def choose_depths(self, heads: Sequence[int], default: int, networks: int = 1) -> tuple[int, ...]:
        """Resolve `depth` to heads, and check that the other options go with them.

        Args:
            heads: depths at which the model has a head, shallowest first.
            default: depth for None.
            networks: number of networks that are averaged (folds).

        Returns:
            Depths; MEAN and AUTO stand for "mean" and "auto".

        Raises:
            UsageError: there is no such head, or only one prediction, which cannot disagree with itself.
        """
        words = {"all": tuple(heads), "mean": (MEAN,), "auto": (AUTO,)}
        words["all and mean"] = (*heads, MEAN) if len(heads) > 1 else tuple(heads)
        wanted = default if self.depth is None else self.depth
        depths = words.get(wanted) if isinstance(wanted, str) else (wanted,) if wanted in heads else None
        if depths is None:
            expected = f'"all", "mean", "auto" or one of {list(heads)}, the depths at which this model has a head'
            raise UsageError("depth", repr(self.depth), expected, "Choose one of them.")
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
            action = "Choose a deeper head, a run of several folds, `tta=True`, or the entropy."
            raise UsageError("uncertainty", got, "several predictions to compare", action)


DEFAULTS = PredictOptions()
