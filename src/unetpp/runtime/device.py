"""Devices: which one, and its arithmetic, memory format and memory allocator."""

from __future__ import annotations

import ctypes
import os

import torch

from unetpp.errors import UsageError
from unetpp.plan import ModelPlan
from unetpp.rank_place import RankPlace

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # names of glibc's malloc.h
MAX_WORKERS = 12
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Memory format by the number of dimensions of a tensor."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def find_device(name: str) -> torch.device:
    """Find a device by its name; `auto` chooses a CUDA device if there is one, never Apple's GPU, which is untried.

    Raises:
        UsageError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UsageError("device", repr(name), "auto, cpu, cuda or cuda:K, or mps to predict", "Choose one of them.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device", repr(name), "a Mac whose PyTorch can use its GPU", 'Use `device="cpu"`.')
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        expected = f"one of the {torch.cuda.device_count()} CUDA devices of this machine"
        raise UsageError("device", repr(name), expected, 'Use `device="cpu"`.')
    return device


def choose_device(name: str) -> torch.device:
    """Find a device and make it the current one of this thread, for the streams and kernels of a training.

    Raises:
        UsageError: no such device on this machine, or one on which nothing is trained.
    """
    device = find_device(name)
    if device.type == "mps":
        raise UsageError("device", repr(name), "auto, cpu, cuda or cuda:K", "Apple's GPU only predicts so far.")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


def choose_rank_device(name: str, place: RankPlace) -> torch.device:
    """Choose the device of one of several ranks, and make it the current one: each rank of a machine its own GPU.

    Args:
        name: as the user names it: auto, cpu or cuda.
        place: of this process.

    Raises:
        UsageError: more ranks than GPUs, or one GPU for all.
    """
    if place.size > 1 and name.startswith("cuda:"):
        action = 'Leave it out, or use `device="cuda"`; CUDA_VISIBLE_DEVICES says which GPUs there are.'
        raise UsageError("device", repr(name), "a GPU for each rank", action)
    device = choose_device(name)
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count()
    if 1 < count <= place.local_rank:
        expected = f"at most {count} ranks on this machine, as many as it has GPUs"
        action = f'Start {count} processes, or train on the processor with `device="cpu"`.'
        raise UsageError("LOCAL_RANK", str(place.local_rank), expected, action)
    # srun may show each task one GPU, its own
    return choose_device(f"cuda:{place.local_rank if count > 1 else 0}")


def keep_freed_memory() -> None:
    """Tune glibc's malloc so that freed tensors are reused: 10 % of a training step on CPUs (docs/log.md).

    By default, large blocks are returned to the system at once, and every new tensor is zeroed page by page. Does
    nothing without glibc.
    """
    try:
        library = ctypes.CDLL("libc.so.6")
        for option, value in ((_MMAP_THRESHOLD, 32 * 2**20), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 * 2**20)):
            library.mallopt(option, value)
    except (OSError, AttributeError):
        return


def batch_workers(device: torch.device) -> int:
    """Return the number of threads that make batches; a GPU is faster than one, and leaves the processor to them."""
    return 1 if device.type == "cpu" else max(1, min(MAX_WORKERS, torch.get_num_threads() - 1))


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether the hardware computes bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes) and not _hides_bf16()


def _hides_bf16() -> bool:
    """Return whether oneDNN was told to do without the instructions for bfloat16, which then runs in software.

    Not measured: on a busy machine one process would measure this and another that, and a training that is resumed
    would go on in another arithmetic.
    """
    isa = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "DEFAULT").upper()
    return not any(name in isa for name in ("DEFAULT", "ALL", "BF16", "FP16", "AMX", "AVX10"))


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return a context in which convolutions run in `precision`, or in float32 where that is not slower."""
    usable = (precision == "bf16" and has_fast_bf16(device)) or (precision == "fp16" and device.type == "cuda")
    return torch.autocast(device.type, DTYPES.get(precision, torch.bfloat16), enabled=usable)


def memory_format(plan: ModelPlan, device: torch.device, compiled: bool = False) -> torch.memory_format:
    """Return the memory format in which a network runs fastest, by measurement (docs/log.md).

    Channels last, except for norms with statistics per image and channel, whose kernels need contiguous images unless
    they are compiled.

    Args:
        plan: the network.
        device: device of the network.
        compiled: the network is compiled.
    """
    contiguous = {"instance"} if device.type == "cpu" and plan.dims == 2 else {"instance", "group"}
    if compiled and device.type == "cuda":
        contiguous = set()
    return torch.contiguous_format if plan.norm in contiguous else CHANNELS_LAST[plan.dims + 2]
