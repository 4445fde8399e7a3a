"""A client of `unetpp serve` in one file, of the standard library alone: copy it to where unetpp is not installed.

    from unetpp.client import Client

    client = Client("http://127.0.0.1:8765")
    job = client.predict("new_images/one.png")
    client.save(job, "predictions", size="small")

Errors of the server are `ServerError`, with what was got, what was expected and what to do.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import IO, Any

AnyPath = str | PathLike[str]
Job = dict[str, Any]
_UNDONE = ("queued", "running")
_PIECE = 2**20
_WAIT_S = 20.0
"""Seconds that the server waits for the end of a job before it answers; shorter than the patience of proxies."""


class ServerError(Exception):
    """An answer of the server that is an error, or no answer.

    Attributes:
        status: of HTTP; 0: the server was not reached.
        problems: the problems, each with where, got, expected and action.
    """

    def __init__(self, status: int, message: str, problems: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(message)
        self.status, self.problems = status, list(problems)


class Client:
    """Asks one server.

    Args:
        address: of the server, such as http://127.0.0.1:8765.
        token: one of its token file, if it needs one.
        timeout_s: longest wait for an answer.
    """

    def __init__(self, address: str = "http://127.0.0.1:8765", token: str | None = None, timeout_s: float = 60) -> None:
        if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
            raise ValueError(f"address: got {address!r}; expected http:// or https://, such as http://127.0.0.1:8765.")
        self._address, self._token, self._timeout_s = address.rstrip("/"), token, timeout_s
        self._lease: str | None = None

    def models(self) -> list[dict[str, Any]]:
        """List the cards of the models."""
        found: list[dict[str, Any]] = self._ask_json("GET", "/v1/models")
        return found

    def cases(self, search: str = "") -> list[dict[str, Any]]:
        """List cases of the data that the server was started with, whose names hold a text."""
        found: list[dict[str, Any]] = self._ask_json("GET", "/v1/cases", {"search": search, "count": 1000})
        return found

    def jobs(self, sort: str = "newest") -> list[Job]:
        """List jobs: the newest first, or with `sort="doubt"` those that should be looked at first."""
        found: list[Job] = self._ask_json("GET", "/v1/jobs", {"sort": sort})
        return found

    def job(self, id: str) -> Job:
        """Return a job as it is now."""
        return self._ask_job("GET", f"/v1/jobs/{id}")

    def predict(
        self,
        files: AnyPath | Sequence[AnyPath] = (),
        *,
        case: str | None = None,
        model: str | None = None,
        tta: bool = False,
        probabilities: bool = False,
        uncertainty: bool = False,
        wait: bool = True,
        progress: Callable[[Job], object] | None = None,
    ) -> Job:
        """Predict one image at all sizes.

        Args:
            files: its file, or the files of its channels in order.
            case: instead of files, the name of a case of the data.
            model: id of a model; None: the first.
            tta: average over mirrored copies.
            probabilities: also make maps of the probabilities.
            uncertainty: also make a map of the entropy.
            wait: wait for the end; else the job is returned as it was queued.
            progress: called with the job while it waits and runs.

        Returns:
            The job: `sizes`, the smallest first, say what was found and what is expected of it.

        Raises:
            ServerError: the server refused it, or the prediction failed.
        """
        paths = [Path(path) for path in ([files] if isinstance(files, (str, PathLike)) else files)]
        options = {"tta": tta, "probabilities": probabilities, "uncertainty": uncertainty}
        fields = {name: str(value).lower() for name, value in options.items()}
        named = {"case": case, "model": model, "lease": self._lease}
        fields |= {name: value for name, value in named.items() if value is not None}
        boundary = f"unetpp-{secrets.token_hex(12)}"
        parts = _Parts(fields, paths, boundary)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(parts.length)}
        job = self._ask_job("POST", "/v1/predict", content=parts, headers=headers)
        return self.wait(job, progress) if wait else job

    def wait(self, job: Job | str, progress: Callable[[Job], object] | None = None, poll_s: float = 0.2) -> Job:
        """Wait for the end of a job; raises ServerError if it failed or was cancelled.

        Args:
            job: a job, or its id.
            progress: called with the job while it waits and runs.
            poll_s: seconds between two of these calls.
        """
        id, found = (job, None) if isinstance(job, str) else (job["id"], job)
        longest = min(_WAIT_S, self._timeout_s / 2)  # the server answers at once when it ends
        wait_s = min(poll_s, longest) if progress else longest
        while found is None or found["state"] in _UNDONE:
            if progress and found:
                progress(found)
            asked = time.monotonic()
            found = self._ask_job("GET", f"/v1/jobs/{id}", query={"wait_s": wait_s})
            if found["state"] in _UNDONE:  # a server that stops, or an older one, does not wait
                time.sleep(max(0.0, poll_s - (time.monotonic() - asked)))
        if found["state"] != "done":
            problem = found["problem"] or {}
            text = f"{problem.get('where')}: got {problem.get('got')}; expected {problem.get('expected')}."
            raise ServerError(422, f"{text} {problem.get('action')}" if problem else found["state"], [problem])
        return found

    @contextmanager
    def lease(self, idle_s: float | None = None, model: str | None = None) -> Iterator[dict[str, Any]]:
        """Hold what is predicted in this context; at its end, the server removes its uploads, jobs and results.

            with client.lease():
                client.save(client.predict("one.png"), "predictions")

        If this process dies, the server does so after the idle time. Predictions and questions about jobs renew the
        lease; a client that pauses for longer calls `renew`.

        Args:
            idle_s: seconds without a use after which it ends; None: the longest of the server, by default 600.
            model: id of a model that stays loaded meanwhile.

        Yields:
            The lease: id, idle_s, left_s, model, jobs.

        Raises:
            ServerError: too many leases, or no such model.
        """
        content = json.dumps({"idle_s": idle_s, "model": model}).encode()
        headers = {"Content-Type": "application/json"}
        lease = self._ask_json("POST", "/v1/leases", content=content, headers=headers)
        self._lease, outer = lease["id"], self._lease
        try:
            yield lease
        finally:
            self._lease = outer
            with suppress(ServerError):  # it has ended, or so has the server
                self._open("DELETE", f"/v1/leases/{lease['id']}").close()

    def renew(self) -> dict[str, Any]:
        """Renew the lease of the present context; raises ServerError if it has ended, RuntimeError without one."""
        if self._lease is None:
            raise RuntimeError("renew: got no lease; expected a call within `with client.lease():`.")
        found: dict[str, Any] = self._ask_json("POST", f"/v1/leases/{self._lease}/renew")
        return found

    def cancel(self, job: Job | str) -> Job:
        """Cancel a job that waits or runs."""
        return self._ask_job("POST", f"/v1/jobs/{job if isinstance(job, str) else job['id']}/cancel")

    def save(self, job: Job, folder: AnyPath, size: str | None = None, what: str = "result", number: int = 0) -> Path:
        """Save a result.

        Args:
            job: a job that is done.
            folder: for the file, which has the name and the format of the image.
            size: name of a size, such as small; None: the largest.
            what: result, uncertainty, probabilities, or all, a zip file.
            number: with probabilities, of the foreground class, from 0.

        Returns:
            The file.
        """
        query = {"size": size, "number": number if what == "probabilities" else None}
        return self._take(f"/v1/jobs/{job['id']}/{what}", folder, query)

    def save_model(self, id: str, folder: AnyPath) -> Path:
        """Save the file of a model; `models` lists their ids."""
        return self._take(f"/v1/models/{id}/file", folder)

    def _take(self, path: str, folder: AnyPath, query: dict[str, Any] | None = None) -> Path:
        with self._open("GET", path, query) as answer:
            target = Path(folder) / _read_name(answer.headers.get("Content-Disposition", ""))
            target.parent.mkdir(parents=True, exist_ok=True)
            unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
            try:
                with unfinished.open("wb") as file:
                    shutil.copyfileobj(answer, file, _PIECE)
                unfinished.replace(target)
            finally:
                unfinished.unlink(missing_ok=True)
        return target

    def _ask_job(self, method: str, path: str, **options: Any) -> Job:
        found: Job = self._ask_json(method, path, **options)
        return found

    def _ask_json(self, method: str, path: str, query: dict[str, Any] | None = None, **options: Any) -> Any:
        with self._open(method, path, query, **options) as answer:
            return json.load(answer)

    def _open(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        content: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        given = urllib.parse.urlencode({name: value for name, value in (query or {}).items() if value is not None})
        url = f"{self._address}{urllib.parse.quote(path)}{f'?{given}' if given else ''}"
        request = urllib.request.Request(url, data=content, headers=headers or {}, method=method)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            return urllib.request.urlopen(request, timeout=self._timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                raise _read_error(error.code, error.read()) from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            text = f"{self._address}: got no answer ({reason}); expected a server. Start it: unetpp serve MODEL"
            raise ServerError(0, text) from None


class _Parts:
    """The body of an upload, read from the files while it is sent."""

    def __init__(self, fields: dict[str, str], paths: Sequence[Path], boundary: str) -> None:
        self._parts: list[bytes | Path] = []
        for name, value in fields.items():
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            self._parts.append(head.encode())
        for path in paths:
            name = re.sub(r'[\r\n"\\]', "_", path.name)
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
            self._parts += [head.encode(), path, b"\r\n"]
        self._parts.append(f"--{boundary}--\r\n".encode())
        self.length = sum(part.stat().st_size if isinstance(part, Path) else len(part) for part in self._parts)

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
                continue
            with part.open("rb") as file:
                yield from _read_pieces(file)


def _read_pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def _read_name(disposition: str) -> str:
    """Read the name of a file; of a path the last part alone."""
    encoded = re.search(r"filename\*=utf-8''([^;]+)", disposition, re.IGNORECASE)
    plain = re.search(r'filename="([^"]*)"', disposition)
    name = urllib.parse.unquote(encoded[1]) if encoded else plain[1] if plain else "result"
    return re.split(r"[/\\]", name)[-1].lstrip(".") or "result"


def _read_error(status: int, body: bytes) -> ServerError:
    try:
        content = json.loads(body)
        return ServerError(status, str(content["detail"]), content["problems"])
    except (ValueError, LookupError, TypeError):
        return ServerError(status, f"the server answered {status}")
