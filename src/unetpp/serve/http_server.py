"""The process that listens: a socket of its own, uvicorn on it, and a stop that hands back what is not done."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from contextlib import suppress
from types import FrameType

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from unetpp.errors import Problem, UsageError
from unetpp.serve.app import create_app
from unetpp.serve.problems import PROBLEM_TYPE, make_body
from unetpp.serve.state import ServerState

GRACE_S = 20
"""Seconds that open connections have to end when the server stops."""
BACKLOG = 2048
REFUSED_S = 1.0
"""Seconds in which a client that is refused may read why."""
FILES_FOR_EACH, FILES_BESIDE = 4, 256
"""Open files for each connection, that of a refused one included, and of the rest of the process."""
IDLE_S = 30
"""Seconds in which a connection has to send the head of a request, the first one too; else it gives up its place."""


class _BoundedProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """Refuses connections beyond a number, and closes those that only take a place.

    uvicorn accepts any number of them, until the process has no files left, and waits for ever for the first request
    and for clients that do not read what they have asked for.
    """

    most: int
    """Largest number of connections at the same time."""
    refused: set[_BoundedProtocol]
    """Connections that are being told so."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._is_refused = len(self.connections) >= self.most
        if self._is_refused:
            self.transport = transport
            transport.write(_REFUSAL)
            self._check = self.loop.call_later(REFUSED_S, transport.close)
            self.refused.add(self)
            if len(self.refused) > self.most:  # no files for good manners
                transport.abort()
            return
        super().connection_made(transport)
        self._idle_after: object = None
        self._unsent = 0
        self._check = self.loop.call_later(IDLE_S, self._close_idle)

    def data_received(self, data: bytes) -> None:
        """Read a request; that of a refused connection ends it: with unread bytes, its client would see a reset."""
        if self._is_refused:
            self.transport.close()
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._check.cancel()
        if self._is_refused:
            self.refused.discard(self)
        else:
            super().connection_lost(exc)

    def _close_idle(self) -> None:
        """Close a connection that has waited after the same request, or for its reader, since the last check."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent == self._unsent:
            self.transport.abort()
            return
        self._unsent = unsent
        waits = self.cycle is None or self.cycle.response_complete
        if waits and self._idle_after is self.cycle:
            self.transport.close()
            return
        self._idle_after = self.cycle if waits else self
        self._check = self.loop.call_later(IDLE_S, self._close_idle)


def _write_refusal() -> bytes:
    problem = Problem("server", "too many open connections", "a free place", "Try again in some seconds.")
    body = json.dumps(make_body(503, [problem])).encode()
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: {PROBLEM_TYPE}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Retry-After: 10\r\nConnection: close\r\n\r\n".encode() + body


_REFUSAL = _write_refusal()


def raise_file_limit(connections: int) -> None:
    """Let the process open as many files as its connections and their uploads and results need, where it may."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_FOR_EACH * connections + FILES_BESIDE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):  # macOS has a limit below what it tells
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class HttpServer(uvicorn.Server):
    """Serves one state until it is told to stop.

    Args:
        state: models, jobs and folders.
    """

    def __init__(self, state: ServerState) -> None:
        limits = state.limits
        raise_file_limit(limits.connections)
        config = uvicorn.Config(
            create_app(state),
            log_level="warning",
            access_log=False,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=GRACE_S,
            server_header=False,
            http=type("Protocol", (_BoundedProtocol,), {"most": limits.connections, "refused": set()}),
            proxy_headers=True,  # https, from a proxy on this machine: cookies are then sent over TLS alone
            forwarded_allow_ips=["127.0.0.1", "::1"],
            lifespan="on",
        )
        super().__init__(config)
        self._state = state

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Let streams end and take no more jobs, then stop."""
        self._state.stopping.set()
        super().handle_exit(sig, frame)

    def stop(self) -> None:
        """Stop from another thread."""
        self._state.stopping.set()
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """Open the socket; port 0 is any that is free.

    Raises:
        UsageError: the host or the port cannot be used.
    """
    opened: socket.socket | None = None
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(BACKLOG)  # who comes before the first model is loaded waits
    except (OSError, OverflowError) as error:
        if opened is not None:
            opened.close()
        reason = getattr(error, "strerror", None) or str(error)
        action = "Choose another `port`, or stop what uses it."
        raise UsageError("port", f"{host}, port {port} ({reason})", "an address that is free", action) from None
    opened.set_inheritable(False)
    return opened


def start_in_thread(server: HttpServer, opened: socket.socket) -> threading.Thread:
    """Run a server in a thread, as tests and notebooks do."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    return thread
