"""What makes a trained network fast on a CUDA device, without a compiler: norms inside of convolutions, one kernel where torch has three, and one launch for all of them."""

from __future__ import annotations

import copy
import functools
import importlib.util
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from unetpp.model.blocks import CONVOLVE, BatchNorm, ConvUnit, GroupNorm, Parts, joined
from unetpp.model.encoders import Encoder
from unetpp.model.execution import DTYPES
from unetpp.model.grid import Node
from unetpp.model.network import Growth, HeadOutputs, UNetPlusPlus

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
WARM_UPS = 3
"""Passes before a graph is recorded, in which libraries choose their kernels."""


class CudaNetwork:
    """Answers as the network that it is made from does in evaluation mode, without gradients.

    Each wish (a depth, or all heads up to one) at each size of image is recorded at its second use as a CUDA graph, and replayed from then on.

    Args:
        network: on a CUDA device.
        precision: bf16, fp16 or fp32.
    """

    def __init__(self, network: UNetPlusPlus, precision: str) -> None:
        self._network = with_fewer_passes(network, DTYPES.get(precision, torch.float32))
        self._dtype = DTYPES.get(precision, torch.float32)
        self._layout = LAYOUTS[next(weight.ndim for weight in network.parameters() if weight.ndim > 3)]
        self._recorded: dict[tuple[Any, ...], _Recorded | None] = {}

    def grow(self, x: Tensor) -> Growth:
        """A forward pass in steps."""
        return self._network.grow(self._placed(x))

    @torch.inference_mode()
    def __call__(self, x: Tensor, depth: int | None = None, heads: bool = False) -> Tensor | HeadOutputs:
        wish = (depth, heads, x.shape)
        if wish not in self._recorded:  # a size that comes once is not worth a graph
            self._recorded[wish] = None
            return self._run(self._placed(x), depth, heads)
        recorded = self._recorded[wish] = self._recorded[wish] or _Recorded(lambda image: self._run(image, depth, heads), self._placed(x))
        logits = recorded.replayed(x)
        return HeadOutputs(recorded.depths, logits) if heads else logits[0]

    def _run(self, x: Tensor, depth: int | None, heads: bool) -> Tensor | HeadOutputs:
        with torch.autocast("cuda", enabled=False):
            return self._network(x, depth=depth, heads=heads)

    def _placed(self, x: Tensor) -> Tensor:
        return x.to(self._dtype, memory_format=self._layout)


class _Recorded:
    """A CUDA graph of one wish at one size, and the memory that it works in."""

    def __init__(self, run: Callable[[Tensor], Tensor | HeadOutputs], image: Tensor) -> None:
        self._image = image.clone(memory_format=torch.preserve_format)
        stream = torch.cuda.Stream(image.device)
        stream.wait_stream(torch.cuda.current_stream(image.device))
        with torch.cuda.stream(stream), torch.backends.cudnn.flags(enabled=True, benchmark=True):
            for _ in range(WARM_UPS):
                run(self._image)
        torch.cuda.current_stream(image.device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph), torch.backends.cudnn.flags(enabled=True, benchmark=True):
            found = run(self._image)
        self.depths = found.depths if isinstance(found, HeadOutputs) else ()
        self._logits = found.logits if isinstance(found, HeadOutputs) else (found,)

    def replayed(self, image: Tensor) -> tuple[Tensor, ...]:
        self._image.copy_(image)
        self._graph.replay()
        return tuple(logits.clone() for logits in self._logits)


def with_fewer_passes(network: UNetPlusPlus, dtype: torch.dtype) -> UNetPlusPlus:
    """A copy that answers the same in less time: batch normalisations lie in the weights of convolutions, other ones take their activation with them."""
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    if copied.encoder is not None:
        _fold_traced(copied.encoder, copied.depth)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, ConvUnit):
                setattr(module, name, _Unit(child))
    if has_kernels() and next(copied.parameters()).is_cuda:
        copied.__class__ = _Network
    return copied.to(dtype).to(memory_format=LAYOUTS[next(weight.ndim for weight in copied.parameters() if weight.ndim > 3)])


@functools.cache
def has_kernels() -> bool:
    """Whether Triton is there."""
    return importlib.util.find_spec("triton") is not None


class _Network(UNetPlusPlus):
    """What a node receives is up-sampled into the place where it is concatenated."""

    def _computed(self, node: Node, image: Tensor, *received: Tensor) -> Tensor:
        i, j = node
        if j == 0 or len(received) == 1:
            return super()._computed(node, image, *received)
        from unetpp.infer.kernels import Part, concatenated

        *same_level, below = received
        parts = [Part(each, each.shape[1]) for each in same_level]
        up = _part(self.ups[f"x_{i}_{j}"], below)
        parts = [*parts, up] if self.concat == "skips_up" else [up, *(reversed(parts) if self.concat == "up_skips_reversed" else parts)]
        return cast(Tensor, self.nodes[f"x_{i}_{j}"](concatenated(parts, same_level[0].shape[2:])))


def _part(up: nn.Module, below: Tensor) -> Any:
    """What `up` makes of `below`, if it can be left to the concatenation in part."""
    from unetpp.infer.kernels import Part

    if isinstance(up, nn.Sequential):
        for module in list(up)[:-1]:
            below = module(below)
        up = up[-1]
    if isinstance(up, nn.Upsample) and up.mode == "nearest":
        return Part(below, below.shape[1], _factors(up, below.ndim - 2))
    if isinstance(up, (nn.ConvTranspose2d, nn.ConvTranspose3d)) and up.stride == up.kernel_size and not any(up.padding):
        rows = below.movedim(1, -1).reshape(-1, below.shape[1])
        # (in, out, *factors) -> (in, factors in row order, out)
        weight = up.weight.flatten(2).movedim(1, -1).flatten(1)
        found = rows @ weight if up.bias is None else torch.addmm(up.bias.repeat(weight.shape[1] // len(up.bias)), rows, weight)
        channels = up.weight.shape[1]
        return Part(found.reshape(len(below), *below.shape[2:], -1).movedim(-1, 1), channels, tuple(up.stride), shuffled=True)
    larger = up(below)
    return Part(larger, larger.shape[1])


def _factors(up: nn.Upsample, dims: int) -> tuple[int, ...]:
    factors: Any = up.scale_factor
    return tuple(int(factor) for factor in (factors if isinstance(factors, tuple) else (factors,) * dims))


class _Unit(nn.Module):
    """A ConvUnit in evaluation mode, in as few passes over memory as there can be."""

    def __init__(self, unit: ConvUnit) -> None:
        super().__init__()
        self.conv: Any = unit.conv
        self.norm, self.activation = unit.norm, unit.activation
        if isinstance(self.norm, BatchNorm):
            _fold(self.conv, self.norm.norm)
            self.norm = nn.Identity()
        self.slope = _slope(self.activation)

    def forward(self, parts: Parts) -> Tensor:
        x, conv, norm = joined(parts), self.conv, self.norm
        if isinstance(norm, nn.Identity):
            return _convolved(conv, x, self.activation)
        if isinstance(norm, GroupNorm) and self.slope is not None and x.is_cuda and has_kernels():
            from unetpp.infer.kernels import normalised

            return normalised(_without_bias(conv, x), norm.groups or conv.out_channels, norm.weight, norm.bias, norm.eps, self.slope, conv.bias)
        return cast(Tensor, self.activation(norm(conv(x))))


def _slope(activation: nn.Module) -> float | None:
    """Of a leaky ReLU below 0, of which ReLU and nothing are two; None of others."""
    if isinstance(activation, nn.Identity):
        return 1.0
    if isinstance(activation, nn.ReLU):
        return 0.0
    return float(activation.negative_slope) if isinstance(activation, nn.LeakyReLU) else None


def _without_bias(conv: Any, x: Tensor) -> Tensor:
    """(torch adds the bias of a convolution in a pass of its own on a GPU.)"""
    return CONVOLVE[x.ndim - 2](x, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)


def _convolved(conv: Any, x: Tensor, activation: nn.Module) -> Tensor:
    """Convolution, bias and activation, in one kernel where cuDNN has it, else in two."""
    slope = _slope(activation)
    if not x.is_cuda or conv.bias is None or slope is None or x.dtype == torch.float32:
        return cast(Tensor, activation(conv(x)))
    if slope == 0:
        return torch.cudnn_convolution_relu(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    if not has_kernels():
        return cast(Tensor, activation(conv(x)))
    from unetpp.infer.kernels import rectified

    return rectified(_without_bias(conv, x), conv.bias, slope)


def _fold(conv: Any, norm: Any) -> None:
    weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    conv.weight, conv.bias = weight.requires_grad_(False), bias.requires_grad_(False)


class _ConvReLU(nn.Module):
    """A convolution of an encoder and the activation behind it."""

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.conv = conv
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return _convolved(self.conv, x, self.activation)


def _fold_traced(encoder: Encoder, depth: int) -> None:
    """Batch normalisations into the convolutions that they follow, and ReLUs behind them, as one forward pass shows it."""
    body = encoder.body
    names = {module: name for name, module in body.named_modules()}
    given: dict[int, tuple[Tensor, int, nn.Module, nn.Module | None]] = {}
    """Of a tensor: itself, its version, the convolution that it is of, and the norm behind that."""
    folded: dict[nn.Module, nn.Module] = {}
    rectified: dict[nn.Module, nn.Module] = {}

    def known(x: Tensor) -> tuple[nn.Module, nn.Module | None] | None:
        tensor, version, *modules = given.get(id(x), (None, -1, None, None))
        return (modules[0], modules[1]) if tensor is x and version == x._version and modules[0] is not None else None

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found = known(inputs[0])
        if found and found[1] is not None and isinstance(module, nn.ReLU):
            rectified[found[0]] = module

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found = known(inputs[0])
        if isinstance(module, nn.Conv2d):
            given[id(output)] = (output, output._version, module, None)
        elif isinstance(module, nn.BatchNorm2d) and found and found[1] is None:
            folded[found[0]] = module
            if type(module) is nn.BatchNorm2d:  # timm's has an activation of its own
                given[id(output)] = (output, output._version, found[0], module)

    hooks = [module.register_forward_pre_hook(before) for module in names] + [
        module.register_forward_hook(after) for module in names if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))
    ]
    weight = next(encoder.parameters())
    with torch.no_grad():
        encoder(torch.zeros(1, encoder.in_channels, 64, 64, device=weight.device, dtype=weight.dtype), depth)
    for hook in hooks:
        hook.remove()
    for conv, norm in folded.items():
        _fold(conv, norm)
        _replace(body, names[norm], cast(nn.Module, getattr(norm, "act", nn.Identity())))
        if conv in rectified:
            _replace(body, names[conv], _ConvReLU(conv))
            _replace(body, names[rectified[conv]], nn.Identity())


def _replace(body: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(body.get_submodule(parent), last, module)
