"""A peer's checkpoint as a model file of ours: recognised, asked about, filled in, written, and read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from unetpp.data.preprocess import RGB_CHANNELS
from unetpp.errors import ModelFileError, UsageError
from unetpp.files import write_atomically
from unetpp.measured import Notes
from unetpp.model.file import load_model, save_model
from unetpp.peers import monai, nested_unet, nnunet_v1, pms, smp, unet_version
from unetpp.peers.answers import Answers
from unetpp.peers.checkpoint import read_checkpoint
from unetpp.peers.transfer import Peer, PeerNetwork, Source, transfer, with_background
from unetpp.plan import LARGEST_TILE, Plan
from unetpp.results import Imported

PEERS: dict[str, Peer] = {
    peer.name: peer for peer in (smp.PEER, monai.PEER, nested_unet.PEER, unet_version.PEER, pms.PEER, nnunet_v1.PEER)
}


def import_file(checkpoint: Path, out: Path, peer: str | None, settings: Mapping[str, Any]) -> Imported:
    """Write a model file that predicts what a peer's network predicts.

    Args:
        checkpoint: its state_dict.
        out: where the model file goes.
        peer: a name of `PEERS`; None: recognised by the names of the tensors.
        settings: {"section.key": value}: what a state_dict cannot say.

    Raises:
        ModelFileError: the checkpoint cannot be read, or is no peer's.
        UsageError: no such peer, or something has to be said by `settings`, all of it by name.
        WriteError: the file could not be written; what was at `out` is intact.
    """
    if peer is not None and peer not in PEERS:
        raise UsageError("from_", repr(peer), f"one of {', '.join(PEERS)}")
    answers = Answers(settings)
    reader, source, beside = recognise(read_checkpoint(checkpoint), peer, checkpoint)
    found = reader.read(source, answers)
    answers.require_agreement(found.model)
    weights, ignored = transfer(found, source)
    plan = plan_of(found, answers, checkpoint.stem)
    if plan.data.num_classes > found.model.out_channels:
        weights = with_background(weights)
    notes = Notes(imported_from=found.title, ignored=beside | ignored, assumed=answers.assumed)
    with write_atomically(out) as aside:
        save_model(aside, weights, plan, notes)
        _, header = load_model(aside)  # what was written is whole, and its weights fit its plan
    return Imported(
        out, found.title, plan, header.parameters, len(source.tensors) - len(ignored), beside | ignored, answers.assumed
    )


def recognise(tensors: Mapping[str, Tensor], wanted: str | None, path: Path) -> tuple[Peer, Source, dict[str, str]]:
    """Whose checkpoint it is, its network's tensors without the prefix of a wrapper, and those beside the network, each with the reason.

    Raises:
        ModelFileError: no peer's, or the networks of several.
    """
    candidates = [PEERS[wanted]] if wanted else list(PEERS.values())
    found = [
        (peer, name.removesuffix(mark))
        for peer in candidates
        for mark in peer.marks
        for name in tensors
        if name == mark or name.endswith(f".{mark}")
    ]
    if not found:
        whose = (
            f"{wanted}'s, which has {' or '.join(candidates[0].marks)}"
            if wanted
            else f"a checkpoint of one of {', '.join(PEERS)}"
        )
        some = ", ".join(list(tensors)[:3])
        raise ModelFileError(
            f"{path}: got a state_dict of another network ({some}, ...); expected {whose}. Check the file{' and --from' if wanted else ''}."
        )
    if len(found) > 1:
        places = ", ".join(repr(prefix) for _, prefix in found)
        raise ModelFileError(
            f"{path}: got {len(found)} networks, whose tensors begin with {places}; expected one. Save the state_dict of one of them by itself."
        )
    peer, prefix = found[0]
    inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    beside = {
        name: f"beside the network, whose tensors begin with {prefix!r}"
        for name in tensors
        if not name.startswith(prefix)
    }
    return peer, Source(path, inside), beside


def plan_of(peer: PeerNetwork, answers: Answers, name: str) -> Plan:
    """A whole plan around a peer's network; what is not known of its training has values that only a new training would read."""
    model, given = peer.model, answers.given
    classes = _classes(peer, answers)
    channels = given.get("data.channels") or peer.data.get("data.channels") or _channels(model.in_channels)
    normalization = given.get("data.normalization") or peer.data["data.normalization"]
    tile = peer.data.get("predict.tile") or answers.default(
        "predict.tile",
        [LARGEST_TILE[model.dims]] * model.dims,
        "not said by the checkpoint; best the size it was trained on",
    )
    values: dict[str, Any] = {
        "name": name,
        "data": {
            "dims": model.dims,
            "channels": channels,
            "classes": classes,
            "label_values": given.get("data.label_values")
            or peer.data.get("data.label_values")
            or list(range(len(classes))),
            "spacing_mm": peer.data.get("data.spacing_mm"),
            "normalization": normalization,
        },
        "model": model.model_dump()
        | {"out_channels": len(classes), "preset": peer.title, "in_channels": len(channels)},
        "train": {"patch": tile, "batch": 2, "steps_per_epoch": 100, "epochs": 100},
        "predict": {"tile": tile, "depth": model.depth},
        "reasons": {"model.preset": f"read from a checkpoint of {peer.title}", **answers.assumed},
    }
    if len(channels) != model.in_channels:
        raise UsageError(
            f"--set data.channels: got {len(channels)} names; expected {model.in_channels}, one for each channel that the checkpoint takes."
        )
    decided = {key: value for key, value in given.items() if not key.startswith("model.")}
    return Plan.from_dict(values, "--set").changed(decided)


def _classes(peer: PeerNetwork, answers: Answers) -> Sequence[str]:
    """Names of the classes. Where there is one more than the peer has channels, the first is a background of logit 0."""
    outputs = peer.model.out_channels
    added = peer.sigmoids or outputs == 1
    usual = outputs + 1 if added else outputs
    names = (
        ["background", "foreground"]
        if usual == 2
        else ["background", *(f"class {number}" for number in range(1, usual))]
    )
    classes: Sequence[str] = answers.default("data.classes", names, _meaning(outputs, added))
    counts = [2] if outputs == 1 else [outputs, outputs + 1]
    if len(classes) not in counts:
        raise UsageError(
            f"--set data.classes: got {len(classes)} names; expected {' or '.join(map(str, counts))}, background first: the checkpoint has {outputs} output channels."
        )
    return classes


def _meaning(outputs: int, added: bool) -> str:
    if outputs == 1:
        return (
            "one channel through a sigmoid; a background of logit 0 beside it makes a soft-max of two that is the same"
        )
    if added:
        return f"each channel is a foreground class through a sigmoid; a background of logit 0 comes before them. Name {outputs} classes if they are all, through a soft-max"
    return f"each channel is a class, background first, through a soft-max. Name {outputs + 1} classes if each is a foreground class through a sigmoid"


def _channels(count: int) -> Sequence[str]:
    return (
        RGB_CHANNELS
        if count == 3
        else ("image",)
        if count == 1
        else tuple(f"channel {number}" for number in range(1, count + 1))
    )
