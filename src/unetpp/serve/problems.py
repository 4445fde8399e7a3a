"""Errors as answers: problem details (RFC 9457) with what was got, what was expected and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from unetpp.errors import LOG, DataError, MissingExtraError, Problem, UnetppError, WriteError, is_out_of_memory

PROBLEM_TYPE = "application/problem+json"
_TITLES = {
    400: "The request cannot be read",
    401: "A token is needed",
    403: "Not from here",
    404: "Not found",
    405: "Not done here",
    408: "Too slow",
    409: "Not now",
    413: "Too large",
    415: "Not a kind that is read",
    422: "The input cannot be used",
    429: "Too many",
    500: "The server failed",
    503: "Not ready",
    507: "No space",
}


class ProblemItem(BaseModel):
    """One problem."""

    where: str
    got: str
    expected: str
    action: str


class ProblemBody(BaseModel):
    """An error: what was got, what was expected, and what to do."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    """The first problem as one sentence."""
    problems: list[ProblemItem]


class Refused(HTTPException):
    """A request that is refused.

    Args:
        status: of HTTP.
        where: what is refused.
        got: what it is.
        expected: what would work.
        action: what to do, in a sentence.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        where: str,
        got: str,
        expected: str,
        action: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        problem = Problem(where, got, expected, action)
        super().__init__(status, str(problem), dict(headers or {}))
        self.problem = problem


def make_body(status: int, problems: Sequence[Problem], detail: str = "") -> dict[str, Any]:
    """Make the content of an answer; of paths the name alone is said: where files lie is nobody's business."""
    items = [to_item(problem) for problem in problems]
    first = (
        f"{items[0].where}: got {items[0].got}; expected {items[0].expected}. {items[0].action}" if items else detail
    )
    title = _TITLES.get(status, "An error")
    return ProblemBody(title=title, status=status, detail=first.rstrip(), problems=items).model_dump()


_FOLDERS = re.compile(r"(?<![\w.:/<])/(?!v1/)(?:[^\s/'\"(),;:]+/)+(?=[^\s/])")
"""The folders of an absolute path, not those of an address."""


def to_item(problem: Problem) -> ProblemItem:
    """Return a problem without the folders of the server."""
    where = PurePath(problem.where).name if "/" in problem.where else problem.where
    folder = problem.where.removesuffix(where)
    texts = (problem.got, problem.expected, problem.action)
    got, expected, action = (_FOLDERS.sub("", text.replace(folder, "") if len(folder) > 1 else text) for text in texts)
    return ProblemItem(where=where, got=got, expected=expected, action=action)


def describe_error(error: Exception) -> tuple[int, list[Problem]]:
    """Find the status and the problems of any error."""
    if isinstance(error, Refused):
        return error.status_code, [error.problem]
    if isinstance(error, HTTPException):
        found = _TITLES.get(error.status_code, "an error").lower()
        return error.status_code, [Problem("request", found, "a path and a method of /docs", str(error.detail or ""))]
    if isinstance(error, RequestValidationError):
        return 422, [
            Problem(".".join(map(str, each["loc"])), _shorten(each.get("input")), str(each["msg"]), "See /docs.")
            for each in error.errors()
        ]
    if isinstance(error, MissingExtraError):
        return 501, [
            Problem("server", "a format or backend that is not installed here", "an installed one", str(error))
        ]
    if isinstance(error, WriteError):
        return 507, error.problems
    if isinstance(error, (DataError, UnetppError)):
        return 422, error.problems or [Problem("request", str(error), "something that can be used", "")]
    if is_out_of_memory(error):
        return 507, [Problem("server", "out of memory", "a request that fits", "Try again later, or a smaller image.")]
    return 500, [Problem("server", f"an unexpected error ({type(error).__name__})", "none", "Please open an issue.")]


def _shorten(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def add_handlers(app: FastAPI) -> None:
    """Let every error of an application be answered as problem details."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        status, problems = describe_error(error)
        if status == 500:
            LOG.error("%s %s", request.method, request.url.path, exc_info=error)
        headers = dict(getattr(error, "headers", None) or {})
        return JSONResponse(make_body(status, problems), status, headers, media_type=PROBLEM_TYPE)

    for kind in (HTTPException, RequestValidationError, UnetppError, MemoryError, OSError, ValueError, Exception):
        app.add_exception_handler(kind, answer)
