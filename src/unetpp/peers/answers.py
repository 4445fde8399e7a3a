"""What a state_dict does not say: what the user said with --set, else the peer's default, else a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unetpp.errors import UsageError
from unetpp.model.timm_models import CUT
from unetpp.plan import ModelPlan, Normalization, Plan
from unetpp.settings import parse_settings

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in 0..1: with these most encoders were trained."""


class Answers:
    """Collects what is asked while a checkpoint is read, so that all that is missing is named at once.

    Args:
        settings: {"section.key": value} of the user.

    Attributes:
        assumed: the defaults that were taken, by dotted name, each with its reason.

    Raises:
        PlanError: a setting that is unknown or that its field does not take.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.given = parse_settings(Plan, settings)
        self.assumed: dict[str, str] = {}
        self._asked: set[str] = set()
        self._open: dict[str, str] = {}

    def is_given(self, key: str) -> bool:
        return key in self.given

    def need(self, key: str, hint: str, among: Sequence[Any] = ()) -> Any:
        """What the user said; where nothing, `settle` will ask for it, and None stands in until then."""
        self._asked.add(key)
        if key not in self.given:
            self._open[key] = hint
            return None
        return self._among(key, among)

    def default(self, key: str, value: Any, reason: str, among: Sequence[Any] = ()) -> Any:
        """What the user said, else `value`, which the result then tells with the reason."""
        self._asked.add(key)
        self.assume(key, reason)
        return self._among(key, among) if key in self.given else value

    def assume(self, key: str, reason: str) -> None:
        """To be told in the result, unless the user said it."""
        if key not in self.given:
            self.assumed[key] = reason

    def settle(self, where: str) -> None:
        """Called when all is asked, before any of it is used.

        Raises:
            UsageError: something is missing, all of it by name.
        """
        if self._open:
            missing = "\n  ".join(f"--set {key}=...   {hint}" for key, hint in self._open.items())
            raise UsageError(
                f"{where}: got a checkpoint that does not say all that the network is; expected also, in the same command:\n  {missing}"
            )

    def require_agreement(self, model: ModelPlan) -> None:
        """Called with the network that was read: what the user said of a field that the checkpoint decides has to be what it says.

        Raises:
            UsageError: it says otherwise, every such field by name.
        """
        found = model.model_dump(mode="json")
        alike = {"encoder": (found["encoder"] or "").partition(CUT)[0]}  # the model of timm, wherever a peer cuts it
        said = {
            key.removeprefix("model."): value
            for key, value in self.given.items()
            if key.startswith("model.") and key not in self._asked
        }
        wrong = [
            f"--set model.{name}: got {value!r}; expected {found[name]!r}"
            for name, value in said.items()
            if value not in (found[name], alike.get(name, found[name]))
        ]
        if wrong:
            raise UsageError(
                f"{'; '.join(wrong)}, as the network of this checkpoint has it. Leave it out, or check the file."
            )

    def _among(self, key: str, among: Sequence[Any]) -> Any:
        value = self.given[key]
        if among and value not in among:
            raise UsageError(f"--set {key}: got {value!r}; expected one of {list(among)}, as the peer has no other.")
        return value


def per_case(channels: int) -> list[dict[str, Any]]:
    """Each channel of each image to mean 0 and deviation 1."""
    return [Normalization().model_dump()] * channels


def scaled(means: Sequence[float], stds: Sequence[float]) -> list[dict[str, Any]]:
    """(value - mean) / std, each channel with its numbers."""
    return [
        Normalization(per_case=False, mean=mean, std=std).model_dump() for mean, std in zip(means, stds, strict=True)
    ]


def normalization_hint(channels: int) -> str:
    """What to write for --set data.normalization."""
    examples = {
        "values / 255": '{"per_case":false,"std":255}',
        "each image to mean 0, deviation 1": '{"per_case":true}',
    }
    texts = [f"'data.normalization=[{','.join([entry] * channels)}]' for {what}" for what, entry in examples.items()]
    return f"how the intensities were scaled in training, an entry for each channel: {', '.join(texts)}"
