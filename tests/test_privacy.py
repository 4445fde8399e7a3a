"""Nothing phones home, and nothing is written but the outputs: every verb, in processes that are watched.

A hook on the events of Python's audit log ends a process that looks a host up or connects to one. Where the system
has network namespaces (`unshare -rn`), there is no network either. HOME, TMPDIR and the XDG folders are empty folders,
which must stay empty.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import TINY, call_learned, set_options, write_png

HOOK = """
import os, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        if event != "socket.connect" or not isinstance(arguments[1], (str, bytes)):  # not a socket of this machine
            sys.stderr.write(f"NETWORK: {event} {arguments[1:]!r}\\n")
            os._exit(77)

sys.addaudithook(refuse)
"""
PLACES = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")
CACHE = "matplotlib/fontlist-*.json"
"""What is cached for the user (docs/trust.md): matplotlib's list of the fonts of the machine."""
COMMANDS = """
import json, sys, time
from unetpp import cli
for tokens in json.loads(sys.argv[2]):
    assert cli.run(tokens) == 0, tokens
time.sleep(float(sys.argv[1]))
"""


@functools.cache
def find_isolation() -> tuple[str, ...]:
    """The command that runs another one without network; () where the system has none."""
    command = (shutil.which("unshare") or "unshare", "-rn")
    try:
        works = subprocess.run([*command, "true"], capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return command if works else ()


class Watched:
    """Runs commands in processes that must leave the network and the user's folders alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        hook = folder / "hook"
        hook.mkdir(parents=True)
        (hook / "sitecustomize.py").write_text(HOOK)
        self.places = {name: folder / "canary" / name for name in PLACES}
        for place in self.places.values():
            place.mkdir(parents=True)
        path = os.pathsep.join([str(hook), *filter(None, sys.path)])
        kept = {key: value for key, value in os.environ.items() if key not in ("MPLCONFIGDIR", "PYTHONSTARTUP")}
        self.environment = {**kept, **{name: str(place) for name, place in self.places.items()}, "PYTHONPATH": path}

    def run(self, *commands: list[str], stays_s: float = 0.0) -> None:
        """Run verbs in one process, which stays alive for some seconds after them."""
        process = [sys.executable, "-c", COMMANDS, str(stays_s), json.dumps(commands)]
        command = [*find_isolation(), *process]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, cwd=self.folder)
        assert "NETWORK" not in done.stderr, done.stderr
        assert done.returncode == 0, done.stderr
        assert self.find_written() == []

    def find_written(self) -> list[str]:
        """List what lies in the folders that must stay empty."""
        found = {path for place in self.places.values() for path in place.rglob("*") if path.is_file()}
        return sorted(map(str, found - set(self.places["XDG_CACHE_HOME"].glob(CACHE))))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    found = Watched(tmp_path_factory.mktemp("watched"))
    rng = np.random.default_rng(0)
    for number in range(16):
        label = np.zeros((40, 40), np.uint8)
        label[8:24, 6 + number : 26] = 255
        write_png(found.folder / f"data/masks/case{number}.png", label)
        write_png(
            found.folder / f"data/images/case{number}.png", label // 2 + rng.integers(0, 60, label.shape, np.uint8)
        )
    places = (str(found.folder / "run"), str(found.folder / "data/images"))
    found.run(
        ["train", "data", "--out", "run", "--epochs", "1", "--device", "cpu", *set_options(TINY)],
        ["predict", *places, "--out", "named"],
    )
    yield found


def test_the_watch_sees_a_connection_and_a_file(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    connect = "import socket; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run([sys.executable, "-c", connect], env=watched.environment, capture_output=True, text=True)
    assert done.returncode == 77 and "NETWORK" in done.stderr
    write = "import pathlib; (pathlib.Path.home() / 'left').write_text('')"
    subprocess.run([sys.executable, "-c", write], env=watched.environment, check=True)
    assert watched.find_written() == [str(watched.places["HOME"] / "left")]


def test_every_verb_leaves_the_network_and_the_folders_of_the_user_alone(watched: Watched) -> None:
    call_learned(watched.folder / "run/fold_0/model.safetensors")
    watched.run(
        ["check", "data"],
        ["plan", "data", "--out", "planned", "--epochs", "1", "--device", "cpu"],
        ["info", "run"],
        ["predict", "run", "data/images", "--out", "out", "--device", "cpu"],
        ["evaluate", "out", "data/masks", "--out", "scores.json"],
        ["report", "run"],
        ["prune", "run", "--out", "small.safetensors", "--depth", "1"],
        ["adapt", "run", "--device", "cpu"],
    )


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_an_export_and_its_prediction_leave_them_alone_for_long(watched: Watched, suffix: str) -> None:
    pytest.importorskip({".onnx": "onnxruntime", ".xml": "openvino"}.get(suffix, "torch"))
    pytest.importorskip("onnxscript" if suffix == ".onnx" else "torch")
    watched.run(["export", "run", "--out", f"model{suffix}"], stays_s=15.0)
    if suffix != ".pt2":
        watched.run(["predict", f"model{suffix}", "data/images", "--out", f"out{suffix}"], stays_s=15.0)


def test_files_to_share_hold_no_path_of_the_machine(watched: Watched) -> None:
    """Model files, checkpoints, metrics, plans and reports name the data set and the cases, not where they lie."""
    files = [*(watched.folder / "run").rglob("*"), watched.folder / "named/predictions.json"]
    shared = [path for path in files if path.is_file() and "cache" not in path.parts and path.name != "data.txt"]
    assert {path.name for path in shared} >= {"model.safetensors", "last.ckpt", "predictions.json", "report.html"}
    secrets = [str(watched.folder), sys.prefix, f"{Path.home()}/", json.dumps(str(watched.folder))[1:-1]]
    for path in shared:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in content], path
