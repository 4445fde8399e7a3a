"""A network that was trained in one's own loop, as a model file: the bridge to prediction, pruning and export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unetpp.errors import UsageError
from unetpp.files import write_atomically
from unetpp.model.build import build_from_plan
from unetpp.model.file import load_model, save_model
from unetpp.model.network import UNetPlusPlus
from unetpp.model_notes import Notes
from unetpp.peers.import_settings import ImportSettings
from unetpp.peers.importing import make_plan
from unetpp.peers.transfer import PeerNetwork, add_background
from unetpp.plan import ModelPlan, Normalization
from unetpp.words import list_some

Scaling = Literal["per_case", "none", "ct"] | tuple[float, float] | Normalization | Mapping[str, Any]
"""How the values of a channel are scaled: a word, (mean, standard deviation), or the fields of `Normalization`."""
WORDS: dict[str, dict[str, Any]] = {
    "per_case": {},
    "none": {"per_case": False},
    "ct": {"per_case": False, "lower": -1000, "upper": 1000, "std": 1000},
}
OWN_LOOP = "own loop"
"""Origin of these networks, in the notes of their files."""
WRAPPERS = ("module", "_orig_mod")
"""Where DistributedDataParallel, AveragedModel and torch.compile have the network."""


def save(
    network: nn.Module,
    path: str | PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    normalization: Scaling | Sequence[Scaling] = "per_case",
    tile: int | Sequence[int] | None = None,
    spacing_mm: Sequence[float] | None = None,
    set: Mapping[str, Any] | None = None,
) -> Path:
    """Write a network of `build_model` as a model file, which `load`, `prune`, `export` and all other verbs take.

    Prediction scales the values of a file as `normalization` says and gives them to the network, so say what your loop
    did. One logit with a sigmoid becomes two with a softmax, which predict the same; logits of regions stay, with
    `set={"data.regions": "whole=1+2,core=2"}`.

    Args:
        network: the trained network; DistributedDataParallel, AveragedModel and torch.compile around it are removed.
        path: model file to write, ending in .safetensors.
        classes: name of each class, background first; None: background and foreground, or class 1, class 2, ...
        channels: name of each channel; None: image, or red, green and blue, which accept gray images too.
        normalization: for all channels, or a list with one for each. "per_case": to mean 0 and standard deviation 1 of
            each image; "none": values as in the file; "ct": from -1000..1000 to -1..1, clipped; (mean, std): subtracted
            and divided by, such as (0, 255); or a `Normalization`.
        tile: size of a tile in voxels, best that of the training patches; None: 256 in 2D, 96 in 3D.
        spacing_mm: voxel size to which images are resampled, in the order of the axes; None: each keeps its own.
        set: other settings of the plan, `{"section.key": value}`, such as {"data.label_values": [0, 255]}.

    Returns:
        The path of the file.

    Raises:
        UsageError: no network of `build_model`, or names and sizes that do not fit it.
        PlanError: a setting that is unknown or does not fit.
        WriteError: the file could not be written; what was at `path` is intact.

    >>> unetpp.save(net, "nuclei.safetensors", classes=["background", "nucleus"], normalization=(0, 255))
    """
    given: Any = network
    if isinstance(given, str | PathLike):
        raise UsageError("network", repr(given), "a network", "The network comes first: `unetpp.save(net, path)`.")
    if not isinstance(path, str | PathLike):
        raise UsageError("path", type(path).__name__, "the name of a model file, ending in .safetensors")
    out = Path(path)
    if out.suffix != ".safetensors":
        raise UsageError("path", repr(str(out)), "the name of a model file, ending in .safetensors")
    inner = _unwrap(network)
    model, weights = _read_network(inner)
    settings: dict[str, Any] = {
        "data.classes": _check_classes(classes, model, (set or {}).get("data.regions")),
        "data.channels": None if channels is None else list(channels),
        "data.normalization": _list_normalizations(normalization, model.in_channels),
        "predict.tile": _list_axes("tile", [tile] * model.dims if isinstance(tile, int) else tile, model.dims),
        "data.spacing_mm": _list_axes("spacing_mm", spacing_mm, model.dims),
    }
    given = {key: value for key, value in settings.items() if value is not None}
    decided = ImportSettings({**given, **(set or {})})
    decided.require_agreement(model)
    plan = make_plan(PeerNetwork(OWN_LOOP, model, {}), decided, out.stem)
    plan = plan.model_copy(update={"model": plan.model.model_copy(update={"preset": model.preset})})
    if len(plan.data.outputs) > model.out_channels:
        weights = add_background(weights)
    with write_atomically(out) as temporary:
        save_model(temporary, weights, plan, Notes(imported_from=OWN_LOOP, assumed=decided.assumed))
        load_model(temporary)  # proves that the file is whole and its weights fit its plan
    return out


def _unwrap(network: nn.Module) -> UNetPlusPlus:
    inner: Any = network
    while not isinstance(inner, UNetPlusPlus):
        inner = next((found for name in WRAPPERS if (found := getattr(inner, name, None)) is not None), None)
        if inner is None:
            action = "For a network of another library, save its state_dict and use `unetpp.import_checkpoint`."
            raise UsageError("network", type(network).__name__, "a network of `unetpp.build_model`", action)
    return inner


def _read_network(network: UNetPlusPlus) -> tuple[ModelPlan, dict[str, Tensor]]:
    """Return the plan and the weights of a network; raises UsageError if they do not belong together."""
    if network.plan is None:
        raise UsageError("network", "a UNetPlusPlus of other parts", "one of `unetpp.build_model`", "Build it so.")
    weights = {name: each.float() if each.is_floating_point() else each for name, each in network.state_dict().items()}
    with torch.device("meta"):
        expected = build_from_plan(network.plan).state_dict()
    shapes = ({name: each.shape for name, each in tensors.items()} for tensors in (weights, expected))
    changed = {name for name, _ in set.symmetric_difference(*(set(each.items()) for each in shapes))}
    if changed:
        got = f"a network that was changed after it was built ({list_some(sorted(changed))})"
        raise UsageError("network", got, "the layers of `unetpp.build_model`", "Set them there, by its arguments.")
    if infinite := [name for name, each in weights.items() if not bool(each.isfinite().all())]:
        got = f"weights that are NaN or infinite ({list_some(infinite)})"
        raise UsageError("network", got, "finite weights", "The training diverged: lower its learning rate.")
    return network.plan, weights


def _check_classes(classes: Sequence[str] | None, model: ModelPlan, regions: object) -> list[str] | None:
    """Check names of classes; how many regions are made of, the plan checks. Raises UsageError."""
    expected = len(classes or ()) if regions else max(2, model.out_channels)
    if classes is not None and (isinstance(classes, str) or len(classes) != expected):
        names = f"{expected} names, background first: the network has `out_channels={model.out_channels}`"
        raise UsageError("classes", repr(classes), names, "Change it.")
    return None if classes is None else list(classes)


def _list_axes(name: str, sizes: Sequence[float] | None, dims: int) -> list[float] | None:
    if sizes is not None and len(sizes) != dims:
        raise UsageError(name, f"{len(sizes)} numbers", f"{dims}, one for each axis of the network", "Change it.")
    return None if sizes is None else list(sizes)


def _list_normalizations(given: Any, channels: int) -> list[Any]:
    entries = given if isinstance(given, list) else [given] * channels
    if len(entries) != channels:
        action = "Give a list with one for each channel, or one for all."
        raise UsageError("normalization", f"{len(entries)} entries", f"{channels}, one for each channel", action)
    return [_read_normalization(entry) for entry in entries]


def _read_normalization(entry: Any) -> Any:
    if isinstance(entry, Normalization):
        return entry.model_dump()
    if isinstance(entry, Mapping):
        return dict(entry)
    if isinstance(entry, str) and entry in WORDS:
        return WORDS[entry]
    if isinstance(entry, tuple) and len(entry) == 2 and all(isinstance(each, (int, float)) for each in entry):
        return {"per_case": False, "mean": entry[0], "std": entry[1]}
    expected = f"{', '.join(map(repr, WORDS))}, (mean, std), or a Normalization"
    raise UsageError("normalization", repr(entry), expected, "For each channel its own: a list of these.")
