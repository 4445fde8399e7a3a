"""A folder as a bucket of an S3 server on loopback, which fails when it is told to.

It knows what obstore asks for: put, get with ranges, head, delete, and lists. A file beside the folder holds how it
answers: well; with 500; after a rest; or with half of what was asked for.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

WELL, ERROR, SLOW, CUT = "well", "500", "slow", "cut"
SLOW_S = 0.7


def serve(folder: Path, port: int) -> None:
    """Serve a folder until this process is ended; each folder in it is a bucket."""
    handler = type("Handler", (_Handler,), {"folder": folder})
    ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()


def set_mood(folder: Path, mood: str) -> None:
    """Tell the server how to answer from now on."""
    path = _mood_file(folder)
    path.with_suffix(".new").write_text(mood)
    path.with_suffix(".new").replace(path)


def _mood_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.mood")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path

    def log_message(self, *arguments: object) -> None:
        pass

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._is_well():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self.headers.get("If-None-Match") == "*" and self._path.exists():
                return self._answer(412)
            new = self._path.with_name(f".{self._path.name}.{time.monotonic_ns()}.new")
            new.write_bytes(content)
            new.replace(self._path)
            self._answer(200, b"", {"ETag": _tag(content)})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if not self._is_well():
            return
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            return self._answer(200, self._list(query.get("prefix", [""])[0], query.get("delimiter", [""])[0]))
        if not self._path.is_file():
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        content, more, code = self._path.read_bytes(), {}, 200
        tag = _tag(content)
        if found := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            size = len(content)
            first = int(found[1]) if found[1] else size - int(found[2])
            last = min(int(found[2]), size - 1) if found[1] and found[2] else size - 1
            content, code = content[first : last + 1], 206
            more = {"Content-Range": f"bytes {first}-{last}/{size}"}
        moment = formatdate(self._path.stat().st_mtime, usegmt=True)
        self._answer(code, content, {"ETag": tag, "Last-Modified": moment, **more})

    def do_DELETE(self) -> None:
        if self._is_well():
            self._path.unlink(missing_ok=True)
            self._answer(204)

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self._is_well():
            keys = re.findall(r"<Key>(.*?)</Key>", asked)
            for key in keys:
                (self._path / key).unlink(missing_ok=True)
            gone = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            self._answer(200, f"<DeleteResult>{gone}</DeleteResult>".encode())

    @property
    def _path(self) -> Path:
        return self.folder / unquote(urlsplit(self.path).path).strip("/")

    def _is_well(self) -> bool:
        """Answer as the mood is; True: it is good, and the answer is still to be given."""
        try:
            mood = _mood_file(self.folder).read_text()
        except OSError:
            mood = WELL
        if mood == ERROR:
            self._answer(500, b"<Error><Code>InternalError</Code></Error>")
        if mood == SLOW:
            time.sleep(SLOW_S)
        if mood == CUT:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
        return mood in (WELL, SLOW)

    def _answer(self, code: int, content: bytes = b"", more: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {**(more or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _list(self, prefix: str, delimiter: str) -> bytes:
        bucket = self._path
        keys = [path.relative_to(bucket).as_posix() for path in bucket.rglob("*") if path.is_file()]
        found, folders = [], set()
        for key in sorted(key for key in keys if key.startswith(prefix) and not key.endswith(".new")):
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
                continue
            try:
                status = os.stat(bucket / key)
            except OSError:
                continue
            moment = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(status.st_mtime))
            entry = f"<Key>{escape(key)}</Key><LastModified>{moment}</LastModified><Size>{status.st_size}</Size>"
            found.append(f"<Contents>{entry}<ETag>x</ETag><StorageClass>STANDARD</StorageClass></Contents>")
        found += [f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders)]
        count = f"<KeyCount>{len(found)}</KeyCount><IsTruncated>false</IsTruncated>"
        return f"<ListBucketResult>{count}{''.join(found)}</ListBucketResult>".encode()


def _tag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
