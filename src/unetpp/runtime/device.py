"""How a network runs on a device: which device, which arithmetic, which memory layout."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch

from unetpp.errors import UsageError
from unetpp.plan import ModelPlan
from unetpp.runtime.stopwatch import time_calls

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # names of glibc's malloc.h
MOST_WORKERS = 12
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By the number of a tensor's dimensions."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def find_device(name: str) -> torch.device:
    """Find a device by its name; `auto` takes a CUDA device where there is one.

    Raises:
        UsageError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device: got {name!r}; expected auto, cpu, cuda or cuda:K.") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device: got {name!r}; expected auto, cpu, cuda or cuda:K.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"--device: got {name!r}; expected one of the {torch.cuda.device_count()} CUDA devices of this machine. Use --device cpu."
        )
    return device


def choose_device(name: str) -> torch.device:
    """Find a device and make it the current one of this thread: streams and kernels of a training go where that is.

    Raises:
        UsageError: no such device on this machine.
    """
    device = find_device(name)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors for the next ones: 10 % of a training step on CPUs (docs/log.md).

    By default it gives large blocks back to the system at once, and every new tensor is zeroed page by page. Does nothing where there is no glibc.
    """
    try:
        library = ctypes.CDLL("libc.so.6")
        for option, value in ((_MMAP_THRESHOLD, 32 * 2**20), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 * 2**20)):
            library.mallopt(option, value)
    except (OSError, AttributeError):
        return


def batch_workers(device: torch.device) -> int:
    """Threads that make batches: a GPU leaves the processor to them, and is faster than one of them."""
    return 1 if device.type == "cpu" else max(1, min(MOST_WORKERS, torch.get_num_threads() - 1))


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the hardware computes bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    has_it = (
        getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        or getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    )
    return bool(has_it) and not _emulates_bf16()


@functools.cache
def _emulates_bf16() -> bool:
    """Whether products in bfloat16 run in software, as where ONEDNN_MAX_CPU_ISA keeps oneDNN from what the processor has.

    Found by one product of 128 x 128: in software it takes 100 times as long as in float32, else about as long.
    """

    def seconds(dtype: torch.dtype) -> float:
        square = torch.ones(128, 128, dtype=dtype)
        return min(time_calls(lambda: torch.mm(square, square)))

    return seconds(torch.bfloat16) > 10 * seconds(torch.float32)


def autocast(device: torch.device, precision: str) -> Any:
    """A context in which convolutions run in `precision`; what the hardware does not gain from becomes fp32."""
    usable = (precision == "bf16" and has_fast_bf16(device)) or (precision == "fp16" and device.type == "cuda")
    return torch.autocast(device.type, DTYPES.get(precision, torch.bfloat16), enabled=usable)


def memory_format(plan: ModelPlan, device: torch.device, compiled: bool = False) -> torch.memory_format:
    """The layout of images that this network runs fastest in, by measurement (docs/log.md).

    Channels last, but not where statistics of each channel of each image are taken: their kernels want them contiguous. Those of a compiler do not.
    """
    contiguous = {"instance"} if device.type == "cpu" and plan.dims == 2 else {"instance", "group"}
    if compiled and device.type == "cuda":
        contiguous = set()
    if plan.norm in contiguous:
        return torch.contiguous_format
    return CHANNELS_LAST[plan.dims + 2]
