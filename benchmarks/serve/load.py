"""Many clients for some minutes, some of them slow, then thousands of open connections; errors, times, memory.

locust has an environment of its own:

python -m venv /tmp/locust && /tmp/locust/bin/pip install locust
python -m benchmarks.serve.load MODEL IMAGES /tmp/locust/bin/locust [--clients 50] [--minutes 10] [--open 10000]

`unetpp predict` segments the same images in between, before and after: its processor time for an image is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from pathlib import Path

from benchmarks.serve.server import Started, start_server
from benchmarks.serve.throughput import list_images, predict

TOKEN = "a-token-of-the-load"
SLOW = 20
"""Clients that send an upload byte by byte, beside the others."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images", type=Path)
    parser.add_argument("locust")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--open", type=int, default=10_000)
    parser.add_argument("--count", type=int, default=40)
    arguments = parser.parse_args()
    files = list_images(arguments.images, 256)[: arguments.count]
    with tempfile.TemporaryDirectory() as folder, start_server(arguments.model, "--token", TOKEN) as server:
        images = Path(folder) / "images"
        images.mkdir()
        for path in files:
            (images / path.name).symlink_to(path.absolute())
        alone = [predict(arguments.model, files, Path(folder) / "before")]
        show_load(server, images, arguments)
        alone.append(predict(arguments.model, files, Path(folder) / "after"))
        busy = statistics.mean(1e3 * cpu / len(files) for _, cpu in alone)
        print(f"`unetpp predict` took {busy:.0f} ms of processor time for an image.")
        show_connections(server, arguments.open)


def show_load(server: Started, images: Path, arguments: argparse.Namespace) -> None:
    """Let the clients ask, and print what came of it."""
    memory: list[float] = []
    stopping, slow = threading.Event(), Counter[str]()
    threads = [threading.Thread(target=watch_memory, args=(server, memory, stopping))]
    threads += [threading.Thread(target=send_slowly, args=(server, slow)) for _ in range(SLOW)]
    for thread in threads:
        thread.start()
    busy, started = server.cpu_seconds(), time.perf_counter()
    command = [arguments.locust, "-f", str(Path(__file__).with_name("locustfile.py")), "--headless", "--json"]
    command += ["--host", server.address, "--users", str(arguments.clients), "--spawn-rate", str(arguments.clients)]
    command += ["--run-time", f"{round(60 * arguments.minutes)}s", "--stop-timeout", "120"]
    env = {**os.environ, "UNETPP_IMAGES": str(images), "UNETPP_TOKEN": TOKEN}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    seconds, busy = time.perf_counter() - started, server.cpu_seconds() - busy
    stopping.set()
    for thread in threads:
        thread.join()
    rows = json.loads(done.stdout[done.stdout.index("[") :])
    print("| | requests | errors | p50 s | p95 s |\n|---|---|---|---|---|")
    for row in sorted(rows, key=lambda row: row["name"]):
        times = sorted(float(value) for value, count in row["response_times"].items() for _ in range(count))
        p50, p95 = (times[min(len(times) - 1, int(part * len(times)))] / 1e3 for part in (0.5, 0.95))
        print(f"| {row['name']} | {row['num_requests']} | {row['num_failures']} | {p50:.2f} | {p95:.2f} |")
    whole = next((row["num_requests"] for row in rows if row["name"] == "image to segmentation"), 0)
    print(f"\n{whole / seconds:.2f} images a second, {1e3 * busy / max(1, whole):.0f} ms of processor time for each.")
    shown = ", ".join(f"{memory[int(part * (len(memory) - 1))]:,.0f}" for part in (0, 0.25, 0.5, 0.75, 1))
    print(f"Resident memory at the start, after each quarter and at the end: {shown} MB.")
    print(f"{SLOW} slow clients: {dict(slow)}.")


def watch_memory(server: Started, memory: list[float], stopping: threading.Event) -> None:
    while not stopping.wait(1):
        memory.append(server.memory_mb())


def connect(server: Started, timeout_s: float) -> socket.socket:
    place = urllib.parse.urlsplit(server.address)
    return socket.create_connection((place.hostname, place.port), timeout_s)


def send_slowly(server: Started, found: Counter[str]) -> None:
    """Send the body of an upload byte by byte, until the server has enough."""
    head = f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n"
    with connect(server, 600) as client:
        part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="slow.png"\r\n\r\n'
        client.sendall(head.encode() + part)
        client.settimeout(1)
        for _ in range(600):
            try:
                client.sendall(b"x")
                answer = client.recv(100)
            except TimeoutError:
                continue
            except OSError:
                answer = b""
            found[answer[9:12].decode() or "closed"] += 1
            return
        found["still there after 600 s"] += 1


def show_connections(server: Started, count: int) -> None:
    """Open many connections at once, and say what each was told; then the server has to answer as before."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(count + 500, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    found, opened, started = Counter[str](), [], time.perf_counter()
    for _ in range(count):
        try:
            opened.append(connect(server, 30))
        except OSError as error:
            found[f"not connected ({type(error).__name__})"] += 1
    for client in opened:
        client.settimeout(0.02)
        try:
            found[client.recv(100)[9:12].decode() or "closed"] += 1
        except TimeoutError:
            found["has a place"] += 1
        except OSError as error:
            found[type(error).__name__] += 1
    print(f"{count:,} connections in {time.perf_counter() - started:.0f} s: {dict(found)}; ", end="")
    for client in opened:
        client.close()
    code = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=120).status)"
    health = subprocess.run([sys.executable, "-c", code, f"{server.address}/healthz"], capture_output=True, text=True)
    tracebacks = (server.out / "log").read_text(errors="replace").count("Traceback")
    print(f"then /healthz: {health.stdout.strip() or health.stderr[-200:]}; {tracebacks} tracebacks in the log.")


if __name__ == "__main__":
    main()
