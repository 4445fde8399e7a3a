"""The process that listens: a socket of its own, uvicorn on it, and a stop that hands back what is not done."""

from __future__ import annotations

import asyncio
import socket
import threading
from types import FrameType

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from unetpp.errors import UsageError
from unetpp.serve.app import create_app
from unetpp.serve.state import ServerState

GRACE_S = 20
"""Seconds that open connections have to end when the server stops."""
BACKLOG = 2048
IDLE_S = 30
"""Seconds in which a connection has to send the head of a request, the first one too; else it gives up its place."""


class _PromptProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """Closes connections without a request: uvicorn waits for the first one for ever, and counts them."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._idle_after: object = None
        self._check = self.loop.call_later(IDLE_S, self._close_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._check.cancel()
        super().connection_lost(exc)

    def _close_idle(self) -> None:
        """Close a connection that has waited after the same request at this check and at the one before."""
        waits = self.cycle is None or self.cycle.response_complete
        if waits and self._idle_after is self.cycle:
            self.transport.close()
            return
        self._idle_after = self.cycle if waits else self
        self._check = self.loop.call_later(IDLE_S, self._close_idle)


class HttpServer(uvicorn.Server):
    """Serves one state until it is told to stop.

    Args:
        state: models, jobs and folders.
    """

    def __init__(self, state: ServerState) -> None:
        limits = state.limits
        config = uvicorn.Config(
            create_app(state),
            log_level="warning",
            access_log=False,
            limit_concurrency=limits.connections,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=GRACE_S,
            server_header=False,
            http=_PromptProtocol,
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
