"""Work of a forward pass, and times projected onto another machine."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from unetpp.measure import roofline
from unetpp.measure.roofline import count_macs_and_bytes, least_ms, measure_ceilings, project_ms
from unetpp.runtime.device import has_fast_bf16

HERE = {"gmacs_per_s_fp32": 100.0, "gmacs_per_s_bf16": 400.0, "copied_gb_per_s": 20.0}


def test_the_work_of_a_convolution() -> None:
    gmacs, gbytes = count_macs_and_bytes(nn.Conv2d(3, 5, 3, padding=1, bias=False), torch.zeros(2, 3, 16, 16))
    assert gmacs == pytest.approx(2 * 16 * 16 * 3 * 5 * 9 / 1e9)
    assert gbytes == pytest.approx(4 * (2 * 3 * 256 + 3 * 5 * 9 + 2 * 5 * 256) / 1e9)


def test_the_slower_of_arithmetic_and_memory_counts() -> None:
    assert least_ms(10, 0.1, False, HERE) == pytest.approx(100)
    assert least_ms(10, 0.1, True, HERE) == pytest.approx(25)
    assert least_ms(0.01, 0.1, True, HERE) == pytest.approx(2.5)


def test_a_time_is_projected_by_the_share_of_the_peak_that_is_reached() -> None:
    twice = {name: 2 * value for name, value in HERE.items()}
    assert project_ms(60, 10, 0.1, True, HERE, twice) == pytest.approx(30)
    assert project_ms(60, 10, 0.1, True, HERE, HERE | {"gmacs_per_s_bf16": 1e9}) == pytest.approx(60 * 2.5 / 25)


def test_ceilings_are_measured() -> None:
    found = measure_ceilings("cpu")
    assert all(value > 0 for value in found.values())
    assert ("gmacs_per_s_bf16" in found) == has_fast_bf16(torch.device("cpu"))


def test_a_slow_product_does_not_hold_up_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulated bfloat16: 0.16 * 10^9 multiply-adds a second, so that a product of 2048 x 2048 takes 55 s."""
    sizes = []

    def emulated(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        sizes.append(len(left))
        time.sleep(len(left) ** 3 / 0.16e9)
        return left

    monkeypatch.setattr(torch, "mm", emulated)
    monkeypatch.setattr(roofline, "has_fast_bf16", lambda device: True)
    started = time.perf_counter()
    found = measure_ceilings("cpu")
    assert time.perf_counter() - started < 2
    assert max(sizes) <= 256
    assert found["gmacs_per_s_bf16"] == pytest.approx(0.16, rel=0.3)


def test_bfloat16_is_not_measured_where_networks_run_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "has_fast_bf16", lambda device: False)
    found = measure_ceilings("cpu")
    assert set(found) == {"gmacs_per_s_fp32", "copied_gb_per_s"}
    assert least_ms(10, 0.1, True, found) == least_ms(10, 0.1, False, found)
