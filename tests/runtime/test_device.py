"""Devices of other machines: Apple's GPU, and a system without glibc."""

from __future__ import annotations

import ctypes

import pytest
import torch

from unetpp.errors import UsageError
from unetpp.runtime.device import autocast, choose_device, find_device, has_fast_bf16, keep_freed_memory
from unetpp.runtime.runner import choose_backend


def test_the_gpu_of_a_mac_predicts_and_does_not_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    device = find_device("mps")
    assert device.type == "mps"
    assert not has_fast_bf16(device)
    assert choose_backend("auto", device, "batch") == "torch"
    with autocast(device, "bf16"):
        assert not torch.is_autocast_enabled("mps")
    with pytest.raises(UsageError, match="Apple's GPU only predicts"):
        choose_device("mps")
    assert find_device("auto").type != "mps"


@pytest.mark.parametrize(("name", "expected"), [("mps", "a Mac whose PyTorch"), ("xpu", "auto, cpu, cuda or cuda:K")])
def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, name: str, expected: str) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=expected):
        find_device(name)


def test_memory_is_tuned_only_with_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: no such library")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    keep_freed_memory()


@pytest.mark.parametrize(
    ("isa", "fast"),
    [("", True), ("default", True), ("AVX512_CORE_BF16", True), ("AVX2", False), ("AVX512_CORE", False)],
)
def test_bfloat16_in_software_is_no_gain(monkeypatch: pytest.MonkeyPatch, isa: str, fast: bool) -> None:
    """The processor has it, and oneDNN uses it or not: the answer is the same on an idle and on a busy machine."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
    assert has_fast_bf16(torch.device("cpu")) is fast
