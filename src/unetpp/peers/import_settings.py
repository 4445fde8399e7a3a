"""Settings of an import: values that a state_dict does not determine, from the user or from the peer's defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unetpp.errors import PlanError, Problem, UsageError
from unetpp.model.timm_models import CUT
from unetpp.plan import ModelPlan, Normalization, Plan
from unetpp.settings import parse_settings

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of red, green and blue in 0..1, with which most encoders were trained."""


class ImportSettings:
    """Settings that a checkpoint needs; a single error names all that are missing.

    Args:
        given: settings of the user, `{"section.key": value}`.

    Attributes:
        given: the same, parsed.
        assumed: the reason for each default that was used, by dotted name.

    Raises:
        PlanError: an unknown key, or a value that its field does not take.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = parse_settings(Plan, given)
        self.assumed: dict[str, str] = {}
        self._read: set[str] = set()
        self._missing: dict[str, str] = {}

    def require(self, key: str, hint: str, choices: Sequence[Any] = ()) -> Any:
        """Return a setting that only the user can know.

        Args:
            key: dotted name of the setting.
            hint: what it means, for the error that asks for it.
            choices: values that the peer has; empty: all.

        Returns:
            The value; None if it is missing, until `require_complete` raises.

        Raises:
            UsageError: a value that is not one of `choices`.
        """
        if key not in self.given:
            self._missing[key] = hint
        return self._look_up(key, None, choices)

    def require_normalization(self, channels: int, alternative: str = "") -> None:
        """Require `data.normalization`, for a network whose checkpoint and library do not define it."""
        by_255, per_image = (
            f"`data.normalization='[{','.join([entry] * channels)}]'`"
            for entry in ('{"per_case":false,"std":255}', '{"per_case":true}')
        )
        self.require(
            "data.normalization",
            f"how intensities were scaled in training, one entry for each channel: {by_255} for values / 255, "
            f"{per_image} for each image to mean 0 and standard deviation 1{alternative}",
        )

    def get(self, key: str, default: Any, reason: str, choices: Sequence[Any] = ()) -> Any:
        """Return a setting that has a default.

        Args:
            key: dotted name of the setting.
            default: its value unless the user gave one.
            reason: why this is the default; the result of the import reports it.
            choices: values that the peer has; empty: all.

        Returns:
            The user's value, else `default`.

        Raises:
            UsageError: a value that is not one of `choices`.
        """
        self.assume(key, reason)
        return self._look_up(key, default, choices)

    def assume(self, key: str, reason: str) -> None:
        """Report an assumption about a setting in the result, unless the user gave the setting."""
        if key not in self.given:
            self.assumed[key] = reason

    def require_complete(self, path: Path) -> None:
        """Raise UsageError if a required setting is missing, with the names of all of them."""
        if self._missing:
            hints = "".join(f"\n  `{key}=...`   {hint}" for key, hint in self._missing.items())
            raise UsageError(
                path,
                "a checkpoint that does not determine the whole network",
                "more settings in the same call",
                f"Add:{hints}",
                setting=next(iter(self._missing)),
            )

    def require_agreement(self, model: ModelPlan) -> None:
        """Raise PlanError if the user gave a field of the network another value than the checkpoint determines."""
        found = model.model_dump(mode="json")
        uncut = {**found, "encoder": (found["encoder"] or "").partition(CUT)[0]}
        fields = {key: key.removeprefix("model.") for key in self.given if key.startswith("model.")}
        problems = [
            Problem(
                key, repr(self.given[key]), f"{found[name]!r}, as in the checkpoint", "Leave it out, or check the file."
            )
            for key, name in fields.items()
            if key not in self._read and self.given[key] not in (found[name], uncut[name])
        ]
        if problems:
            raise PlanError.of(problems, "; ".join(map(str, problems)))

    def _look_up(self, key: str, default: Any, choices: Sequence[Any]) -> Any:
        self._read.add(key)
        value = self.given.get(key, default)
        if key in self.given and choices and value not in choices:
            raise UsageError(key, repr(value), f"one of {list(choices)}", "The peer has no other.")
        return value


def normalize_with(means: Sequence[float], stds: Sequence[float]) -> list[Normalization]:
    """Return the normalization (value - mean) / std of each channel, with fixed numbers."""
    return [Normalization(per_case=False, mean=mean, std=std) for mean, std in zip(means, stds, strict=True)]
