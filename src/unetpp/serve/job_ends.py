"""Who waits for the end of a job: told at once, from the thread that ends it to the loop that answers requests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class JobEnds:
    """Lets requests wait for the ends of jobs without asking again and again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watching: dict[str, list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}

    @contextmanager
    def watch(self, id: str) -> Iterator[asyncio.Event]:
        """Yield an event of the running loop that is set when the job ends."""
        mine = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._watching.setdefault(id, []).append(mine)
        try:
            yield mine[1]
        finally:
            with self._lock:
                self._watching[id].remove(mine)
                if not self._watching[id]:
                    del self._watching[id]

    def tell(self, id: str) -> None:
        """Tell that a job has ended; from any thread."""
        with self._lock:
            watching = [*self._watching.get(id, [])]
        for loop, event in watching:
            with suppress(RuntimeError):  # of a server that has stopped: its loop is closed
                loop.call_soon_threadsafe(event.set)
