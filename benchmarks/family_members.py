"""The family of networks that `family.py` compares, on the grid of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from slimmable import Slimmable
from timed_training import Phase
from torch import nn

from unetpp.model.build import build_from_plan, model_plan
from unetpp.model.pruned_plan import prune_plan
from unetpp.model.shells import grow
from unetpp.plan import ModelPlan
from unetpp.sizes import find_size

FIRST_WIDTHS = (8, 16, 32)
REFERENCE = "unet-16"
"""Network beside which steps and tiles are timed."""


@dataclass(frozen=True)
class Member:
    """A network, and how it is trained."""

    name: str
    title: str
    """Name in the table and the picture."""
    model: ModelPlan
    width: int
    """Channels of level 0 of the U-Net that it is compared with."""
    growth: tuple[float, ...] = (1.0,)
    """Fraction of the time at which the phase of each shell ends; one: all shells from the start."""
    slimmable: bool = False
    distillation: bool = False
    """Whether all sizes but the largest learn its answers."""

    def list_phases(self) -> list[Phase]:
        if self.slimmable:
            return [Phase(1.0, self.model, lambda before: Slimmable(self.model))]
        depth, shells = self.model.depth, len(self.model.shells)
        numbers = [(shells - len(self.growth) + place + 1) * depth for place in range(len(self.growth))]
        whole = build_from_plan(self.model)
        return [
            Phase(end, prune_plan(self.model, number, True), partial(_grow, whole, number))
            for end, number in zip(self.growth, numbers, strict=True)
        ]

    def describe_size(self, number: int) -> dict[str, int]:
        """Return depth and width of a head: the channels of level 0, in a network of one width those of its U-Net."""
        size = find_size(number, self.model.depth)
        return {"depth": size.depth, "width": round(self.width * self.model.shells[size.shell])}


def _grow(whole: Any, number: int, before: Any) -> nn.Module:
    """Make the network of a phase: the inner shells of the whole one, with the weights of the phase before."""
    network: nn.Module = whole.prune(number, True)
    if before is not None:
        grow(before, network, whole.depth)
    return network


def list_members(base: ModelPlan) -> dict[str, Member]:
    """List the family by name: the axes, strides and kernels are those of a plan, and so is the largest depth."""
    return {member.name: member for member in [*_list_unets(base), *_list_nested(base), *_list_widths(base)]}


def _list_unets(base: ModelPlan) -> Iterator[Member]:
    for width in FIRST_WIDTHS:
        for depth in range(1, base.depth + 1):
            name, title = f"unet-{width}", f"U-Net {width}"
            if depth < base.depth:
                name, title = f"{name}-depth-{depth}", f"{title}, depth {depth}"
            yield Member(name, title, make_model(base, "unet", width, depth), width)


def _list_nested(base: ModelPlan) -> Iterator[Member]:
    nested, unet = make_model(base, "unet++", 16), make_model(base, "unet", 16)
    factor = (count_parameters(nested) / count_parameters(unet)) ** 0.5
    wide = [round(width * factor) for width in unet.widths]
    yield Member("wide-unet-16", f"wide U-Net {wide[0]}", make_model(base, "unet", 16, widths=wide), 16)
    yield Member("unet+-16", "UNet+ 16", make_model(base, "unet+", 16), 16)
    yield Member("unet_e-16", "U-Net^e 16", make_model(base, "unet_e", 16), 16)
    yield Member("unet++-16", "UNet++ 16", nested, 16)
    yield Member("unet++-16-distilled", "UNet++ 16, distilled", nested, 16, distillation=True)
    yield Member("unet++-32", "UNet++ 32", make_model(base, "unet++", 32), 32)
    inner = {
        f"{level}_{column}": width // 4
        for level, width in enumerate(nested.widths)
        for column in range(1, base.depth - level)
    }
    thin = make_model(base, "unet++", 16, node_widths=inner)
    yield Member("thin-unet++-16", "UNet++ 16, inner nodes 4", thin, 16)


def _list_widths(base: ModelPlan) -> Iterator[Member]:
    for shells in ((8, 16), (8, 16, 32)):
        model, name, title = (
            make_model(base, "unet", shells[-1], shells=shells),
            "-".join(map(str, shells)),
            str(shells),
        )
        yield Member(f"shells-{name}", f"U-Net, shells {title[1:-1]}", model, shells[-1])
        growth = _share_equally(len(shells))
        yield Member(f"shells-{name}-grown", f"U-Net, shells {title[1:-1]}, grown", model, shells[-1], growth)
        late = {"grown75-distilled": (0.75, 1.0)} if len(shells) == 2 else {}
        for kind, share in {"distilled": (1.0,), "grown-distilled": growth, **late}.items():
            told = f"U-Net, shells {title[1:-1]}, {_tell(kind)}"
            yield Member(f"shells-{name}-{kind}", told, model, shells[-1], share, distillation=True)
    for depth in range(1, base.depth):
        model, name = make_model(base, "unet", 16, depth, shells=(8, 16)), f"shells-8-16-depth-{depth}"
        kinds = {"distilled": (1.0,), "grown-distilled": _share_equally(2), "grown75-distilled": (0.75, 1.0)}
        for kind, share in kinds.items():
            told = f"U-Net, shells 8, 16, depth {depth}, {_tell(kind)}"
            yield Member(f"{name}-{kind}", told, model, 16, share, distillation=True)
    nested = make_model(base, "unet++", 16, shells=(8, 16))
    yield Member("unet++-shells-8-16-grown", "UNet++, shells 8, 16, grown", nested, 16, _share_equally(2))
    slimmable = make_model(base, "unet", 16, shells=(8, 16))
    yield Member("slimmable-8-16", "U-Net, slimmable 8, 16", slimmable, 16, slimmable=True)


def _tell(kind: str) -> str:
    return kind.replace("grown75", "grown at 0.75").replace("-", ", ")


def _share_equally(shells: int) -> tuple[float, ...]:
    return tuple((shell + 1) / shells for shell in range(shells))


def make_model(
    base: ModelPlan,
    topology: str,
    first_width: int,
    depth: int | None = None,
    widths: Sequence[int] = (),
    **fields: Any,
) -> ModelPlan:
    """Make the network of a member, with the blocks and norms of the package whatever its default topology is."""
    depth = depth or base.depth
    return model_plan(
        dims=base.dims,
        in_channels=base.in_channels,
        out_channels=base.out_channels,
        depth=depth,
        strides=base.strides[:depth],
        kernel_sizes=base.kernel_sizes[: depth + 1],
        topology=topology,
        widths=widths or [first_width * 2**level for level in range(depth + 1)],
        **{"shells": (1.0,), **fields},
    )


def count_parameters(model: ModelPlan) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in build_from_plan(model).parameters())
