"""A trained network on a CUDA device, without a compiler: folded norms, fused kernels and CUDA graphs."""

from __future__ import annotations

import copy
import functools
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from unetpp.model.blocks import BatchNorm, ConvUnit, GroupNorm
from unetpp.model.deferred import CONVOLVE, Parts, concatenate
from unetpp.model.encoders import Encoder
from unetpp.model.grid import order_inputs
from unetpp.model.network import HeadOutputs, UNetPlusPlus, concatenate_inputs
from unetpp.runtime.cuda_graph import make_stream
from unetpp.runtime.device import CHANNELS_LAST, DTYPES, has_fast_bf16
from unetpp.runtime.runner import ForwardPass

if TYPE_CHECKING:
    from unetpp.runtime.kernels import Part

CAPTURE_AFTER = 8
"""Number of passes of one kind before it is captured: a capture takes as long as some of them."""
WARM_UPS = 3
"""Passes before the capture, in which libraries choose their kernels."""
_PASS_LOCK = threading.Lock()
"""Held from the copy of an image into a graph to the copy of its output, because all graphs share their memory."""


class CudaNetwork:
    """Computes the output of a network in evaluation mode, without gradients.

    Each kind of pass (one depth, or all heads up to one, at one size of image) is captured as a CUDA graph once it has
    run often, and replayed from then on. Threads may share it: passes of one process run one after the other.

    Args:
        network: on a CUDA device.
        precision: fp32, fp16, or bf16 where the hardware is faster with it.
    """

    def __init__(self, network: UNetPlusPlus, precision: str) -> None:
        device = next(network.parameters()).device
        slow = precision == "bf16" and not has_fast_bf16(device)
        self._dtype = torch.float32 if slow else DTYPES.get(precision, torch.float32)
        with torch.cuda.device(device):
            self._network = fuse_operations(network, self._dtype)
        self._passes: Counter[Any] = Counter()
        self._graphs: dict[Any, _GraphedPass] = {}
        self._full = False
        """There is no memory for another graph."""

    def start_forward(self, x: Tensor) -> ForwardPass:
        """Begin an incremental forward pass. (Triton starts kernels on the current device: make it that of `x`.)"""
        return self._network.start_forward(self._convert(x))

    @torch.inference_mode()
    def __call__(self, x: Tensor, depth: int | None = None, heads: bool = False) -> Tensor | HeadOutputs:
        """Compute logits; arguments and result as those of `UNetPlusPlus.forward`."""
        key = (depth, heads, x.shape)
        with _PASS_LOCK, torch.cuda.device(x.get_device()):
            self._passes[key] += 1
            if self._passes[key] > CAPTURE_AFTER and key not in self._graphs and not self._full:
                try:
                    self._graphs[key] = _GraphedPass(lambda image: self._run(image, depth, heads), self._convert(x))
                except torch.OutOfMemoryError:
                    self._full = True
            if key in self._graphs:
                return self._graphs[key].replay(x)
            return self._run(self._convert(x), depth, heads)

    def _run(self, x: Tensor, depth: int | None, heads: bool) -> Tensor | HeadOutputs:
        with torch.autocast("cuda", enabled=False):
            logits: Tensor | HeadOutputs = self._network(x, depth=depth, heads=heads)
        return logits

    def _convert(self, x: Tensor) -> Tensor:
        return x.to(self._dtype, memory_format=CHANNELS_LAST[x.ndim])


class _GraphedPass:
    """One kind of pass as a CUDA graph. (All graphs of a process use the same memory, one after the other.)"""

    def __init__(self, run: Callable[[Tensor], Tensor | HeadOutputs], image: Tensor) -> None:
        self._image = image.clone(memory_format=torch.preserve_format)
        self._graph = torch.cuda.CUDAGraph()
        stream = make_stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    run(self._image)
            with torch.cuda.graph(self._graph, pool=_graph_memory(), stream=stream, capture_error_mode="thread_local"):
                self._logits = run(self._image)

    def replay(self, image: Tensor) -> Tensor | HeadOutputs:
        self._image.copy_(image)
        self._graph.replay()
        if isinstance(self._logits, HeadOutputs):
            return HeadOutputs(self._logits.depths, tuple(logits.clone() for logits in self._logits.logits))
        return self._logits.clone()


@functools.cache
def _graph_memory() -> Any:
    return torch.cuda.graph_pool_handle()


def fuse_operations(network: UNetPlusPlus, dtype: torch.dtype) -> UNetPlusPlus:
    """Copy a network for fast evaluation; same output up to rounding.

    Batch norms are folded into convolutions; other norms and biases are fused with the activation.
    """
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    weight = next(weight for weight in copied.parameters() if weight.ndim > 3)
    kernels = has_kernels(weight.device)
    if copied.encoder is not None:
        _fold_encoder(copied.encoder, copied.depth)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, ConvUnit):
                setattr(module, name, _FusedUnit(child, kernels))
    if kernels:
        copied.concatenate = concatenate_in_place
    return copied.to(dtype).to(memory_format=CHANNELS_LAST[weight.ndim])


@functools.cache
def has_kernels(device: torch.device) -> bool:
    """Return whether Triton works on a device; it needs a C compiler too."""
    if device.type != "cuda":
        return False
    try:
        from unetpp.runtime.kernels import bias_leaky_relu

        bias_leaky_relu(torch.zeros(1, 16, 1, 1, device=device), torch.zeros(16, device=device), 0.0)
    except Exception:  # of any kind
        return False
    return True


def concatenate_in_place(up: nn.Module, below: Tensor, skips: Sequence[Tensor], order: str, recompute: bool) -> Parts:
    """Up-sample the output of the level below directly into the concatenation; see `network.concatenate_inputs`."""
    if not skips:
        return concatenate_inputs(up, below, skips, order, recompute)
    from unetpp.runtime.kernels import Part, upsample_concat

    parts = order_inputs([Part(each, each.shape[1]) for each in skips], _defer_upsampling(up, below), order)
    return upsample_concat(parts, skips[0].shape[2:])


def _defer_upsampling(up: nn.Module, below: Tensor) -> Part:
    """Compute `up(below)` as far as the up-sampling, which is left to the concatenation if it can do it."""
    from unetpp.runtime.kernels import Part

    if isinstance(up, nn.Sequential):
        for module in list(up)[:-1]:
            below = module(below)
        up = up[-1]
    if isinstance(up, nn.Upsample) and up.mode in ("nearest", "bilinear", "trilinear"):
        mode = "nearest" if up.mode == "nearest" else "corners" if up.align_corners else "centers"
        factors: Any = up.scale_factor
        steps = tuple(map(int, factors if isinstance(factors, tuple) else (factors,) * (below.ndim - 2)))
        return Part(below, below.shape[1], steps, mode)
    if isinstance(up, (nn.ConvTranspose2d, nn.ConvTranspose3d)) and up.stride == up.kernel_size and not any(up.padding):
        rows = below.movedim(1, -1).reshape(-1, below.shape[1])
        # (in, out, *factors) -> (in, factors in row order, out)
        weight = up.weight.flatten(2).movedim(1, -1).flatten(1)
        channels, bias = up.weight.shape[1], up.bias
        repeats = weight.shape[1] // channels
        values = rows @ weight if bias is None else torch.addmm(bias.repeat(repeats), rows, weight)
        values = values.reshape(len(below), *below.shape[2:], -1).movedim(-1, 1)
        return Part(values, channels, tuple(up.stride), "shuffled")
    larger = up(below)
    return Part(larger, larger.shape[1])


class _FusedUnit(nn.Module):
    """A ConvUnit in evaluation mode, with as few passes over memory as possible."""

    def __init__(self, unit: ConvUnit, kernels: bool) -> None:
        super().__init__()
        self.conv: Any = unit.conv
        self.norm, self.activation = unit.norm, unit.activation
        self.kernels = kernels
        if isinstance(self.norm, BatchNorm):
            _fold_norm(self.conv, self.norm.norm)
            self.norm = nn.Identity()
        self.slope = _find_slope(self.activation)

    def forward(self, parts: Parts) -> Tensor:
        x, conv, norm = concatenate(parts), self.conv, self.norm
        has_norm = not isinstance(norm, nn.Identity)
        if not has_norm and self.slope == 0:
            return _convolve_relu(conv, x)
        if self.kernels and self.slope is not None:
            from unetpp.runtime.kernels import bias_leaky_relu, group_norm_leaky_relu

            if isinstance(norm, GroupNorm):
                found, groups = _convolve_without_bias(conv, x), norm.groups or conv.out_channels
                return group_norm_leaky_relu(found, groups, norm.weight, norm.bias, norm.eps, self.slope, conv.bias)
            if not has_norm and conv.bias is not None:
                return bias_leaky_relu(_convolve_without_bias(conv, x), conv.bias, self.slope)
        return cast(Tensor, self.activation(norm(conv(x))))


def _find_slope(activation: nn.Module) -> float | None:
    """Return the slope below 0: that of a leaky ReLU, 0 for ReLU, 1 for an identity; None for other activations."""
    if isinstance(activation, nn.Identity):
        return 1.0
    if isinstance(activation, nn.ReLU):
        return 0.0
    return float(activation.negative_slope) if isinstance(activation, nn.LeakyReLU) else None


def _convolve_without_bias(conv: Any, x: Tensor) -> Tensor:
    """Convolve without the bias, which torch adds in a separate pass on a GPU."""
    return CONVOLVE[x.ndim - 2](x, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)


def _convolve_relu(conv: Any, x: Tensor) -> Tensor:
    """Compute convolution, bias and ReLU, in one kernel of cuDNN where it can."""
    if x.is_cuda and conv.bias is not None and x.dtype != torch.float32:
        geometry = conv.stride, conv.padding, conv.dilation
        return torch.cudnn_convolution_relu(x, conv.weight, conv.bias, *geometry, conv.groups)
    return functional.relu(conv(x))


def _fold_norm(conv: Any, norm: Any) -> None:
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    conv.weight, conv.bias = weight.requires_grad_(False), bias.requires_grad_(False)


class _ConvReLU(nn.Module):
    """A convolution of an encoder and the ReLU after it."""

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return _convolve_relu(self.conv, x)


def _fold_encoder(encoder: Encoder, depth: int) -> None:
    """Fold batch norms into the convolutions before them, and fuse the ReLUs after them."""
    body = encoder.body
    names = {module: name for name, module in body.named_modules()}
    norms, relus = _trace_encoder(encoder, depth)
    for conv, norm in norms.items():
        _fold_norm(conv, norm)
        _replace(body, names[norm], cast(nn.Module, getattr(norm, "act", nn.Identity())))
        if conv in relus:
            _replace(body, names[conv], _ConvReLU(conv))
            _replace(body, names[relus[conv]], nn.Identity())


def _trace_encoder(encoder: Encoder, depth: int) -> tuple[dict[nn.Module, nn.Module], dict[nn.Module, nn.Module]]:
    """Find the batch norm after each convolution, and the ReLU after both, by one forward pass with hooks."""
    norms: dict[nn.Module, nn.Module] = {}
    relus: dict[nn.Module, nn.Module] = {}
    outputs: dict[int, tuple[Tensor, int, nn.Module, bool]] = {}
    """id of a tensor -> tensor, version, convolution that computed it, and whether a batch norm followed."""

    def find_conv(x: Tensor, normalized: bool) -> nn.Module | None:
        tensor, version, conv, was_normalized = outputs.get(id(x), (None, -1, None, False))
        return conv if tensor is x and version == x._version and was_normalized == normalized else None

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if conv := find_conv(inputs[0], normalized=True):
            relus[conv] = module

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            outputs[id(output)] = (output, output._version, module, False)
        elif conv := find_conv(inputs[0], normalized=False):
            norms[conv] = module
            if type(module) is nn.BatchNorm2d:  # timm's subclass includes an activation
                outputs[id(output)] = (output, output._version, conv, True)

    modules = list(encoder.body.modules())
    hooks = [module.register_forward_pre_hook(before) for module in modules if isinstance(module, nn.ReLU)]
    hooks += [
        module.register_forward_hook(after) for module in modules if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))
    ]
    weight = next(encoder.parameters())
    with torch.no_grad():
        encoder(torch.zeros(1, encoder.in_channels, 64, 64, device=weight.device, dtype=weight.dtype), depth)
    for hook in hooks:
        hook.remove()
    return norms, relus


def _replace(body: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(body.get_submodule(parent), last, module)
