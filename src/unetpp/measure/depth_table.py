"""The depth table: what every depth of one trained network costs, measured, beside how good it is.

Latency is the median of forward passes of one tile on this machine, the depths taking turns, so that a busy moment hits
all of them alike. Memory is the peak of a fresh process that loads the model and predicts one tile, above what it held
before. Energy is what the machine's own counters say. Nothing is estimated; what could not be measured is None. Where there are
several heads the last row is MEAN, all heads at once: the accurate mode of the papers.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from unetpp.infer.prediction import MEAN
from unetpp.measure.energy import energy_counter
from unetpp.measure.roofline import ceilings, macs_and_bytes
from unetpp.measured import DepthRow, DepthTable, Notes
from unetpp.model.file import load_model
from unetpp.model.header import ModelHeader
from unetpp.model.network import HeadOutputs, UNetPlusPlus
from unetpp.runtime.cuda import CAPTURE_AFTER, CudaNetwork
from unetpp.runtime.device import autocast, choose_device, memory_format
from unetpp.runtime.runner import Runner

ROUNDS = 5
"""Timed passes of each depth, at least."""
SECONDS_PER_DEPTH = 1.0
"""More passes are timed while they take less than this: short passes need more of them."""
MAX_ROUNDS = 50
MAX_SECONDS_PER_DEPTH = 5.0
"""Fewer than ROUNDS passes, but one, are timed where they would take longer than this."""
PROBES_AT_ONCE = 2
PROBE_TIMEOUT_S = 60


def measure_depths(
    model: Path,
    *,
    tile: Sequence[int] | None = None,
    batch: int | None = None,
    device: str = "cpu",
    memory: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DepthTable:
    """Measure every depth of a model file.

    Args:
        model: a .safetensors of this package.
        tile: size of the input; None: the plan's tile.
        batch: tiles at once; None: the plan's.
        device: cpu, cuda or cuda:K.
        memory: False leaves out the memory, which takes a process (some seconds) for each depth on the CPU.
        progress: called with (steps done, steps in all).

    Returns:
        costs alone, with the conditions and the machine.

    Raises:
        ModelFileError: the file cannot be used.
    """
    network, header = load_model(model)
    place = torch.device(device)
    tile = tuple(tile or header.plan.predict.tile)
    batch = batch or header.plan.predict.batch
    network.to(place).to(memory_format=memory_format(header.plan.model, place))
    tiles = _tiles(header, tile, batch, place)
    depths = (*network.head_depths, MEAN) if len(network.head_depths) > 1 else network.head_depths
    precision = header.plan.predict.precision
    runner = CudaNetwork(network, precision) if place.type == "cuda" else network  # what `predict` runs on a GPU
    spent = _time_depths(runner, depths, tiles, precision, progress)
    joules = _energy(runner, depths, tiles, precision)
    peaks = _peak_memory(model, network, depths, tiles, header, memory)
    rows = {}
    for depth in depths:
        size = network if depth == MEAN else network.prune(depth)
        with torch.inference_mode():
            gmacs, gbytes = macs_and_bytes(partial(_answer, network, depth=depth), tiles[:1])
        rows[depth] = DepthRow(
            parameters=sum(weight.numel() for weight in size.parameters()),
            file_mb=sum(values.nbytes for values in size.state_dict().values()) / 1e6,
            nodes=len(network.grid.needed(network.head_depths if depth == MEAN else (depth,))),
            gmacs=gmacs,
            gbytes=gbytes,
            latency_ms=1e3 * spent[depth],
            megapixels_per_s=tiles[:, 0].numel() * (1 - header.plan.predict.overlap) ** len(tile) / spent[depth] / 1e6,
            peak_memory_mb=peaks.get(depth),
            energy_j=joules.get(depth),
        )
    mean = rows.pop(MEAN, None)
    conditions = _conditions(place, precision, tiles)
    return DepthTable(depths=rows, mean_of_heads=mean, conditions=conditions, machine=ceilings(str(place)))


def measured_notes(
    model: Path,
    notes: Notes,
    device: str = "auto",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Notes:
    """The notes of a model file with costs that are measured now, whatever they were. Raises as `measure_depths`, and UsageError for a device that is not there."""
    return notes.with_costs(measure_depths(model, batch=1, device=str(choose_device(device)), progress=progress))


def _conditions(device: torch.device, precision: str, tiles: Tensor) -> str:
    """One line for people."""
    threads, batch, size = torch.get_num_threads(), len(tiles), " x ".join(map(str, tiles.shape[2:]))
    where = f"{device}, {threads} thread{'s' * (threads != 1)}" if device.type == "cpu" else str(device)
    return f"measured on {where}, {precision}, {batch} tile{'s' * (batch != 1)} of {size}"


def _tiles(header: ModelHeader, tile: tuple[int, ...], batch: int, device: torch.device) -> Tensor:
    shape = (batch, header.plan.model.in_channels, *tile)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return noise.to(device).to(memory_format=memory_format(header.plan.model, device))


def _forward(network: Runner, tiles: Tensor, depth: int, precision: str) -> None:
    with torch.inference_mode(), autocast(tiles.device, precision):
        _answer(network, tiles, depth)
    if tiles.device.type == "cuda":
        torch.cuda.synchronize(tiles.device)


def _answer(network: Runner, tiles: Tensor, depth: int) -> Tensor | HeadOutputs:
    return network(tiles, heads=True) if depth == MEAN else network(tiles, depth=depth)


def _time_depths(
    network: Runner, depths: Sequence[int], tiles: Tensor, precision: str, progress: Callable[[int, int], None]
) -> dict[int, float]:
    """Median seconds of each depth."""
    for depth in (*depths,) * (1 + CAPTURE_AFTER) if tiles.device.type == "cuda" else depths:  # then they are recorded
        _forward(network, tiles, depth, precision)
    spent: dict[int, list[float]] = {depth: [] for depth in depths}
    while any(_unsure(times) for times in spent.values()):
        for depth in depths:
            started = time.perf_counter()
            _forward(network, tiles, depth, precision)
            spent[depth].append(time.perf_counter() - started)
        progress(min(len(spent[depths[0]]), ROUNDS), ROUNDS)
    return {depth: statistics.median(times) for depth, times in spent.items()}


def _energy(network: Runner, depths: Sequence[int], tiles: Tensor, precision: str) -> dict[int, float]:
    """Mean joules of each depth, where the machine counts them; counters of GPUs go on every tenth of a second only."""
    joules = energy_counter(tiles.device)
    used: dict[int, float] = {}
    if joules is None:
        return used
    for depth in depths:
        passes, before, started = 0, joules(), time.perf_counter()
        while time.perf_counter() - started < SECONDS_PER_DEPTH or not passes:
            _forward(network, tiles, depth, precision)
            passes += 1
        used[depth] = (joules() - before) / passes
    return used


def _unsure(times: Sequence[float]) -> bool:
    if len(times) < ROUNDS:
        return not times or sum(times) < MAX_SECONDS_PER_DEPTH
    return sum(times) < SECONDS_PER_DEPTH and len(times) < MAX_ROUNDS


def _peak_memory(
    model: Path, network: UNetPlusPlus, depths: Sequence[int], tiles: Tensor, header: ModelHeader, wanted: bool
) -> dict[int, float | None]:
    if not wanted:
        return {}
    if tiles.device.type == "cuda":
        return {
            depth: _cuda_peak(
                CudaNetwork(network, header.plan.predict.precision), tiles, depth, header.plan.predict.precision
            )
            for depth in depths
        }
    shape = [tiles.shape[0], *tiles.shape[2:]]
    with ThreadPoolExecutor(max_workers=PROBES_AT_ONCE) as pool:
        return dict(zip(depths, pool.map(lambda depth: _probe(model, depth, shape), depths), strict=True))


def _cuda_peak(network: Runner, tiles: Tensor, depth: int, precision: str) -> float:
    torch.cuda.synchronize(tiles.device)
    torch.cuda.reset_peak_memory_stats(tiles.device)
    before = torch.cuda.memory_allocated(tiles.device)
    _forward(network, tiles, depth, precision)
    return (torch.cuda.max_memory_allocated(tiles.device) - before) / 1e6


def _probe(model: Path, depth: int, shape: Sequence[int]) -> float | None:
    """Peak memory of a fresh process; None where it could not be measured."""
    command = [
        sys.executable,
        "-m",
        "unetpp.measure.memory_probe",
        str(model),
        str(depth),
        str(torch.get_num_threads()),
        *map(str, shape),
    ]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=True)
        return float(result.stdout.split()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
