"""The section `data` of a plan: what the files are, and how they are brought to the network's grid and scale."""

from __future__ import annotations

from collections.abc import Sequence

from unetpp.model.encoders import encoder_statistics
from unetpp.plan import DataPlan, Normalization, TrainingRange
from unetpp.planning import geometry_rules, intensity_rules
from unetpp.planning.choice import Choice, Decisions
from unetpp.planning.fingerprint import Fingerprint
from unetpp.settings import validate


def plan_data(f: Fingerprint, decisions: Decisions) -> DataPlan:
    """Plan the section `data`, with the reason of each choice.

    Args:
        f: the data set.
        decisions: what the user set; reasons are noted there.
    """
    choose = decisions.choose
    orientation = None
    if f.dims == 3:
        orientation = choose(
            "data.orientation", geometry_rules.choose_orientation(f.orientation, f.without_orientation)
        )
    target = geometry_rules.choose_spacing(f.median_spacing_mm, f.spacing_varies, f.fine_spacing_mm, f.median_shape)
    spacing = choose("data.spacing_mm", target)
    typical = (f.median_spacing_mm, f.smallest_spacing_mm, f.largest_spacing_mm)
    resampling = choose("data.resampling", geometry_rules.choose_resampling(f.spacing_varies, typical, spacing))
    normalization = _choose_normalization(f, decisions)
    _note_reasons(f, decisions, normalization)
    fields = {
        "dims": 2 if f.dims == 2 else 3,
        "channels": tuple(channel.name for channel in f.channels),
        "classes": f.classes,
        "label_values": f.label_values,
        "labels": f.labels,
        "regions": decisions.settings.get("data.regions", f.regions),
        "orientation": orientation,
        "spacing_mm": spacing,
        "resampling": resampling,
        "voxel_mm": spacing or f.median_spacing_mm,
        "normalization": tuple(choice.value for choice in normalization),
        "training_range": _find_range(f, [choice.value for choice in normalization]),
    }
    return validate(DataPlan, fields)


def _note_reasons(f: Fingerprint, decisions: Decisions, normalization: Sequence[Choice[Normalization]]) -> None:
    """Give reasons for what is not chosen but found."""
    reasons = {choice.reason for choice in normalization}
    by_channel = (
        choice.reason if choice.reason.startswith(f"{each.name}:") else f"{each.name}: {choice.reason}"
        for each, choice in zip(f.channels, normalization, strict=True)
    )
    grey = " (grey images are repeated)" if any("grey" in note for note in f.notes) else ""
    values = f"the values {', '.join(map(str, f.label_values))} in the label files"
    decisions.reasons |= {
        "data.normalization": reasons.pop() if len(reasons) == 1 else "; ".join(by_channel),
        "data.dims": "images" if f.dims == 2 else "volumes",
        "data.channels": f"{len(f.channels)} in the files{grey}",
        "data.classes": "objects are foreground" if f.labels.kind == "objects" else values,
        "data.labels": f.label_meaning,
        **({"data.regions": "declared by the data set, in the order of writing"} if f.regions else {}),
    }


def _choose_normalization(f: Fingerprint, decisions: Decisions) -> list[Choice[Normalization]]:
    """Return one for each channel: that of pretrained weights if they fit these images, else that of the data."""
    channels, encoder = f.channels, decisions.settings.get("model.encoder")
    given = decisions.settings.get("data.normalization")
    if given and len(given) == len(channels):
        return [Choice(Normalization(**each), "") for each in given]
    if decisions.settings.get("model.encoder_weights") and encoder not in (None, "resenc"):
        names, largest = [channel.name for channel in channels], max(channel.maximum for channel in channels)
        if intensity_rules.matches_pretraining(names, largest):
            return intensity_rules.choose_encoder_normalization(encoder, *encoder_statistics(encoder))
    return [
        intensity_rules.choose_normalization(
            each.name,
            (each.foreground_low, each.foreground_high, each.foreground_mean, each.foreground_std),
            f.inside,
        )
        for each in channels
    ]


def _find_range(f: Fingerprint, normalization: Sequence[Normalization]) -> TrainingRange | None:
    """Return what the images are like, with intensities on the scale on which each channel is normalized."""
    levels = [
        (channel.standardized_inside if plan.nonzero else channel.standardized) if plan.per_case else channel.levels
        for channel, plan in zip(f.channels, normalization, strict=True)
    ]
    known = [each for each in levels if each is not None]
    if len(known) < len(levels) or not f.file_channels:
        return None
    return TrainingRange(
        smallest_mm=f.smallest_spacing_mm,
        largest_mm=f.largest_spacing_mm,
        channels=f.file_channels,
        intensities=tuple(known),
    )
