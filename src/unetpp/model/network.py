"""The nested network. It receives finished layers and holds no numbers; `model.build` makes the layers.

    X[i,0] = H(D(X[i-1,0]))                                  X[0,0] = H(image)
    X[i,j] = H([skips of X[i,j], U(X[i+1,j-1])])             j > 0

An encoder may compute some of the X[i,0] instead.

Any input size works. Down-sampling rounds sizes up (or down) and up-sampling is cropped (or padded) to its skip, so
that a node depends on the sizes of its own and the next level alone: therefore a pruned network equals the full one at
every size. (A network with an encoder first pads the image to a multiple of `divisor`; so does one pruned from it.)
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from unetpp.dial import name_sizes
from unetpp.errors import UsageError
from unetpp.labels.coding_torch import CLASSES
from unetpp.measured import DepthTable
from unetpp.model.blocks import Chain, FrozenStatistics, crop_or_pad, round_up
from unetpp.model.deferred import Deferred, Parts, defer_concatenation
from unetpp.model.encoders import Encoder
from unetpp.model.grid import Grid, Node, node_key, order_inputs
from unetpp.model.incremental import IncrementalForward, ShellForward
from unetpp.model.pruned_plan import prune_plan
from unetpp.model.shell_parts import ShellParts
from unetpp.model.shells import cut_layers, separate_shells
from unetpp.plan import ModelPlan
from unetpp.size_names import SizeNames, choose_setting
from unetpp.sizes import Size, find_size


class HeadOutputs(NamedTuple):
    """Logits of several heads, shallowest first.

    Iterate over `outputs.logits`: the outputs themselves are a tuple of two, (depths, logits).
    """

    depths: tuple[int, ...]
    logits: tuple[Tensor, ...]
    """One (B, out_channels, *spatial) tensor for each depth, all at full resolution."""

    def at(self, depth: int) -> Tensor:
        """Logits of the head at `depth`, with shells of the size of that number: (B, out_channels, *spatial).

        Raises:
            UsageError: there is none.
        """
        if depth not in self.depths:
            raise UsageError("depth", repr(depth), f"one of {list(self.depths)}, the numbers of these heads")
        return self.logits[self.depths.index(depth)]

    def mean_probabilities(self) -> Tensor:
        """Mean of the probabilities of all heads (the accurate mode of the papers): (B, out_channels, *spatial)."""
        return torch.stack([CLASSES.to_probabilities(logits) for logits in self.logits]).mean(dim=0)


class HeadFusion(nn.Module):
    """Combines the logits of heads 1..d into the output at depth d: their mean, or a learned weighted sum."""

    def __init__(self, heads: int, learned: bool) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.full((heads,), 1 / heads)) if learned else None

    def forward(self, logits: Sequence[Tensor]) -> list[Tensor]:
        if self.weights is None:
            return [torch.stack(list(logits[: d + 1])).mean(dim=0) for d in range(len(logits))]
        return list(
            torch.stack([weight * each for weight, each in zip(self.weights, logits, strict=False)]).cumsum(dim=0)
        )

    def prune(self, heads: int) -> HeadFusion:
        """Make the fusion of the first `heads` heads."""
        fusion = HeadFusion(heads, learned=self.weights is not None)
        if self.weights is not None:
            fusion.weights = nn.Parameter(self.weights.detach()[:heads].clone())
        return fusion


Concatenate = Callable[[nn.Module, Tensor, Sequence[Tensor], str, bool], Parts]
"""Signature of `concatenate_inputs`."""


def concatenate_inputs(up: nn.Module, below: Tensor, skips: Sequence[Tensor], order: str, recompute: bool) -> Parts:
    """Concatenate the skips of a node and the up-sampled node below, cropped or padded to the size of the skips.

    Args:
        up: up-samples `below`.
        below: output of the node one level below, (B, C, *spatial).
        skips: outputs of nodes of the same level, (B, C, *spatial) each; may be empty.
        order: see `order_inputs`.
        recompute: up-sample again in the backward pass instead of storing the result.

    Returns:
        The input of the node, (B, sum of channels, *spatial); separate while gradients are recorded.
    """
    size = skips[0].shape[2:] if skips else None

    def upsample(below: Tensor) -> Tensor:
        larger: Tensor = up(below)
        return larger if size is None else crop_or_pad(larger, size)

    return defer_concatenation(order_inputs(skips, Deferred(upsample, below) if recompute else upsample(below), order))


class UNetPlusPlus(nn.Module):
    """UNet++ and its family (Zhou et al. 2018, 2019), in 2D and 3D.

    Args:
        grid: which nodes exist, and the sources of each.
        nodes: the block H of each node (i, j) that the encoder does not compute.
        downs: D into level 1..depth; an identity where the encoder computes the level.
        ups: U into each node (i, j) with j > 0.
        heads: the head on X[0, d], for each d that has one; with shells the head of each size, see `unetpp.sizes`.
        shells: number of nested widths; see `model.shells`.
        encoder: computes X[i, 0] for some levels i.
        fusion: combines the logits of the heads; None: the output at depth d is that of head d.
        concat: order of the inputs of a node, see `order_inputs`.
        divisor: pad the image to a multiple of this along each axis.
        output_stride: voxels of the image for one voxel of level 0; logits are interpolated to the size of the image.
        concatenate: concatenates the inputs of a node with j > 0.

    Attributes:
        head_depths: depths at which the network can predict; with shells the numbers of its sizes.
        shells: number of nested widths.
        checkpointing: activation checkpointing: recompute in the backward pass instead of storing. "cheap":
            normalizations, activations and up-sampling; True: whole nodes. (A compiled network decides for itself.)
        plan: settings of `build_model`.
        absent_weights: number of zeros in the dense layers of a network that was cut from one with shells and loaded
            from a file: they are no weights.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        nodes: Mapping[Node, nn.Module],
        downs: Sequence[nn.Module],
        ups: Mapping[Node, nn.Module],
        heads: Mapping[int, nn.Module],
        shells: int = 1,
        encoder: Encoder | None = None,
        fusion: HeadFusion | None = None,
        concat: str = "skips_up",
        divisor: Sequence[int] | None = None,
        output_stride: int = 1,
        concatenate: Concatenate = concatenate_inputs,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.head_depths = tuple(sorted(heads))
        self.encoder = encoder
        self.nodes = nn.ModuleDict({node_key(node): block for node, block in nodes.items()})
        self.downs = nn.ModuleList(downs)
        self.ups = nn.ModuleDict({node_key(node): up for node, up in ups.items()})
        self.heads = nn.ModuleDict({str(d): head for d, head in heads.items()})
        self.shells = shells
        if shells > 1:
            self.register_load_state_dict_post_hook(separate_shells)  # type: ignore[no-untyped-call]
        self.fusion = fusion
        self.concat = concat
        self.divisor = tuple(divisor) if divisor else None
        self.output_stride = output_stride
        self.concatenate = concatenate
        self.parts = ShellParts()
        self._checkpointing: bool | str = False
        self.plan: ModelPlan | None = None
        self.absent_weights = 0

    @property
    def checkpointing(self) -> bool | str:
        """Activation checkpointing: False, "cheap" or True."""
        return self._checkpointing

    @checkpointing.setter
    def checkpointing(self, value: bool | str) -> None:
        if value not in (False, True, "cheap"):
            raise UsageError("checkpointing", repr(value), 'False, "cheap" or True', "Change it.")
        self._checkpointing = value
        for module in self.modules():
            if isinstance(module, Chain):
                module.recompute = value == "cheap"

    @property
    def depth(self) -> int:
        """L, the number of down-samplings."""
        return self.grid.depth

    @property
    def sizes(self) -> SizeNames:
        """The sizes at which the network predicts, and their names."""
        if self.plan is not None:
            return name_sizes(DepthTable(), self.head_depths, self.plan)
        channels = tuple(range(1, self.shells + 1))  # nothing else is known of widths
        return SizeNames(self.head_depths, self.depth, channels)

    def forward(
        self, x: Tensor, depth: int | str | None = None, heads: bool = False, size: int | str | None = None
    ) -> Tensor | HeadOutputs:
        """Logits at the resolution of the input.

        Train with `heads=True`: without, only the deepest head learns (`losses.supervision.DeepSupervisionLoss`).

        Args:
            x: (B, in_channels, *spatial), any size.
            depth: compute only what the head at this depth needs, with shells that of the size of this number
                (`head_depths`); None: the largest size.
            heads: return the logits of every head up to `depth`, as HeadOutputs.
            size: instead of `depth`: the name of a size, such as "4x8" or "small", or a depth of the whole width.

        Returns:
            Logits (B, out_channels, *spatial), or HeadOutputs.

        Raises:
            UsageError: there is no such size, or `x` is no such tensor.
        """
        if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):  # type: ignore[attr-defined,no-untyped-call]
            self._check_input(x)
        number = self._resolve_size(depth, size)
        wanted = self._heads_to(number) if heads or self.fusion else (number,)
        shells = self._count_shells(number)
        tops = sorted({self._size(each).depth for each in wanted})
        image, extent = self._pad(x), x.shape[2:]
        outputs: dict[Node, Tensor] = {}
        if self.encoder is not None:
            outputs = {(level, 0): feature for level, feature in self.encoder(image, tops[-1]).items()}
        nodes = self.grid.needed(tops)
        last_use = {source: node for node in nodes for source in self.grid.sources(node)} | {
            (0, top): None for top in tops
        }
        for node in nodes:
            if node not in outputs:
                outputs[node] = self._run_node(node, image, outputs, shells)
            for source in self.grid.sources(node):
                if last_use[source] == node:
                    del outputs[source]  # free its memory for the nodes that follow
        logits = self._run_heads(wanted, outputs)
        if self.fusion is not None:
            logits = self.fusion(logits)
        logits = [self._resize_to_image(each, extent) for each in logits]
        return HeadOutputs(wanted, tuple(logits)) if heads else logits[-1]

    def _run_heads(self, wanted: Sequence[int], outputs: Mapping[Node, Tensor]) -> list[Tensor]:
        """Compute the logits of heads; in training those on one node together, which saves passes over its output."""
        if not self.training or self.shells == 1:
            return [self._run_head(each, outputs) for each in wanted]
        logits: dict[int, Tensor] = {}
        for top in {self._size(each).depth for each in wanted}:
            numbers = [each for each in wanted if self._size(each).depth == top]
            logits |= zip(numbers, self._run_together(numbers, outputs[0, top]), strict=True)
        return [logits[each] for each in wanted]

    def _run_together(self, numbers: Sequence[int], output: Tensor) -> Sequence[Tensor]:
        """Compute the logits of heads on one node as those of one head, with zeros for shells that a head lacks."""
        heads: list[Any] = [self.heads[str(number)] for number in numbers]
        same = (0, 0) * (output.ndim - 2)
        weights = [functional.pad(each.weight, (*same, 0, output.shape[1] - each.in_channels)) for each in heads]
        joint = {"weight": torch.cat(weights)}
        if heads[0].bias is not None:
            joint["bias"] = torch.cat([each.bias for each in heads])
        logits: Tensor = torch.func.functional_call(heads[-1], joint, output)
        parts: Sequence[Tensor] = logits.contiguous().split([each.out_channels for each in heads], 1)  # dense ones
        return parts

    def _run_head(self, number: int, outputs: Mapping[Node, Tensor]) -> Tensor:
        """Compute the logits of a head from the output of its node: an inner one reads its shells alone."""
        head, output = self.heads[str(number)], outputs[0, self._size(number).depth]
        logits: Tensor = head(output if self.shells == 1 else output[:, : head.in_channels])
        return logits

    def _count_shells(self, number: int) -> int:
        """Count the shells that a forward pass to a size computes: in training all of them, masked, which is faster."""
        is_whole = self.training or torch.is_grad_enabled() or torch.compiler.is_compiling()
        return self.shells if is_whole else self._size(number).shell + 1

    def _size(self, number: int) -> Size:
        return find_size(number, self.depth)

    def _check_input(self, x: Any) -> None:
        plan = self.plan
        if not isinstance(x, Tensor) or plan is None:
            if isinstance(x, Tensor) or type(x).__module__.startswith("torch."):  # such as a proxy of torch.fx
                return
            action = "Use `torch.from_numpy(x).float()`, or `unetpp.save` and `unetpp.load`, which predict arrays."
            raise UsageError("x", type(x).__name__, "a tensor (B, C, *spatial)", action)
        expected = f"floating-point numbers of shape (B, {plan.in_channels}, {', '.join('ZYX'[-plan.dims :])})"
        if x.ndim != plan.dims + 2 or x.shape[1] != plan.in_channels:
            lacks_batch = x.ndim == plan.dims + 1 and x.shape[0] == plan.in_channels
            action = "Add the axis of the batch: `x[None]`." if lacks_batch else "Change its shape, or `in_channels`."
        elif not x.is_floating_point():
            action = "Use `x.float()`, scaled as you scale all images."
        elif x.dtype == torch.float64 != next(self.parameters()).dtype:  # as torch.from_numpy makes
            expected, action = expected.replace("numbers", "numbers of 32 bits or fewer"), "Use `x.float()`."
        else:
            return
        raise UsageError("x", f"{x.dtype} of shape {tuple(x.shape)}", expected, action)

    def start_forward(
        self, x: Tensor, outputs: Mapping[Any, Tensor] | None = None
    ) -> IncrementalForward | ShellForward:
        """Start an incremental forward pass: one head at a time, only for images that have not stopped (early exit).

        Args:
            x: images (B, in_channels, *spatial).
            outputs: continue the pass that has these `outputs`.

        Raises:
            UsageError: the network combines the logits of its heads.
        """
        if self.fusion is not None:
            got = '"auto" for a network that combines the logits of its heads (`model.fusion`)'
            raise UsageError("depth", got, "a network whose heads predict independently", "Name a depth.")
        return IncrementalForward(self, x, outputs) if self.shells == 1 else ShellForward(self, x, outputs)

    def prune(
        self, depth: int | str | None = None, keep_heads: bool = False, size: int | str | None = None
    ) -> UNetPlusPlus:
        """Make a smaller, independent network with the output of `self(x, depth)` (Zhou et al. 2018, section 3.3).

        Nodes and channels that it does not need are left out.

        Args:
            depth: depth of the head to predict with, with shells the number of its size (`head_depths`); None: the
                largest.
            keep_heads: keep the heads of smaller sizes and the nodes that they need, too.
            size: instead of `depth`: the name of a size, such as "4x8" or "small", or a depth of the whole width.

        Raises:
            UsageError: there is no such size.
        """
        number = self._resolve_size(depth, size)
        chosen = self._size(number)
        kept = {each: self._size(each) for each in (self._heads_to(number) if keep_heads or self.fusion else (number,))}
        shells = chosen.shell + 1 if keep_heads else 1
        needed = self.grid.needed({each.depth for each in kept.values()})
        pruned = UNetPlusPlus(
            self.grid.at_depth(chosen.depth),
            nodes={node: self.nodes[node_key(node)] for node in needed if node_key(node) in self.nodes},
            downs=list(self.downs)[: chosen.depth],
            ups={node: self.ups[node_key(node)] for node in needed if node[1] > 0},
            heads={
                Size(each.depth, each.shell if keep_heads else 0).number(chosen.depth): self.heads[str(number)]
                for number, each in kept.items()
            },
            shells=shells,
            encoder=self.encoder.prune(chosen.depth) if self.encoder else None,
            fusion=self.fusion.prune(len(kept)) if self.fusion else None,
            concat=self.concat,
            divisor=self.divisor,
            output_stride=self.output_stride,
            concatenate=self.concatenate,
        )
        pruned = copy.deepcopy(pruned)
        pruned.plan = self.plan and prune_plan(self.plan, number, keep_heads)
        if self.shells > 1:
            cut_layers(pruned, chosen.shell, keep_heads)
        pruned.checkpointing = self.checkpointing
        return pruned

    def _run_node(self, node: Node, image: Tensor, outputs: Mapping[Node, Tensor], shells: int) -> Tensor:
        received = (outputs[source] for source in self.grid.sources(node))
        if self.checkpointing and self.checkpointing != "cheap" and self.training and not torch.compiler.is_compiling():
            output: Tensor = checkpoint(
                self._compute_node,
                node,
                shells,
                image,
                *received,
                use_reentrant=False,
                context_fn=lambda: (contextlib.nullcontext(), FrozenStatistics(self)),
            )
            return output
        return self._compute_node(node, shells, image, *received)

    def _compute_node(self, node: Node, shells: int, image: Tensor, *received: Tensor) -> Tensor:
        """Compute some shells of one node from those of its sources, in the order of `Grid.sources`."""
        i, j = node

        def part(module: nn.Module) -> nn.Module:
            return module if shells == self.shells else self.parts.find(module, (shells,))

        inputs: Parts
        if j == 0:
            inputs = part(self.downs[i - 1])(*received) if i > 0 else image
        else:
            *skips, below = received
            recompute = self.checkpointing == "cheap" and self.training and not torch.compiler.is_compiling()
            inputs = self.concatenate(part(self.ups[node_key(node)]), below, skips, self.concat, recompute)
        output: Tensor = part(self.nodes[node_key(node)])(inputs)
        return output

    def _pad(self, x: Tensor) -> Tensor:
        """Pad the image by its last values to a multiple of the divisor."""
        return x if self.divisor is None else crop_or_pad(x, round_up(x.shape[2:], self.divisor))

    def _resize_to_image(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        if self.output_stride > 1:
            logits = functional.interpolate(
                logits, scale_factor=self.output_stride, mode="bilinear" if logits.ndim == 4 else "trilinear"
            )
        return crop_or_pad(logits, size)

    def _heads_to(self, number: int) -> tuple[int, ...]:
        size = self._size(number)
        return tuple(each for each in self.head_depths if size.holds(self._size(each)))

    def _resolve_size(self, depth: int | str | None, size: int | str | None = None) -> int:
        """Return the number of a size: `depth` is one, or as `size` the name of one."""
        if depth is None and size is None:
            return self.head_depths[-1]
        if size is None and depth in self.head_depths:
            return int(depth)
        setting, sizes = choose_setting(depth, size), self.sizes
        name = depth if isinstance(depth, str) else size
        if name is not None:
            return sizes.require(name, setting, "this network")
        expected = f"{sizes.describe()}, the {sizes.noun}s of this network"
        if self.shells > 1:
            expected += f", or one of their numbers {list(self.head_depths)} (`head_depths`)"
        raise UsageError(setting, repr(depth), expected, "Change it.")
