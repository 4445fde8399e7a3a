"""What there is after Ctrl-C in a verb that writes one file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unetpp.errors import Interrupted


@contextmanager
def telling_what_is_there(out: Path) -> Iterator[None]:
    """Turn Ctrl-C or SIGTERM into an Interrupted that says whether the file was written.

    Args:
        out: the file that is written within the block, atomically.

    Raises:
        Interrupted: instead of KeyboardInterrupt.
    """
    before = _identify(out)
    try:
        yield
    except KeyboardInterrupt:
        now = _identify(out)
        if now is None:
            there = "nothing was written"
        else:
            there = f"{out} is the file that was there before" if now == before else f"{out} is written and complete"
        raise Interrupted(f"Stopped: {there}. Begin again with the same arguments.") from None


def _identify(path: Path) -> tuple[int, ...] | None:
    """Return what tells a file from the one that replaces it; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
