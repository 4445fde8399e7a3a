"""Folders and addresses: their names, their objects, and messages without credentials."""

from __future__ import annotations

import http.server
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from unetpp.errors import DataError, WriteError
from unetpp.formats import object_store
from unetpp.formats.object_store import hide_secrets, is_address, name_place, open_objects, store_failures

pytest.importorskip("zarr", reason="the extra cluster is not installed")
pytest.importorskip("obstore", reason="the extra cluster is not installed")


def test_an_address_survives_being_a_path() -> None:
    assert name_place(Path("s3://bucket/a/b.zarr")) == "s3://bucket/a/b.zarr"
    assert name_place("https://host/a.zarr/") == "https://host/a.zarr"
    assert not is_address("C:/data/in.zarr")
    assert not is_address("in.zarr")


def test_messages_hold_no_secrets() -> None:
    assert hide_secrets("https://user:word@host/a.zarr?X-Amz-Signature=abc") == "https://host/a.zarr"
    said = "403 Forbidden: <Code>SignatureDoesNotMatch</Code> AKIAABCDEFGHIJKLMNOP secret=verysecret"
    with pytest.raises(WriteError) as failed, store_failures("s3://bucket/a", writes=True):
        raise PermissionError(said)
    text = str(failed.value)
    assert "403 Forbidden, SignatureDoesNotMatch" in text
    assert "AKIA" not in text
    assert "verysecret" not in text


def test_objects_are_written_read_listed_and_deleted(tmp_path: Path) -> None:
    objects = open_objects(tmp_path / "new", writes=True)
    assert objects.read("a/b") is None
    objects.write("a/b", b"12")
    objects.write("a/c/d", b"")
    assert objects.read("a/b") == b"12"
    assert sorted(key for key, _ in objects.list_keys("a")) == ["a/b", "a/c/d"]
    objects.delete(["a/b", "a/none"])
    assert [key for key, _ in objects.list_keys("")] == ["a/c/d"]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        open_objects(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="a folder"):
        open_objects(tmp_path / "file" / "out.zarr", writes=True)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("x"), "an unexpected error (ValueError)"),
        (FileNotFoundError("no"), "nothing there"),
        (type("GenericError", (Exception,), {})("IO: No space (os error 28)"), "No space left on device"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (type("GenericError", (Exception,), {})("500 Internal Server Error"), "500 Internal Server Error"),
        (type("GenericError", (Exception,), {})("missing credentials"), "no credentials"),
    ],
)
def test_failures_become_one_message(error: Exception, said: str) -> None:
    with pytest.raises(DataError, match=said.replace("(", r"\(").replace(")", r"\)")), store_failures("place"):
        raise error


def test_a_server_that_fails_for_a_while_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """More often than obstore does by itself: what ends it is the time, three minutes."""
    monkeypatch.setitem(object_store._BACKOFF, "init_backoff", timedelta(milliseconds=1))
    monkeypatch.setitem(object_store._BACKOFF, "max_backoff", timedelta(milliseconds=2))
    answers = [500] * 30

    class Failing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code = answers.pop() if answers else 200
            self.send_response(code)
            self.send_header("Content-Length", "2")
            self.send_header("Last-Modified", "Mon, 30 Nov 2026 12:00:00 GMT")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert open_objects(f"http://127.0.0.1:{server.server_port}/a").read("key") == b"ok"
        server.shutdown()
    assert not answers
