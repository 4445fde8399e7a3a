"""Server-sent events: what changes is told as it changes, until it ends or the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

POLL_S = 0.25
HEARTBEAT_S = 15.0
"""Seconds after which a line without content shows that the connection lives."""


def stream_changes(
    read: Callable[[], str], is_over: Callable[[str], bool], is_stopping: Callable[[], bool]
) -> StreamingResponse:
    """Stream a text each time it changes.

    Args:
        read: returns it as one line, such as JSON.
        is_over: whether it is the last one.
        is_stopping: whether the server stops.
    """

    async def generate() -> AsyncIterator[str]:
        last, waited = "", 0.0
        while True:
            text = await run_in_threadpool(read)
            if text != last:
                yield f"data: {text}\n\n"
                last, waited = text, 0.0
            elif waited >= HEARTBEAT_S:
                yield ": alive\n\n"
                waited = 0.0
            if is_over(text) or is_stopping():
                return
            await asyncio.sleep(POLL_S)
            waited += POLL_S

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(generate(), media_type="text/event-stream", headers=headers)
