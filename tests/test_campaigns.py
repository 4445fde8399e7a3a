"""Short forms of the campaigns of docs/reliability.md."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.campaigns.mutations import mutate
from benchmarks.campaigns.outcome import Outcome, judge

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(sys.platform != "linux", reason="the campaigns fork processes")
@pytest.mark.parametrize("names", ["kill writes full", "fuzz soak"])
def test_a_short_campaign_finds_no_fault(names: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.campaigns", *names.split(), "--seed", "0", "--keep", str(tmp_path)]
    paths = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "together" in done.stdout


@pytest.mark.parametrize(
    ("code", "text", "fault"),
    [
        (0, "", None),
        (2, "unetpp: x: got y; expected z.", None),
        (2, "2 problems to fix.", None),
        (2, "", "0 messages"),
        (2, "unetpp: a\nunetpp: b", "2 messages"),
        (1, "Traceback (most recent call last)", "an unexpected error"),
        (70, "", "exit code 70"),
        (-11, "", "signal SIGSEGV"),
    ],
)
def test_what_is_a_fault(code: int, text: str, fault: str | None) -> None:
    found = judge(Outcome(code, text, 1.0))
    assert found is None if fault is None else found is not None and found.startswith(fault)


@pytest.mark.parametrize("content", [b"", b"x", b'{"a": [1, {"b": null}]}', b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_mutations_are_those_of_their_seed(content: bytes) -> None:
    changed = [mutate(content, random.Random(seed)) for seed in range(40)]
    assert changed == [mutate(content, random.Random(seed)) for seed in range(40)]
    assert len(set(changed)) > 10 or not content
