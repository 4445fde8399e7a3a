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

ENVIRONMENT = Path(sys.prefix, "services")
"""What `make services` installs (requirements.txt beside this file), apart from all else: botocore wants other versions
of packages that we use, too."""
START_S = 120
"""It takes tens of seconds where many programs run."""


def find_server() -> list[str] | None:
    """The command that starts it; None: it is not installed."""
    if python := find_python("moto"):
        return [*python, "-m", "moto.server"]
    found = shutil.which("moto_server")
    return [found] if found else None


def find_python(package: str) -> list[str] | None:
    """An interpreter that has a package: that of the environment of services, or this one; None: neither has it."""
    inner = ENVIRONMENT / "bin" / "python"
    if inner.exists() and any(ENVIRONMENT.glob(f"lib/python*/site-packages/{package}")):
        return [str(inner)]
    return [sys.executable] if find_spec(package) else None


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
