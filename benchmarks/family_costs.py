"""Costs of a member of the family: time and memory of a training step and of a tile, parameters and multiply-adds.

Times are medians of rounds in which all take turns, and so are their ratios to the reference in the same round. Memory
is measured in a process of its own, which is this script:

    python benchmarks/family_costs.py PLAN MEMBER step|tile NUMBER DEVICE THREADS

NUMBER is that of a phase (from 0) or of a size; printed are the MB that a training step takes with weights, gradients
and optimizer, or that a tile takes above the loaded network.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Mapping
from operator import truediv
from pathlib import Path
from typing import Any, TypeVar

import torch
from family_members import REFERENCE, Member, list_members
from timed_training import Phase, choose_clock
from torch import Tensor, nn

from unetpp.errors import UsageError
from unetpp.measure.memory_probe import PeakMemory
from unetpp.plan import Plan, TrainPlan, read_plan
from unetpp.runtime.cuda import CAPTURE_AFTER, CudaNetwork
from unetpp.runtime.device import autocast, find_device, keep_freed_memory, memory_format
from unetpp.runtime.openvino import OpenVinoNetwork
from unetpp.runtime.stopwatch import synchronize
from unetpp.train.step import TrainingStep

Key = TypeVar("Key", bound=Hashable)
Work = Callable[[], Any]
LEAST_ROUNDS, MOST_ROUNDS, SECONDS = 3, 20, 8.0
"""Rounds of every comparison, and seconds after which no further one begins."""
HALFWAY = 0.5


def measure_steps(member: Member, plan: Plan, device: torch.device) -> list[dict[str, float]]:
    """Time a training step of each phase; milliseconds, and the ratio to the reference."""
    reference = list_members(plan.model)[REFERENCE]
    phases = member.list_phases()
    works: dict[Any, Work] = {REFERENCE: make_step(reference.list_phases()[0], None, plan.train, device)}
    network: Any = None
    for number, phase in enumerate(phases):
        network = phase.make(network)
        works[number] = make_step(phase, network, plan.train, device)
    return [_to_milliseconds("step", times) for times in _compare(works, device)]


def make_step(phase: Phase, network: nn.Module | None, train: TrainPlan, device: torch.device) -> Work:
    """Make a function that trains on one batch of random numbers, always the same."""
    network = network or phase.make(None)
    step = TrainingStep(network, phase.model, train, device)
    images = torch.randn(train.batch, phase.model.in_channels, *train.patch)
    labels = torch.randint(phase.model.out_channels, (train.batch, 1, *train.patch))
    return lambda: step((images, labels), 0, HALFWAY)


def measure_tiles(member: Member, network: Any, plan: Plan, device: torch.device) -> dict[int, dict[str, Any]]:
    """Time one tile of each size with torch, and on a CPU with OpenVINO where it is installed; count its work.

    Args:
        member: the member.
        network: its network, in evaluation mode.
        plan: tile and precision.
        device: where torch runs.
    """
    reference = list_members(plan.model)[REFERENCE].list_phases()[0].make(None).eval()
    sizes = {number: network.prune(number).eval() for number in network.head_depths}
    every = {REFERENCE: reference, **sizes}
    tile = make_tile(plan, device)
    rows: dict[int, dict[str, Any]] = {number: count_work(size.to(device), tile) for number, size in sizes.items()}
    for name, prepare in {"torch": prepare_torch, "openvino": prepare_openvino}.items():
        works = {key: prepare(each, tile, plan.predict.precision) for key, each in every.items()}
        if all(works.values()):
            for number, times in zip(sizes, _compare(works, device), strict=True):
                rows[number] |= _to_milliseconds(name, times)
    return rows


def make_tile(plan: Plan, device: torch.device) -> Tensor:
    tile = torch.randn(1, plan.model.in_channels, *plan.predict.tile, generator=torch.Generator().manual_seed(0))
    return tile.to(device, memory_format=memory_format(plan.model, device))


def prepare_torch(network: Any, tile: Tensor, precision: str) -> Work:
    """Make a function that predicts a tile as `unetpp predict` does with torch."""
    network = network.to(tile.device).to(memory_format=memory_format(network.plan, tile.device))
    runner = CudaNetwork(network, precision) if tile.is_cuda else network

    def run() -> None:
        with torch.inference_mode(), autocast(tile.device, precision):
            runner(tile)

    return run


def prepare_openvino(network: Any, tile: Tensor, precision: str) -> Work | None:
    """Make a function that predicts a tile with OpenVINO; None on a GPU, and where OpenVINO cannot."""
    if tile.is_cuda or not importlib.util.find_spec("openvino"):
        return None
    runner, tile = OpenVinoNetwork(network, precision), tile.contiguous()
    try:
        runner(tile)
    except UsageError:
        return None
    return lambda: runner(tile)


def count_work(network: nn.Module, tile: Tensor) -> dict[str, Any]:
    """Count parameters, and 10^9 multiply-adds of a tile, without weights of convolutions that are zero: of shells."""
    macs, parameters = 0, sum(weight.numel() for weight in network.parameters())
    hooks = []

    def count(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        at = inputs[0] if layer.transposed else output
        macs += int(layer.weight.count_nonzero()) * at[:, 0].numel()

    for layer in network.modules():
        if isinstance(layer, nn.modules.conv._ConvNd):
            parameters -= int((layer.weight == 0).sum())
            hooks.append(layer.register_forward_hook(count))
    with torch.inference_mode():
        network(tile)
    for hook in hooks:
        hook.remove()
    return {"parameters": parameters, "gmacs": macs / 1e9}


def _compare(works: Mapping[Any, Work], device: torch.device) -> list[tuple[float, float]]:
    """Seconds of each work but the reference, and its ratio to the reference: medians over rounds, in order."""
    spent = time_in_turn(works, device, 1 + CAPTURE_AFTER if device.type == "cuda" else 1)
    reference = spent.pop(REFERENCE)
    return [(statistics.median(times), statistics.median(map(truediv, times, reference))) for times in spent.values()]


def time_in_turn(works: Mapping[Key, Work], device: torch.device, warm_up: int = 1) -> dict[Key, list[float]]:
    """Time functions in rounds of one call each; the seconds of every call."""
    clock = choose_clock(device)
    for work in [*works.values()] * warm_up:
        work()
    spent: dict[Key, list[float]] = {key: [] for key in works}
    started = time.monotonic()
    for number in range(MOST_ROUNDS):
        if number >= LEAST_ROUNDS and time.monotonic() - started > SECONDS:
            break
        for key, work in works.items():
            synchronize(device)
            begun = clock()
            work()
            synchronize(device)
            spent[key].append(clock() - begun)
    return spent


def _to_milliseconds(name: str, times: tuple[float, float]) -> dict[str, float]:
    return {f"{name}_ms": round(1e3 * times[0], 3), f"{name}_ratio": round(times[1], 3)}


def measure_mb(plan: Path, member: str, kind: str, number: int, device: torch.device) -> float | None:
    """Measure memory in a process of its own; None if that fails."""
    arguments = map(str, (__file__, plan, member, kind, number, device, torch.get_num_threads()))
    answer = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    return float(answer.stdout.split()[-1]) if answer.returncode == 0 else None


def probe(plan: Plan, member: Member, kind: str, number: int, device: torch.device) -> float:
    """Measure the peak memory of a training step or of a tile in this process, MB."""
    phases = member.list_phases()
    if kind == "step":
        small = next(iter(list_members(plan.model).values())).list_phases()[0]
        few = plan.train.model_copy(update={"batch": 1, "patch": (16,) * plan.model.dims})
        make_step(small, None, few, device)()  # loads libraries
        keep_freed_memory()  # as training has it
        return _measure_peak(lambda: _train(phases[number], plan.train, device), device)
    network = phases[-1].make(None).prune(number).eval()
    tile = make_tile(plan, device)
    work = prepare_torch(network, tile, plan.predict.precision)
    prepare_torch(network, tile[..., :1], plan.predict.precision)()  # loads libraries
    return _measure_peak(work, device)


def _train(phase: Phase, train: TrainPlan, device: torch.device) -> None:
    step = make_step(phase, None, train, device)
    step()
    step()


def _measure_peak(work: Work, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # what was freed before must not be used again uncounted
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    memory = PeakMemory()
    with memory.watch():
        work()
    return (memory.peak - memory.before) / 1e6


def main(plan: str, member: str, kind: str, number: str, device: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    found = read_plan(Path(plan))
    print(probe(found, list_members(found.model)[member], kind, int(number), find_device(device)))


if __name__ == "__main__":
    main(*sys.argv[1:])
