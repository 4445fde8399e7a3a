"""Who may ask: tokens, hosts, origins, and the size of what is sent. One ASGI layer before everything else."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unetpp.errors import UsageError
from unetpp.serve.limits import Limits
from unetpp.serve.problems import PROBLEM_TYPE, Refused, make_body

COOKIE = "unetpp_session"
PREDICT, LOGIN = "/v1/predict", "/v1/login"
OPEN_PATHS = ("/", "/healthz", "/readyz", LOGIN, "/favicon.ico")
"""Paths that need no token: the page itself holds nothing, and asks for one."""
OPEN_FOLDERS = ("/web/",)
_SAFE = ("GET", "HEAD", "OPTIONS")
SHORTEST_TOKEN = 16
CHECK_BYTES = 16 * 2**20
"""Bytes of an upload after which room for as many more is looked for: its length may not be known, nor be true."""
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval' blob:; worker-src 'self' blob:; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self' blob: data:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def read_tokens(path: Path) -> tuple[str, ...]:
    """Read a file with one token in each line; lines that begin with # are remarks.

    Raises:
        UsageError: it cannot be read, or holds no token that is long enough.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError("token_file", f"{path} ({reason})", "a file with a token in each line") from None
    tokens = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    action = 'Make one: python -c "import secrets; print(secrets.token_urlsafe())" > FILE'
    if not tokens or min(map(len, tokens)) < SHORTEST_TOKEN:
        got = "no token" if not tokens else f"a token of {min(map(len, tokens))} characters"
        raise UsageError("token_file", f"{path} with {got}", f"tokens of {SHORTEST_TOKEN} characters or more", action)
    return tokens


def require_token_for(host: str, tokens: tuple[str, ...]) -> None:
    """Raise UsageError for a host that other machines reach, without a token."""
    if not is_loopback(host) and not tokens:
        action = "Give `token_file`, or leave out `host`, so that only this machine reaches the server."
        raise UsageError("host", f"{host}, which other machines reach, without a token", "a token", action)


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine alone."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def make_cookie(token: str) -> str:
    """Return what the browser keeps instead of a token: its digest cannot be used elsewhere."""
    return hmac.new(token.encode(), b"unetpp serve", hashlib.sha256).hexdigest()


class AccessLayer:
    """Refuses requests without a token, from other origins, for other hosts, and those that are too large or too slow.

    Args:
        app: what answers the others.
        tokens: of which one is needed; empty: none is.
        limits: of the server.
        require_room: called with the bytes of an upload that will come, and those that have; refuses it where there is
            no room, before it is read and while it is. None: there is room for all.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: tuple[str, ...],
        limits: Limits,
        require_room: Callable[[int, int], None] | None = None,
    ) -> None:
        self._app, self._tokens, self._limits, self._require_room = app, tokens, limits, require_room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check(scope, headers)
            is_upload = scope["path"] == PREDICT and scope["method"] not in _SAFE
            require_room = self._require_room if is_upload else None
            receive = self._limit(scope, headers, receive, require_room)
            if require_room is not None:
                await run_in_threadpool(require_room, int(headers.get("content-length", "0")), 0)
        except Refused as refused:
            body = make_body(refused.status_code, [refused.problem])
            answer = JSONResponse(body, refused.status_code, refused.headers, media_type=PROBLEM_TYPE)
            await answer(scope, receive, _secure(send))
            return
        await self._app(scope, receive, _secure(send))

    def _check(self, scope: Scope, headers: Headers) -> None:
        if not self._tokens:
            _require_local_host(headers)
        if scope["method"] not in _SAFE:
            _require_same_origin(headers)
        path = scope["path"]
        if self._tokens and path not in OPEN_PATHS and not path.startswith(OPEN_FOLDERS) and not self.knows(headers):
            action = "Send the header `Authorization: Bearer TOKEN`, or log in on the page."
            raise Refused(
                401, "token", "none, or a wrong one", "one of the token file", action, {"WWW-Authenticate": "Bearer"}
            )

    def knows(self, headers: Mapping[str, str]) -> bool:
        """Tell whether a request has a token, as a header or as the cookie of the page."""
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and find_token(given.strip(), self._tokens):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        known = [make_cookie(token) for token in self._tokens]
        return cookie is not None and any(hmac.compare_digest(cookie.value.encode(), each.encode()) for each in known)

    def _limit(
        self, scope: Scope, headers: Headers, receive: Receive, require_room: Callable[[int, int], None] | None
    ) -> Receive:
        """Count the bytes of a body while it is read, whatever its header says, and look for room for more."""
        limits = self._limits
        of_paths = {PREDICT: limits.upload_bytes, LOGIN: min(limits.login_bytes, limits.body_bytes)}
        limit = of_paths.get(scope["path"], limits.body_bytes)
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > limit:
            raise _too_large(declared, limit)
        seconds, total, checked, started = self._limits.chunk_seconds, 0, 0, time.monotonic()

        async def receive_some() -> Message:
            nonlocal total, checked
            waits = scope["method"] not in _SAFE and total >= 0
            try:
                message = await (asyncio.wait_for(receive(), seconds) if waits else receive())
            except TimeoutError:
                raise Refused(
                    408, "body", f"nothing for {seconds:g} s", "the rest of the body", "Send it again."
                ) from None
            total += len(message.get("body", b"")) if total >= 0 else 0
            late = time.monotonic() - started - limits.chunk_seconds
            if waits and late > 0 and message.get("more_body", False) and total < late * limits.slowest_bytes:
                got, expected = f"{total:,} bytes in {late + limits.chunk_seconds:.0f} s", "a body that comes faster"
                raise Refused(408, "body", got, expected, "Send it over a faster connection.")
            if total > limit:
                raise _too_large(str(total), limit)
            if require_room is not None and total >= checked + CHECK_BYTES:
                checked = total
                await run_in_threadpool(require_room, CHECK_BYTES, total)
            if not message.get("more_body", False):
                total = -1  # what comes now is the end of the connection
            return message

        return receive_some


def find_token(given: str, tokens: tuple[str, ...]) -> str | None:
    """Find a token without telling by the time how much of it is right."""
    found = [token for token in tokens if hmac.compare_digest(given.encode(), token.encode())]
    return found[0] if found else None


def _too_large(got: str, limit: int) -> Refused:
    shown = f"{int(got) / 1e6:,.1f} MB" if got.isdecimal() else "a length that is no number"
    return Refused(413, "body", shown, f"at most {limit / 1e6:,.0f} MB", "Send less at once.")


def _require_local_host(headers: Headers) -> None:
    """Refuse other names for this machine: a page elsewhere might have pointed its name at it (DNS rebinding)."""
    try:
        name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        name = ""
    if not is_loopback(name):
        action = "Open http://127.0.0.1 with the port, or start the server with a token."
        raise Refused(403, "host", repr(name[:80]), "localhost", action)


def _require_same_origin(headers: Headers) -> None:
    """Refuse what another page has a browser send; programs send no origin."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
    own = headers.get("host", "")
    if (origin is not None and origin.partition("://")[2] != own) or site not in ("same-origin", "none"):
        got = f"a request of another page ({(origin or site)[:80]})"
        raise Refused(403, "origin", got, f"one of {own}", "Use the page of this server.")


def _secure(send: Send) -> Send:
    """Add the headers that keep a browser from running or embedding what it should not."""

    async def send_secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_secured
