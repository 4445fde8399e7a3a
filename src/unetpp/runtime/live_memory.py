"""Memory of a computation that is not done: the tensors that would be alive at once, counted on fake ones.

torch's fake tensors have shapes and strides but no values. Code that runs on them calls the same operations in the same
order, and its tensors die when the real ones would: with checkpointing, autocast and any network and optimizer.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unetpp.runtime.scratch import CpuScratch

Scratch = Callable[[Any, Any, Any], tuple[int, int]]
"""Bytes beyond inputs and outputs that an operation takes while it runs, and that it keeps: of the operation, its
arguments and its result."""
CUDA_GRAIN = 512
"""torch's allocator for GPUs rounds sizes up to multiples of so many bytes."""
MOST_AXES = 5
"""Ranges of integers up to this are taken for lists of axes."""


COMPOSITE = {
    torch.ops.aten.conv2d.default,
    torch.ops.aten.conv3d.default,
    torch.ops.aten.conv_transpose2d.input,
    torch.ops.aten.conv_transpose3d.input,
    torch.ops.aten.group_norm.default,
}
"""Operations that are taken apart here, as autograd does; in inference mode they arrive whole."""


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it is entered, as long as they live.

    Args:
        grain: an allocator rounds sizes up to multiples of so many bytes.
        scratch: what operations take beyond their tensors; None: nothing.

    Attributes:
        now: bytes of the tensors that are alive, and of what operations keep.
        peak: the largest that `now` has been, with scratch.
    """

    def __init__(self, grain: int = 1, scratch: Scratch | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._grain, self._scratch = grain, scratch
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and function in COMPOSITE:
            with self:
                result = function.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = _answer(function, args, kwargs)
        if result is None:
            result = function(*args, **kwargs)
        for each in tree_leaves(result):
            if isinstance(each, Tensor):
                self._add(each)
        scratch, kept = self._scratch(function, args, result) if self._scratch else (0, 0)
        self.now += kept
        self.peak = max(self.peak, self.now + scratch)
        return result

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        size = -(-storage.nbytes() // self._grain) * self._grain
        self._known.add(storage)
        self.now += size
        weakref.finalize(storage, self._free, size).atexit = False

    def _free(self, size: int) -> None:
        self.now -= size


def count_live_memory(device: str) -> LiveMemory:
    """Count for a type of device: on CPUs with scratch, on GPUs in the grain of the allocator."""
    return LiveMemory(scratch=CpuScratch()) if device == "cpu" else LiveMemory(grain=CUDA_GRAIN)


def _answer(function: Any, args: Any, kwargs: Any) -> Any:
    """Answer what depends on values, which fake tensors do not have: 1 for a number, no voxel for a selection.

    Short ranges of integers, of which code makes lists of axes, are real.
    """
    aten = torch.ops.aten
    is_range = function is aten.arange.start and max(args) <= MOST_AXES
    is_real = bool(args) and type(args[0]) is Tensor and not args[0].is_meta and function is not aten.lift_fresh.default
    if is_range or is_real:
        from torch._subclasses.fake_tensor import unset_fake_temporarily

        with unset_fake_temporarily():
            return function(*args, **kwargs)
    if function is aten._local_scalar_dense.default:
        return 1.0 if args[0].dtype.is_floating_point else 1
    if function is aten.native_group_norm.default:  # fake ones leave the memory format of their input
        _, mean, deviation = function(*args, **kwargs)
        return torch.empty_like(args[0]), mean, deviation
    if function is aten.index.Tensor and any(x is not None and x.dtype == torch.bool for x in args[1]):
        return args[0].new_empty(0)
    return None


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Make new tensors fake in a block, such that networks of them can be moved and copied."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # here, because importing it takes a while

    class Mode(FakeTensorMode):
        def __deepcopy__(self, memo: Any) -> Any:  # with every tensor of a network
            return self

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result: Any = super().__torch_dispatch__(func, types, args, kwargs or {})
            # weak references to tensors, with which `Module.to` refuses to exchange weights
            self.fake_tensor_converter.meta_converter.tensor_memo.clear()
            if func is torch.ops.aten.lift_fresh.default:
                result.constant = None  # a real tensor, which cannot be copied here
            return result

    mode = Mode(allow_non_fake_inputs=True)
    with warnings.catch_warnings(), mode:
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # in copy.deepcopy
        yield
