"""Measured costs of every depth."""

from __future__ import annotations

import itertools
import mmap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from unetpp.measure import depth_table
from unetpp.measure.depth_table import measure_depths
from unetpp.measure.memory_probe import PeakMemory
from unetpp.measure.roofline import count_macs_and_bytes
from unetpp.model.file import load_model
from unetpp.model.network import UNetPlusPlus
from unetpp.model.weight_count import count_size_weights
from unetpp.plan import Plan
from unetpp.progress import Silence, Stage


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth_table, "SECONDS_PER_DEPTH", 0.0)


class Stages(Silence):
    """Records what stages show."""

    def __init__(self, steps: list[tuple[int, int]]) -> None:
        self._steps = steps

    def stage(self, title: str, unit: str = "") -> Stage:
        return lambda done, total, note="": self._steps.append((done, total))


@pytest.mark.parametrize("dims", [2, 3])
def test_every_depth_is_measured_and_deeper_ones_cost_more(
    dims: int, make_model: Callable[..., Path], small_plan: Callable[..., Plan]
) -> None:
    model = make_model(small_plan(dims, depth=3))
    steps: list[tuple[int, int]] = []
    table = measure_depths(model, tile=[32] * dims, batch=2, memory=False, progress=Stages(steps))
    network = load_model(model)[0]
    assert list(table.rows) == ["1", "2", "3", "mean"]
    rows = list(table.rows.values())
    assert [row.nodes for row in rows] == [3, 6, 10, 10]
    assert rows[3].parameters > rows[2].parameters  # pruned at depth 3 it has that head alone
    assert rows[3].gmacs > rows[2].gmacs
    for row, next_row in itertools.pairwise(rows[:3]):
        assert row.parameters < next_row.parameters
        assert row.gmacs < next_row.gmacs
    assert [row.parameters for row in rows[:3]] == [
        sum(weight.numel() for weight in network.prune(depth).parameters()) for depth in (1, 2, 3)
    ]
    assert all(row.file_mb == pytest.approx(4e-6 * row.parameters, rel=0.05) for row in rows)
    assert all(row.latency_ms > 0 and row.peak_memory_mb is None for row in rows)
    assert rows[0].megapixels_per_s == pytest.approx(0.5**dims * 2 * 32**dims / rows[0].latency_ms / 1e3)
    assert steps[-1] == (5, 5)
    assert f"2 tiles of {' x '.join(['32'] * dims)}" in table.conditions


@pytest.mark.parametrize(("per_second", "busy"), [(0.3, True), (0.95, False)])
def test_times_of_a_busy_machine_are_said_to_be(
    per_second: float, busy: bool, make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depth_table.time, "thread_time", lambda: per_second * time.perf_counter())
    conditions = measure_depths(make_model(), tile=[32, 32], memory=False).conditions
    assert conditions and ("the machine was busy; `unetpp info RUN --measure`" in conditions) == busy


def test_nothing_is_said_of_how_costs_were_measured_where_none_were(make_model: Callable[..., Path]) -> None:
    assert measure_depths(make_model(), until=time.monotonic()).conditions is None


def test_a_size_is_measured_as_it_is_deployed(
    make_model: Callable[..., Path], small_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small_plan().changed({"model.shells": [0.5, 1], "model.norm": "instance", "predict.depth": 4})
    model, made = make_model(plan), depth_table._list_passes
    ran: dict[int, int] = {}

    def record(network: UNetPlusPlus, depths: list[int]) -> Any:
        passes = made(network, depths)
        ran.update({d: sum(map(torch.numel, each.network.parameters())) for d, each in passes.items()})
        return passes

    monkeypatch.setattr(depth_table, "_list_passes", record)
    table, network = measure_depths(model, tile=[32, 32], memory=False), load_model(model)[0]
    cut = {number: network.prune(number) for number in (1, 2, 3, 4)}
    parameters = {number: sum(map(torch.numel, each.parameters())) for number, each in cut.items()}
    assert {number: row.parameters for number, row in table.depths.items()} == {
        number: count_size_weights(network, number) for number in cut
    }
    assert {number: count for number, count in ran.items() if number} == parameters  # what was timed
    rows = table.depths
    assert [(row.depth, row.channels) for row in rows.values()] == [(1, 2), (2, 2), (1, 4), (2, 4)]
    assert [row.nodes for row in rows.values()] == [3, 6, 3, 6]
    assert rows[2].exact_gmacs == rows[2].gmacs and rows[4].exact_gmacs < rows[4].gmacs
    assert rows[2].gmacs == count_macs_and_bytes(cut[2], torch.zeros(1, 1, 32, 32))[0] < 0.5 * rows[4].gmacs
    assert table.mean_of_heads and table.mean_of_heads.nodes == 6


def test_memory_is_measured_in_a_process_of_its_own(
    make_model: Callable[..., Path], small_plan: Callable[..., Plan]
) -> None:
    table = measure_depths(make_model(small_plan(depth=1)), tile=(512, 512))
    activations_mb = 3 * 4 * 512 * 512 * 4 / 1e6  # at least input, output and one level of width 4 at once
    peak = table.depths[1].peak_memory_mb
    assert peak is not None
    assert activations_mb < peak < 500


def test_a_probe_that_fails_leaves_the_memory_open(
    make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depth_table.sys, "executable", "/no/such/python")
    assert [row.peak_memory_mb for row in measure_depths(make_model()).rows.values()] == [None, None, None]


def test_without_time_work_is_counted_and_nothing_is_run(
    make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depth_table.subprocess, "Popen", None)
    steps: list[tuple[int, int]] = []
    found = measure_depths(make_model(), progress=Stages(steps), until=time.monotonic())
    assert all(row.latency_ms is None and row.gmacs and row.peak_memory_mb is None for row in found.rows.values())
    assert (steps, found.machine) == ([], None)


def test_where_time_is_short_the_warm_up_counts_and_a_round_that_was_cut_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = itertools.count(0, 0.5)  # a round looks three times
    monkeypatch.setattr(depth_table.time, "monotonic", lambda: next(now))
    passes: list[int] = []
    found = depth_table._time_depths(passes.append, (1, 2, 3), 1, lambda done, total: None, until=2.0)
    assert set(found) == {1, 2, 3}
    assert passes == [1, 2, 3, 1]


def test_processes_end_with_the_time(make_model: Callable[..., Path]) -> None:
    started = time.monotonic()
    found = depth_table._probe_depths(make_model(), [1, 2, 0], [1, 32, 32], Silence().stage(""), started + 3.2)
    assert set(found) <= {1, 2, 0}
    assert time.monotonic() - started < 10


def test_the_peak_of_a_block_is_seen() -> None:
    content = b"1" * 64_000_000
    memory = PeakMemory()
    with (
        memory.watch(),
        mmap.mmap(-1, 64_000_000) as block,
    ):  # fresh pages: what other tests have freed may still be the process's own
        block.write(content)
        time.sleep(0.1)  # the samples are taken by another thread, which the copy keeps waiting
    assert (memory.peak - memory.before) / 1e6 == pytest.approx(64, abs=15)
