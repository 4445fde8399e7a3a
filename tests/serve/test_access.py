"""Who may ask: tokens, other hosts, other origins, slow and endless bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.serve.conftest import MakeState

from unetpp.errors import UsageError
from unetpp.serve import access
from unetpp.serve.access import AccessLayer, is_loopback, read_tokens, require_token_for
from unetpp.serve.limits import Limits
from unetpp.serve.problems import Refused
from unetpp.serve.state import ServerState

TOKEN = "0123456789abcdef"
OpenClient = Callable[[ServerState], TestClient]


@pytest.fixture
def guarded(make_state: MakeState, open_client: OpenClient) -> TestClient:
    return open_client(make_state(tokens=(TOKEN,)))


def test_without_a_token_nothing_but_the_page_is_shown(guarded: TestClient) -> None:
    for path in ("/v1/models", "/v1/jobs", "/metrics", "/openapi.json", "/docs", "/v1/server"):
        answer = guarded.get(path)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer", path
        assert guarded.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert guarded.get(path, headers={"Cookie": "unetpp_session=wrong"}).status_code == 401
        assert guarded.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    for path in ("/", "/healthz", "/readyz", "/web/app.js"):
        assert guarded.get(path).status_code in (200, 503)


def test_a_browser_logs_in_once(guarded: TestClient) -> None:
    assert guarded.post("/v1/login", json={"token": "wrong"}).status_code == 401
    assert guarded.post("/v1/login", json={"token": "a" * 5000}).status_code == 413  # no token is that long
    answer = guarded.post("/v1/login", json={"token": TOKEN})
    assert answer.status_code == 204 and TOKEN not in answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict"} <= {each.strip() for each in answer.headers["set-cookie"].split(";")}
    assert guarded.get("/v1/models").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_pages_cannot_post(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/v1/trainings", json={"minutes": 1}, headers=headers).status_code == 403
    assert client.delete("/v1/jobs/none", headers=headers).status_code == 403


def test_the_own_page_can_post(client: TestClient) -> None:
    headers = {"Origin": "http://127.0.0.1:8765", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/v1/trainings", json={"minutes": 1}, headers=headers).status_code == 409


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "[", "169.254.1.1"]
)
def test_other_names_for_this_machine_are_refused(client: TestClient, host: str) -> None:
    assert client.get("/v1/models", headers={"Host": host}).status_code == 403


def test_answers_cannot_be_embedded_or_run(client: TestClient) -> None:
    for path in ("/", "/v1/models", "/v1/jobs/none"):
        headers = client.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "example.org", "::"])
def test_other_hosts_need_a_token(host: str) -> None:
    with pytest.raises(UsageError, match="token"):
        require_token_for(host, ())
    require_token_for(host, (TOKEN,))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.8.8"])
def test_this_machine_needs_none(host: str) -> None:
    assert is_loopback(host)
    require_token_for(host, ())


@pytest.mark.parametrize("content", ["", "# nothing\n", "short\n", None])
def test_token_files_without_a_good_token_are_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokens"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match="token"):
        read_tokens(path)


def test_tokens_are_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# of the lab\n{TOKEN}\n\n{TOKEN}2\n")
    assert read_tokens(path) == (TOKEN, f"{TOKEN}2")


def test_slow_clients_give_up_their_place() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def never() -> Any:
        await asyncio.sleep(60)

    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "headers": [(b"host", b"127.0.0.1")]}
    layer = AccessLayer(app, (), Limits(chunk_seconds=0.05))
    with pytest.raises(Exception, match="nothing for") as error:
        asyncio.run(layer(scope, never, never))  # type: ignore[arg-type]
    assert error.value.status_code == 408  # type: ignore[attr-defined]


def upload_in_pieces(layer_limits: Limits, pause_s: float, require_room: Any = None) -> None:
    """Send an upload of an unknown length, piece by piece, to an application that reads all of it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    sent = iter([b"x" * 10] * 50)

    async def receive() -> Any:
        await asyncio.sleep(pause_s)
        piece = next(sent, b"")
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "headers": [(b"host", b"127.0.0.1")]}
    asyncio.run(AccessLayer(app, (), layer_limits, require_room)(scope, receive, receive))  # type: ignore[arg-type]


def test_uploads_that_drip_give_up_their_place() -> None:
    with pytest.raises(Refused, match="faster") as error:
        upload_in_pieces(Limits(chunk_seconds=0.03, slowest_bytes=1e6), 0.01)
    assert error.value.status_code == 408
    upload_in_pieces(Limits(chunk_seconds=30, slowest_bytes=1e6), 0)


def test_room_is_looked_for_while_an_upload_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "CHECK_BYTES", 100)
    asked: list[tuple[int, int]] = []

    def require_room(coming: int, received: int) -> None:
        asked.append((coming, received))
        if received >= 300:
            raise Refused(507, "upload", "300", "less")

    with pytest.raises(Refused, match="300"):
        upload_in_pieces(Limits(), 0, require_room)
    assert asked == [(0, 0), (100, 100), (100, 200), (100, 300)]
