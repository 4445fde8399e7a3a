"""The depth table: measured costs of every depth, with shells of every size, of one trained network.

A size of a network with shells is measured as it is deployed: the network cut to it. Latency is the median over forward
passes of one tile on this machine; the depths take turns, so that a busy moment affects all of them. Memory is the peak
of a fresh process that loads the model and predicts one tile, above the loaded model. Energy is read from the machine's
counters. Nothing is estimated: a cost that could not be measured is None. With several heads the last row is MEAN, all
heads at once: the accurate mode of the papers.
"""

from __future__ import annotations

import copy
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from unetpp.dial import add_sizes
from unetpp.infer.prediction import MEAN
from unetpp.measure.energy import energy_counter
from unetpp.measure.roofline import count_macs_and_bytes, measure_ceilings
from unetpp.measured import DepthRow, DepthTable
from unetpp.model.file import load_model
from unetpp.model.network import UNetPlusPlus
from unetpp.model.weight_count import count_exact_macs, count_size_weights, count_weights
from unetpp.progress import SILENCE, Progress, Stage
from unetpp.runtime.cuda import CAPTURE_AFTER, CudaNetwork
from unetpp.runtime.device import autocast, memory_format
from unetpp.runtime.runner import Runner
from unetpp.sizes import find_size

ROUNDS = 5
"""Smallest number of timed passes of each depth."""
SECONDS_PER_DEPTH = 1.0
"""Short passes are repeated until they took this long together, at most MAX_ROUNDS times."""
MAX_ROUNDS = 50
MAX_SECONDS_PER_DEPTH = 5.0
"""Fewer than ROUNDS passes, but at least one, are timed if they take longer than this."""
BUSY_BELOW = 0.7
"""Processor time in each second of timing, below which the machine was busy: alone, a thread has nearly all."""
BUSY = "while the machine was busy; `unetpp info RUN --measure` measures again"
PROBES_AT_ONCE = 2
PROBE_TIMEOUT_S = 60
PROBE_S = 3.0
"""Seconds that a probe takes at least: most of it is importing torch."""


class _Pass(NamedTuple):
    """What runs to predict at a depth, or with all heads."""

    network: UNetPlusPlus
    depth: int | None = None
    heads: bool = False


def measure_depths(
    model: Path,
    *,
    tile: Sequence[int] | None = None,
    batch: int | None = None,
    device: str = "cpu",
    memory: bool = True,
    progress: Progress = SILENCE,
    until: float = math.inf,
) -> DepthTable:
    """Measure the costs of every depth of a model file.

    Args:
        model: a .safetensors of this package.
        tile: size of the input, voxels along each axis; None: the plan's tile.
        batch: number of tiles in one pass; None: the plan's.
        device: cpu, cuda or cuda:K.
        memory: False leaves out the memory, which takes a process (some seconds) for each depth on the CPU.
        progress: shows the stages.
        until: time of `time.monotonic` at which measuring ends: what there was no time for is None.

    Returns:
        Costs without scores, with the conditions and the machine.

    Raises:
        ModelFileError: the file cannot be used.
    """
    network, header = load_model(model)
    place, predict = torch.device(device), header.plan.predict
    tile = tuple(tile or predict.tile)
    layout = memory_format(header.plan.model, place)
    network.to(place).to(memory_format=layout)
    shape = (batch or predict.batch, header.plan.model.in_channels, *tile)
    tiles = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(place).to(memory_format=layout)
    depths = (*network.head_depths, MEAN) if len(network.head_depths) > 1 else network.head_depths
    passes = _list_passes(network, depths)
    run = _make_run(passes, tiles, predict.precision)
    noun = "size" if network.shells > 1 else "depth"
    show = progress.stage(f"Timing every {noun}", "rounds")
    started, computed = time.perf_counter(), time.thread_time()
    seconds = _time_depths(run, depths, 1 + CAPTURE_AFTER if place.type == "cuda" else 1, show, until)
    share = (time.thread_time() - computed) / max(time.perf_counter() - started, 1e-9)
    joules = _measure_energy(run, depths, place, until)
    peaks = {}
    if memory:
        show = progress.stage(f"Measuring the memory of every {noun}", f"{noun}s")
        peaks = _measure_memory(model, passes, tiles, predict.precision, show, until)
    machine = None
    if time.monotonic() < until:
        progress.stage("Measuring the speed of this machine")
        machine = measure_ceilings(device)
    pixels = tiles[:, 0].numel() * (1 - predict.overlap) ** len(tile)
    rows = {
        depth: _count_work(network, tiles[:1], depth).merge(
            DepthRow(
                latency_ms=1e3 * seconds[depth] if seconds else None,
                megapixels_per_s=pixels / seconds[depth] / 1e6 if seconds else None,
                peak_memory_mb=peaks.get(depth),
                energy_j=joules.get(depth),
            )
        )
        for depth in depths
    }
    mean, conditions = rows.pop(MEAN, None), None
    if seconds or peaks:
        busy = bool(seconds) and place.type == "cpu" and share < BUSY_BELOW  # a GPU is waited for in any case
        conditions = _conditions(tiles, predict.precision, busy)
    table = DepthTable(depths=rows, mean_of_heads=mean, conditions=conditions, machine=machine)
    return add_sizes(table, header.plan.model)


def _list_passes(network: UNetPlusPlus, depths: Sequence[int]) -> dict[int, _Pass]:
    """List the pass of each depth; a size of a network with shells is cut first, as if it were deployed."""

    def make_pass(depth: int) -> _Pass:
        if depth == MEAN:
            return _Pass(network, heads=True)
        return _Pass(network.prune(depth)) if network.shells > 1 else _Pass(network, depth)

    return {depth: make_pass(depth) for depth in depths}


def _conditions(tiles: Tensor, precision: str, busy: bool = False) -> str:
    """Describe device, precision and tiles in one line, and whether other programs slowed the passes down."""
    threads, batch, size = torch.get_num_threads(), len(tiles), " x ".join(map(str, tiles.shape[2:]))
    where = f"{tiles.device}" + f", {threads} thread{'s' * (threads != 1)}" * (tiles.device.type == "cpu")
    return f"measured on {where}, {precision}, {batch} tile{'s' * (batch != 1)} of {size}{', ' + BUSY if busy else ''}"


def _make_run(passes: Mapping[int, _Pass], tiles: Tensor, precision: str) -> Callable[[int], None]:
    """Make what runs the pass of a depth to its end; on a GPU as `predict` does."""
    runners: dict[UNetPlusPlus, Runner] = {each.network: each.network for each in passes.values()}
    if tiles.device.type == "cuda":
        runners = {network: CudaNetwork(network, precision) for network in runners}

    def run(depth: int) -> None:
        with torch.inference_mode(), autocast(tiles.device, precision):
            runners[passes[depth].network](tiles, passes[depth].depth, passes[depth].heads)
        if tiles.device.type == "cuda":
            torch.cuda.synchronize(tiles.device)

    return run


def _count_work(network: UNetPlusPlus, tile: Tensor, depth: int) -> DepthRow:
    """Count parameters, nodes, multiply-adds and bytes of one depth; nothing is computed, on torch's meta device."""
    pruned = network if depth == MEAN else network.prune(depth)
    heads, copied = network.head_depths if depth == MEAN else (depth,), copy.deepcopy(pruned).to("meta")
    has_zeros = network.shells > 1 or network.absent_weights > 0
    with torch.inference_mode():
        gmacs, gbytes = count_macs_and_bytes(partial(copied, heads=depth == MEAN), tile.to("meta"))
    return DepthRow(
        parameters=count_weights(network) if depth == MEAN else count_size_weights(network, depth),
        file_mb=sum(values.nbytes for values in pruned.state_dict().values()) / 1e6,
        nodes=len(network.grid.needed({find_size(head, network.depth).depth for head in heads})),
        gmacs=gmacs,
        exact_gmacs=count_exact_macs(network, tile, None if depth == MEAN else depth) / 1e9 if has_zeros else None,
        gbytes=gbytes,
    )


def _time_depths(
    run: Callable[[int], None],
    depths: Sequence[int],
    warm_up: int,
    progress: Callable[[int, int], None],
    until: float = math.inf,
) -> dict[int, float]:
    """Median seconds of a pass at each depth; empty where the time is over before each has run once.

    Args:
        run: runs one pass at a depth.
        depths: the depths to time.
        warm_up: passes before the timed ones; on a GPU the last of them records the CUDA graph.
        progress: called with (rounds done, rounds in all).
        until: time of `time.monotonic` at which timing ends; where no round fits after a warm-up, that counts.
    """

    def time_round() -> dict[int, float] | None:
        """Seconds of a pass at each depth; None where the time was over before the last one."""
        seconds = {}
        for depth in depths:
            if time.monotonic() >= until:
                return None
            started = time.perf_counter()
            run(depth)
            seconds[depth] = time.perf_counter() - started
        return seconds

    rounds: list[dict[int, float]] = []
    left = True
    while left and (found := time_round()):
        rounds.append(found)
        timed = rounds[warm_up:]
        left = any(_needs_more([each[depth] for each in timed]) for depth in depths)
        progress(len(timed), max(len(timed) + left, ROUNDS))
    counted = rounds[warm_up:] or rounds[-1:]
    return {depth: statistics.median(each[depth] for each in counted) for depth in depths if counted}


def _needs_more(times: Sequence[float]) -> bool:
    if len(times) < ROUNDS:
        return not times or sum(times) < MAX_SECONDS_PER_DEPTH
    return sum(times) < SECONDS_PER_DEPTH and len(times) < MAX_ROUNDS


def _measure_energy(
    run: Callable[[int], None], depths: Sequence[int], device: torch.device, until: float
) -> dict[int, float]:
    """Mean joules of a pass at each depth; empty without a counter. GPUs update theirs every tenth of a second."""
    joules = energy_counter(device)
    if joules is None or time.monotonic() + SECONDS_PER_DEPTH * len(depths) > until:
        return {}
    used = {}
    for depth in depths:
        passes, before, started = 0, joules(), time.perf_counter()
        while time.perf_counter() - started < SECONDS_PER_DEPTH or not passes:
            run(depth)
            passes += 1
        used[depth] = (joules() - before) / passes
    return used


def _measure_memory(
    model: Path, passes: Mapping[int, _Pass], tiles: Tensor, precision: str, show: Stage, until: float
) -> dict[int, float | None]:
    """Peak memory of each depth, MB; None, or no entry, where it could not be measured."""
    if tiles.device.type == "cuda":
        return {depth: _cuda_peak({depth: each}, tiles, precision) for depth, each in passes.items()}
    return _probe_depths(model, list(passes), [len(tiles), *tiles.shape[2:]], show, until)


def _cuda_peak(only: Mapping[int, _Pass], tiles: Tensor, precision: str) -> float:
    """Peak memory of a single pass, MB."""
    run = _make_run(only, tiles, precision)
    torch.cuda.synchronize(tiles.device)
    torch.cuda.reset_peak_memory_stats(tiles.device)
    before = torch.cuda.memory_allocated(tiles.device)
    run(*only)
    return (torch.cuda.max_memory_allocated(tiles.device) - before) / 1e6


def _probe_depths(
    model: Path, depths: Sequence[int], shape: Sequence[int], show: Stage, until: float
) -> dict[int, float | None]:
    """Measure the peak memory of each depth in a process of its own; the processes end with the time, and with us."""
    peaks: dict[int, float | None] = {}
    running: dict[int, tuple[subprocess.Popen[str], float]] = {}
    waiting, took_s = list(depths), PROBE_S
    try:
        while running or (waiting and time.monotonic() + took_s < until):
            while waiting and len(running) < PROBES_AT_ONCE and time.monotonic() + took_s < until:
                depth = waiting.pop(0)
                if found := _start_probe(model, depth, shape):
                    running[depth] = found, time.monotonic()
                else:
                    peaks[depth] = None
            for depth, (process, started) in list(running.items()):
                seconds = time.monotonic() - started
                if process.poll() is not None:
                    peaks[depth], took_s = _read_peak(process), max(took_s, seconds)
                elif seconds > PROBE_TIMEOUT_S or time.monotonic() > until:
                    peaks[depth] = None
                else:
                    continue
                _end_probe(running.pop(depth)[0])
                show(len(peaks), len(depths))
            time.sleep(0.02)
    finally:
        for process, _ in running.values():
            _end_probe(process)
    return peaks


def _start_probe(model: Path, depth: int, shape: Sequence[int]) -> subprocess.Popen[str] | None:
    arguments = map(str, (model, depth, torch.get_num_threads(), *shape))
    command = [sys.executable, "-m", "unetpp.measure.memory_probe", *arguments]
    with suppress(OSError):
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return None


def _read_peak(process: subprocess.Popen[str]) -> float | None:
    """Peak memory that a process has printed, MB; None where it could not be measured."""
    try:
        return float(process.communicate()[0].split()[-1]) if process.returncode == 0 else None
    except (OSError, ValueError, IndexError):
        return None


def _end_probe(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()
