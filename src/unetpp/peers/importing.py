"""Conversion of a peer's checkpoint into a model file: recognized, completed by settings, written and read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from unetpp.data.preprocess import RGB_CHANNELS
from unetpp.errors import ModelFileError, UsageError
from unetpp.files import write_atomically
from unetpp.model.file import load_model, save_model
from unetpp.model_notes import Notes
from unetpp.peers import monai, nested_unet, nnunet_v1, own, pms, smp, unet_version
from unetpp.peers.checkpoint import find_checkpoint, read_checkpoint
from unetpp.peers.import_settings import ImportSettings
from unetpp.peers.transfer import Peer, PeerNetwork, Source, add_background, transfer
from unetpp.plan import LARGEST_TILE, Plan
from unetpp.results import Imported

PEERS: dict[str, Peer] = {
    each.PEER.name: each.PEER for each in (smp, monai, nested_unet, unet_version, pms, nnunet_v1, own)
}


def import_file(checkpoint: Path, out: Path, peer: str | None, settings: Mapping[str, Any]) -> Imported:
    """Write a model file that predicts what a peer's network predicts.

    Args:
        checkpoint: file with its state_dict, or a folder of `save_pretrained`.
        out: model file to write.
        peer: a name of `PEERS`; None: recognized by the names of the tensors.
        settings: what a state_dict does not determine, `{"section.key": value}`.

    Returns:
        Which tensors were used, and which were not, and the settings that were assumed.

    Raises:
        ModelFileError: the checkpoint cannot be read, or is no peer's.
        UsageError: no such peer, or settings that are missing (all of them are named) or do not fit.
        WriteError: the file could not be written; what was at `out` is intact.
    """
    if peer is not None and peer not in PEERS:
        raise UsageError("from_", repr(peer), f"one of {', '.join(PEERS)}")
    file, decided = find_checkpoint(checkpoint), ImportSettings(settings)
    tensors = read_checkpoint(file)
    found, weights, ignored = convert(tensors, peer, file, decided)
    plan = make_plan(found, decided, checkpoint.stem)
    if len(plan.data.outputs) > found.model.out_channels:
        weights = add_background(weights)
    notes = Notes(imported_from=found.title, ignored=ignored, assumed=decided.assumed)
    with write_atomically(out) as temporary:
        save_model(temporary, weights, plan, notes)
        _, header = load_model(temporary)  # proves that the file is whole and its weights fit its plan
    used = len(tensors) - len(ignored)
    return Imported(out, found.title, plan, header.parameters, used, ignored, decided.assumed)


def convert(
    tensors: Mapping[str, Tensor], peer: str | None, path: Path, settings: ImportSettings
) -> tuple[PeerNetwork, dict[str, Tensor], dict[str, str]]:
    """Convert a peer's state_dict to ours.

    Args:
        tensors: the state_dict.
        peer: a name of `PEERS`; None: recognized by the names of the tensors.
        path: its file, for errors and for files in the same folder.
        settings: what a state_dict does not determine.

    Returns:
        The peer's network, the weights of ours, and the reason for each tensor that is ignored.

    Raises:
        ModelFileError: tensors of no peer, or of another network.
        UsageError: settings that are missing (all of them are named) or do not fit.
    """
    reader, prefix = _recognize(tensors, peer, path)
    inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    reason = f"outside the network, whose tensors begin with {prefix!r}"
    outside = {name: reason for name in tensors if not name.startswith(prefix)}
    source = Source(path, inside)
    network = reader.read(source, settings)
    settings.require_complete(path)
    settings.require_agreement(network.model)
    weights, ignored = transfer(network, source)
    return network, weights, outside | ignored


def make_plan(peer: PeerNetwork, settings: ImportSettings, name: str) -> Plan:
    """Make a complete plan around a peer's network; what describes its training matters only to a new training.

    Args:
        peer: the network.
        settings: what the user gave; defaults that are taken here are added to `assumed`.
        name: name of the plan.

    Raises:
        UsageError: names of classes or channels that are too few or too many.
        PlanError: a setting that does not fit.
    """
    model, given = peer.model, settings.given
    regions = given.get("data.regions") or ()
    values = sorted({value for region in regions for value in region["values"]})
    classes = _name_region_classes(peer, settings, values) if regions else _name_classes(peer, settings)
    tile = peer.data.get("predict.tile") or settings.get(
        "predict.tile",
        [LARGEST_TILE[model.dims]] * model.dims,
        "not in the checkpoint; best the size it was trained on",
    )
    fields = {
        "data.channels": _name_channels(model.in_channels),
        "data.label_values": [0, *values] if regions else list(range(len(classes))),
        **peer.data,
        **given,
        "data.dims": model.dims,
        "data.classes": classes,
    }
    channels = len(fields["data.channels"])
    if channels != model.in_channels:
        expected = f"{model.in_channels}, one for each channel that the network takes"
        raise UsageError("data.channels", f"{channels} names", expected)
    sections: dict[str, Any] = {
        "name": name,
        "data": {key.removeprefix("data."): value for key, value in fields.items() if key.startswith("data.")},
        "model": model.model_dump() | {"out_channels": len(regions or classes), "preset": peer.title},
        "train": {"patch": tile, "batch": 2, "steps_per_epoch": 100, "epochs": 100},
        "predict": {"tile": tile, "depth": max(model.list_sizes())},
        "reasons": {"model.preset": f"read from a checkpoint of {peer.title}", **settings.assumed},
    }
    decided = {key: value for key, value in given.items() if not key.startswith("model.")}
    return Plan.from_dict(sections, "").changed(decided)


def _recognize(tensors: Mapping[str, Tensor], wanted: str | None, path: Path) -> tuple[Peer, str]:
    """Return the library of a state_dict, and the prefix that a wrapper put before the names of its tensors."""
    candidates = [PEERS[wanted]] if wanted else list(PEERS.values())
    marked = [
        (peer.name, name.removesuffix(mark))
        for peer in candidates
        for mark in peer.marks
        for name in tensors
        if name == mark or name.endswith(f".{mark}")
    ]
    found = [(PEERS[name], prefix) for name, prefix in dict.fromkeys(marked)]
    if not found:
        some = ", ".join(list(tensors)[:3])
        expected = f"a checkpoint of one of {', '.join(PEERS)}"
        if wanted:
            expected = f"one of {wanted}, which has {' or '.join(candidates[0].marks)}"
        action = f"Check the file{' and `from_`' if wanted else ''}."
        raise ModelFileError(path, f"a state_dict of another network ({some}, ...)", expected, action)
    if len(found) > 1:
        got = f"{len(found)} networks, whose tensors begin with {', '.join(repr(prefix) for _, prefix in found)}"
        raise ModelFileError(path, got, "one", "Save the state_dict of one of them by itself.")
    return found[0]


def _name_classes(peer: PeerNetwork, settings: ImportSettings) -> Sequence[str]:
    """Return the names of the classes; one more than the peer has channels: the first is a background of logit 0."""
    outputs = peer.model.out_channels
    usual = outputs + (peer.sigmoids or outputs == 1)
    names = ["foreground"] if usual == 2 else [f"class {number}" for number in range(1, usual)]
    if outputs == 1:
        reason = "one channel with a sigmoid, the same as a softmax with a background of logit 0"
    elif peer.sigmoids:
        reason = (
            "each channel is a foreground class with a sigmoid; a background of logit 0 comes before them. "
            f"Name {outputs} classes if these are all, with a softmax"
        )
    else:
        reason = (
            "each channel is a class, background first, with a softmax. "
            f"Name {outputs + 1} classes if each is a foreground class with a sigmoid"
        )
    classes: Sequence[str] = settings.get("data.classes", ["background", *names], reason)
    counts = (2,) if outputs == 1 else (outputs, outputs + 1)
    if len(classes) not in counts:
        expected = f"{' or '.join(map(str, counts))}, background first: the checkpoint has {outputs} output channels"
        raise UsageError("data.classes", f"{len(classes)} names", expected)
    return classes


def _name_region_classes(peer: PeerNetwork, settings: ImportSettings, values: Sequence[int]) -> Sequence[str]:
    """Return the names of the classes that regions are made of; raises UsageError unless each channel is a region."""
    regions, outputs = settings.given["data.regions"], peer.model.out_channels
    if len(regions) != outputs:
        expected = f"{outputs}, one for each output channel of the network, with a sigmoid"
        raise UsageError("data.regions", f"{len(regions)} regions", expected, "Change them.")
    names = ["background", *(f"class_{value}" for value in values)]
    classes: Sequence[str] = settings.get("data.classes", names, "the values that regions are made of")
    return classes


def _name_channels(count: int) -> Sequence[str]:
    return {1: ("image",), 3: RGB_CHANNELS}.get(count) or [f"channel {number}" for number in range(1, count + 1)]
