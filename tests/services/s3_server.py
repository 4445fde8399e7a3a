"""An S3 server on loopback: moto's, in a process of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

START_S = 120
"""It takes tens of seconds where many programs run."""


def find_server() -> list[str] | None:
    """The command that starts it; None: it is not installed."""
    beside = Path(sys.executable).with_name("moto_server")
    found = shutil.which("moto_server") or (str(beside) if beside.is_file() else None)
    if found:
        return [found]
    return [sys.executable, "-m", "moto.server"] if find_spec("moto") else None


@contextmanager
def run_server(command: list[str], *buckets: str) -> Iterator[str]:
    """Run it on a free port; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [*command, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(server, f"{address}/moto-api/")
        for bucket in buckets:
            urllib.request.urlopen(urllib.request.Request(f"{address}/{bucket}", method="PUT"), timeout=20).close()
        yield address
    finally:
        server.terminate()
        server.wait(20)


def _wait(server: subprocess.Popen[bytes], address: str) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and server.poll() is None:
        with suppress(OSError):
            urllib.request.urlopen(address, timeout=5).close()
            return
        time.sleep(0.2)
    raise RuntimeError(f"the server did not start: exit code {server.poll()}")
