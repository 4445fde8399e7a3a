"""Peak memory of a part of a program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from unetpp.runtime import peak_memory
from unetpp.runtime.peak_memory import watch_memory

CPU = torch.device("cpu")


@pytest.mark.skipif(not watch_memory(CPU)(), reason="the system does not tell the peak memory of a process")
def test_a_peak_before_the_watch_does_not_count() -> None:
    del_me = np.ones(400_000_000, np.uint8)
    assert del_me[-1]
    del del_me
    memory = watch_memory(CPU)
    part = np.ones(200_000_000, np.uint8)
    assert part[-1]
    del part
    found = memory()
    taken = found["memory_mb"] - found["memory_before_mb"]
    assert 190 < taken < 350


def test_a_system_that_does_not_tell_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peak_memory, "_MARK", tmp_path / "nowhere" / "clear_refs")
    assert watch_memory(CPU)() == {}
    monkeypatch.setattr(peak_memory, "_MARK", tmp_path / "clear_refs")
    monkeypatch.setattr(peak_memory, "_STATUS", tmp_path / "status")
    (tmp_path / "status").write_text("VmRSS: 12 kB\n")
    assert watch_memory(CPU)() == {}
