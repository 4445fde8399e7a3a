"""A slimmable U-Net without shells (Yu et al. 2019, "Slimmable neural networks"), to compare shells with.

The narrow network is a slice of the wide one: the first channels of every layer, with a head of its own. The wide
network is dense, so its inner channels read the outer ones, and its answer is not a continuation of the narrow one.
Every step trains both widths on the same batch, each in a pass of its own: the sandwich rule (Yu and Huang 2019,
"Universally slimmable networks") for two widths, without distillation. Group normalization has no statistics that would
have to be kept for each width.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.func import functional_call

from unetpp.model.build import build_from_plan
from unetpp.model.network import HeadOutputs, UNetPlusPlus
from unetpp.model.shells import cut_tensor, list_layers
from unetpp.plan import ModelPlan


class Slimmable(nn.Module):
    """Two widths that share their weights; trained and scored as a UNetPlusPlus with two heads.

    Args:
        plan: of a U-Net with two shells, whose channels are the two widths.
    """

    def __init__(self, plan: ModelPlan) -> None:
        super().__init__()
        self.whole = build_from_plan(plan)
        self.head_depths = self.whole.head_depths
        self.shells, self.encoder, self.checkpointing = 1, None, False
        self._narrow = (self.whole.prune(self.head_depths[0]),)  # in a tuple: its weights are not trained, but slices
        layers = {module: name for name, module in self.whole.named_modules()}
        self._channels = {layers[layer]: channels for layer, channels in list_layers(self.whole)}
        for name in self._channels:
            del vars(self.whole.get_submodule(name))["channels"]  # the wide network is dense
        dense = build_from_plan(plan.model_copy(update={"shells": (1.0,)}))
        nodes = {name: values for name, values in dense.state_dict().items() if not name.startswith("heads.")}
        self.whole.load_state_dict(nodes, strict=False)

    @property
    def heads(self) -> nn.ModuleDict:
        return self.whole.heads

    def forward(self, x: Tensor, depth: int | None = None, heads: bool = True) -> HeadOutputs:
        narrow = functional_call(self._narrow[0], dict(self._slice_weights()), (x,))
        return HeadOutputs(self.head_depths, (narrow, self.whole(x)))

    def prune(self, number: int) -> UNetPlusPlus:
        """Make the network of one of the two widths."""
        if number == self.head_depths[-1]:
            return self.whole.prune(number)
        narrow: UNetPlusPlus = self._narrow[0].prune(number)
        narrow.load_state_dict({name: values.detach() for name, values in self._slice_weights()})
        return narrow

    def _slice_weights(self) -> Iterator[tuple[str, Tensor]]:
        for name, _ in self._narrow[0].named_parameters():
            place, _, key = name.rpartition(".")
            weight, channels = self.whole.get_parameter(name), self._channels.get(place)
            yield (
                name,
                weight if channels is None else cut_tensor(self.whole.get_submodule(place), key, weight, channels, 0),
            )
