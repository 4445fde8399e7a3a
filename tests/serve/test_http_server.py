"""The verb as a process: it listens, says where, and stops in good order; what cannot work is refused at once."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serve.conftest import MakeState

import unetpp
from unetpp.client import Client
from unetpp.errors import MissingExtraError, UsageError
from unetpp.serve import http_server
from unetpp.serve.http_server import HttpServer, listen, raise_file_limit, start_in_thread


def test_a_server_is_started_asked_and_stopped(trained: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unetpp", "serve", str(trained), "--port", "0", "--out", str(tmp_path / "s")]
    command += ["--data", str(trained.parent / "data"), "--device", "cpu", "--json"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        command, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, **pipes
    ) as process:
        line = ""
        while "Open http" not in line:
            line = process.stderr.readline()  # type: ignore[union-attr]
            assert line, process.communicate()
        address = re.search(r"http://[\d.:]+", line)
        assert address is not None
        client = Client(address[0], timeout_s=300)
        assert client.predict(case=client.cases()[0]["id"])["state"] == "done"
        process.send_signal(signal.SIGTERM)
        answer, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert json.loads(answer)["jobs"] == {"done": 1} and "Traceback" not in errors


def test_what_cannot_work_is_refused_at_once(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="models"):
        unetpp.serve(out=tmp_path, progress=False)
    with pytest.raises(UsageError, match="run folder"):
        unetpp.serve(run=tmp_path / "none", out=tmp_path, progress=False)
    with pytest.raises(UsageError, match="token"):
        unetpp.serve(trained, host="0.0.0.0", out=tmp_path, progress=False)
    with pytest.raises(UsageError, match="memory_gb"):
        unetpp.serve(trained, memory_gb=0, out=tmp_path, progress=False)
    with pytest.raises(UsageError, match="token_file"):
        unetpp.serve(trained, token_file=tmp_path / "none", out=tmp_path, progress=False)


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="port"):
            listen("127.0.0.1", taken.getsockname()[1])
    for host, port in (("127.0.0.1", 99999), ("no.such.host.invalid", 0)):
        with pytest.raises(UsageError, match="port"):
            listen(host, port)


def test_connections_without_a_request_give_up_their_place(
    make_state: MakeState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "IDLE_S", 0.2)
    server, opened = (
        HttpServer(make_state([], data=None, run=Path(), limits={"connections": 8})),
        listen("127.0.0.1", 0),
    )
    thread, place = start_in_thread(server, opened), opened.getsockname()
    try:
        with contextlib.ExitStack() as stack:
            idle = [stack.enter_context(socket.create_connection(place, 30)) for _ in range(12)]
            idle[0].sendall(b"GET /healthz HTT")
            answers = {each.recv(12) for each in idle}
        assert answers == {b"", b"HTTP/1.1 503"}  # closed after a while, and refused at once
        assert Client(f"http://127.0.0.1:{place[1]}").jobs() == []
    finally:
        server.stop()
        thread.join(30)


def test_connections_beyond_the_limit_are_refused_in_words(make_state: MakeState) -> None:
    server = HttpServer(make_state([], data=None, run=Path(), limits={"connections": 4}))
    opened = listen("127.0.0.1", 0)
    thread, place = start_in_thread(server, opened), opened.getsockname()
    try:
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(socket.create_connection(place, 30)) for _ in range(12)]
            answers = [each.recv(10_000) for each in connections[4:8]]  # the first four have a place and hear nothing
            for head, _, body in (answer.partition(b"\r\n\r\n") for answer in answers):
                assert head.startswith(b"HTTP/1.1 503") and b"Retry-After" in head
                assert "too many open connections" in json.loads(body)["detail"]
            connections[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert connections[0].recv(100).startswith(b"HTTP/1.1 200")
        assert Client(f"http://127.0.0.1:{place[1]}").jobs() == []
    finally:
        server.stop()
        thread.join(30)


def test_who_does_not_read_gives_up_its_place(make_state: MakeState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "IDLE_S", 0.2)
    server, opened = HttpServer(make_state([], data=None, run=Path())), listen("127.0.0.1", 0)
    thread, place = start_in_thread(server, opened), opened.getsockname()
    try:
        with socket.socket() as greedy:
            greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            greedy.settimeout(30)
            greedy.connect(place)
            ask = b"GET /web/vendor/niivue.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            greedy.sendall(ask * 10)
            while server.server_state.connections or not server.server_state.total_requests:
                time.sleep(0.01)
    finally:
        server.stop()
        thread.join(30)


def test_cookies_are_sent_over_tls_alone_behind_a_proxy(make_state: MakeState) -> None:
    server, opened = HttpServer(make_state(tokens=("0123456789abcdef",))), listen("127.0.0.1", 0)
    thread, address = start_in_thread(server, opened), f"http://127.0.0.1:{opened.getsockname()[1]}"
    try:
        for headers in ({"X-Forwarded-Proto": "https", "Origin": "https://lab.example", "Host": "lab.example"}, {}):
            body = {"token": "0123456789abcdef"}
            answer = httpx.post(f"{address}/v1/login", json=body, headers=headers, timeout=60, trust_env=False)
            assert answer.status_code == 204 and ("Secure" in answer.headers["set-cookie"]) == bool(headers)
    finally:
        server.stop()
        thread.join(30)


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch, trained: Path) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(MissingExtraError, match="serve"):
        unetpp.serve(trained, progress=False)


def test_the_limit_of_open_files_is_raised_where_the_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: raised.append(limits))
    raise_file_limit(100)
    assert raised[0][0] > 300 and raised[0][1] == resource.RLIM_INFINITY
