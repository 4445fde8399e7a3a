"""A server in a process of its own, for measurements: with any limits, and watched from outside.

python -m benchmarks.serve.server MODEL --out FOLDER [--limits '{"together": 1}'] [--token TOKEN] [--data DATA]

A run folder is the training that is shown, too.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True)
class Started:
    """A server that runs."""

    address: str
    out: Path
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """Return the processor time that it has taken so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def memory_mb(self) -> float:
        """Return its resident memory."""
        return float(self.process.memory_info().rss) / 1e6


@contextmanager
def start_server(model: str, *options: str, **limits: Any) -> Iterator[Started]:
    """Start a server whose first model is loaded, and stop it after.

    Args:
        model: run folder or model file.
        options: of the command line of this module.
        limits: fields of `unetpp.serve.limits.Limits`.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.serve.server", model, "--out", folder]
        command += ["--limits", json.dumps(limits), *options]
        with (
            (Path(folder) / "log").open("w") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
        ):
            try:
                assert process.stdout is not None
                found = re.search(r"http://\S+", process.stdout.readline())
                if found is None:
                    raise RuntimeError((Path(folder) / "log").read_text()[-2000:])
                _wait_until_ready(found[0])
                yield Started(found[0], Path(folder), psutil.Process(process.pid))
            finally:
                process.terminate()
                process.wait(60)


def _wait_until_ready(address: str, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{address}/readyz", timeout=60).close()
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(address)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limits", type=json.loads, default={})
    parser.add_argument("--token")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()

    from unetpp.serve.data_cases import DataCases
    from unetpp.serve.http_server import HttpServer, listen
    from unetpp.serve.job_store import JobStore
    from unetpp.serve.limits import Limits
    from unetpp.serve.model_shelf import ModelShelf
    from unetpp.serve.state import ServerState

    limits = Limits(**arguments.limits)
    shelf = ModelShelf([Path(arguments.model)], 4e9, "auto", arguments.backend, limits.together)
    store, cases = JobStore(arguments.out / "served"), DataCases(arguments.data)
    tokens = (arguments.token,) if arguments.token else ()
    run = Path(arguments.model) if Path(arguments.model).is_dir() else None
    state = ServerState(store, shelf, cases, arguments.out / "corrections", tokens=tokens, limits=limits, run=run)
    opened = listen("127.0.0.1", arguments.port)
    print(f"http://127.0.0.1:{opened.getsockname()[1]}", flush=True)
    HttpServer(state).run(sockets=[opened])


if __name__ == "__main__":
    main()
