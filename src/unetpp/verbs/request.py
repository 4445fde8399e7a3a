"""Settings that the user requests, as arguments of a verb or as `section.key=value`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from unetpp.data_plan import Resolution
from unetpp.errors import UsageError
from unetpp.plan import Plan, ReadPlan
from unetpp.settings import parse_settings, validate
from unetpp.verbs.arguments import Epochs, Minutes

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class Request:
    """Settings that the user requests for a plan."""

    minutes: float | None
    """Minutes for each fold."""
    epochs: int | None
    settings: dict[str, Any]
    """{"section.key": value}, without the two lengths."""
    adds: bool = False
    """The length is added to finished folds; their plan stays as it is."""
    vram_gb: float | None = None
    """Memory in GB of the GPU that is planned for; None: that of the device."""

    def as_settings(self) -> dict[str, Any]:
        """Return all of them as settings of an existing plan."""
        if self.adds:
            return self.settings
        minutes = {} if self.minutes is None else {"train.minutes": self.minutes}
        epochs = {} if self.epochs is None else {"train.epochs": self.epochs, "train.minutes": None}
        return {**minutes, **epochs, **self.settings}


def read_request(
    minutes: Minutes | None,
    epochs: Epochs | None,
    values: Mapping[str, Any] | Sequence[str] | None,
    seed: int | None = None,
    resolution: Resolution | None = None,
    vram_gb: float | None = None,
) -> Request:
    """Collect the settings from the arguments of a verb; a length may be an argument or one of `values`.

    Args:
        minutes: length in minutes; "+10" adds to finished folds.
        epochs: length in epochs; "+5" adds to finished folds.
        values: settings, as `read_settings` takes them.
        seed: seed of the training.
        resolution: the setting `data.resolution`.
        vram_gb: memory in GB of the GPU to plan for.

    Returns:
        The settings; of the two lengths at most one.

    Raises:
        UsageError: both lengths, a length out of range, or a text that is not a setting.
        ModelFileError: weights of an encoder that are no file.
        PlanError: a length that is not a number.
    """
    adds = str(minutes).startswith("+") or str(epochs).startswith("+")
    minutes, epochs = _read_length("minutes", minutes, float), _read_length("epochs", epochs, int)
    settings = read_settings(values) | ({} if seed is None else {"train.seed": seed})
    settings |= {} if resolution is None else {"data.resolution": resolution}
    parsed = parse_settings(Plan, settings)  # each by itself, before any file is read
    if weights := parsed.get("model.encoder_weights"):
        from unetpp.model.encoder_weights import require_source

        require_source(weights)
    given = {key: settings.pop(key) for key in list(settings) if key in ("train.minutes", "train.epochs")}
    lengths = parse_settings(Plan, given)
    minutes, epochs = lengths.get("train.minutes", minutes), lengths.get("train.epochs", epochs)
    if minutes is not None and epochs is not None:
        where = f"`minutes={minutes:g}` and `epochs={epochs}`"
        raise UsageError(where, "both", "one of them", "Leave one out.", setting="epochs")
    if minutes is not None and not 0 < minutes < float("inf"):
        raise UsageError("minutes", f"{minutes:g}", "a number above 0, such as 20")
    if epochs is not None and epochs < 1:
        raise UsageError("epochs", str(epochs), "1 or more")
    return Request(minutes, epochs, settings, adds, _read_vram(vram_gb))


def _read_vram(value: object) -> float | None:
    """Read the memory of a GPU; raises UsageError for what is no number above 0."""
    if value is None:
        return None
    try:
        number = 0.0 if isinstance(value, bool) else float(str(value))
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise UsageError("vram_gb", repr(value), "the memory of a GPU in GB, a number above 0, such as 24")
    return number


def _read_length(name: str, value: Any, kind: type[_Number]) -> _Number | None:
    """Read a length, which may be a text such as "+10"; raises UsageError for other texts."""
    if not isinstance(value, str):
        found: _Number | None = value
        return found
    try:
        return kind(value)
    except ValueError:
        whole = "a whole number" if kind is int else "a number"
        raise UsageError(name, repr(value), f"{whole}, or +10 to train a finished run longer") from None


def read_settings(values: Mapping[str, Any] | Sequence[str] | None) -> dict[str, Any]:
    """Read settings from a dictionary or from texts `section.key=value`; raises UsageError for other texts."""
    if values is None or isinstance(values, Mapping):
        return dict(values or {})
    settings = {}
    for pair in [values] if isinstance(values, str) else values:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError("set", repr(pair), "section.key=value, such as train.batch=4")
        settings[key.strip()] = value.strip()
    return settings


def read_reading(settings: Mapping[str, Any]) -> ReadPlan:
    """Take from the settings of the user those that say how files are read; raises PlanError for a wrong value."""
    parsed = parse_settings(Plan, settings)
    given = {name: parsed[f"data.{name}"] for name in ReadPlan.model_fields if f"data.{name}" in parsed}
    return validate(ReadPlan, given)
