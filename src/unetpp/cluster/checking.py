"""What has to be equal here and on every worker: versions of libraries, and the files."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from unetpp.errors import UsageError

COMPARED = ("python", "unetpp", "torch", "numpy", "distributed")


def read_versions(found: Mapping[str, Any]) -> dict[str, str]:
    """Take the versions that matter from what `distributed` says of one process: of Python two numbers.

    A build of torch for another device, 2.8.0+cpu instead of 2.8.0+cu128, is the same version.
    """
    packages = found.get("packages", {})
    versions = {name: str(packages.get(name) or "not installed").partition("+")[0] for name in COMPARED}
    return {**versions, "python": ".".join(versions["python"].split(".")[:2])}


def describe_difference(mine: Mapping[str, str], others: Mapping[str, str]) -> tuple[str, str] | None:
    """Name the versions that differ, those of the other first; None: there are none."""
    differing = [name for name in COMPARED if mine[name] != others[name]]
    texts = [", ".join(f"{name} {each[name]}" for name in differing) for each in (others, mine)]
    return (texts[0], texts[1]) if differing else None


@contextmanager
def probe(folder: Path | None) -> Iterator[list[str]]:
    """Write a file into a folder while workers look whether they see it: theirs may be another one of that name."""
    if folder is None:
        yield []
        return
    path = folder / f".unetpp-{secrets.token_hex(8)}"
    path.touch()
    try:
        yield [str(path)]
    finally:
        with suppress(OSError):
            path.unlink()


def describe_unseen(worker: str, path: str, out: Path | None) -> UsageError:
    """Say that a worker does not see a path; the file of `probe` stands for its folder."""
    shown = out if out is not None and Path(path).parent == out and Path(path).name.startswith(".unetpp-") else path
    got, expected = f"no {shown}", "a disk that it shares with this machine, at the same path"
    return UsageError(
        f"worker {worker}", got, expected, "Mount it there, or start workers elsewhere.", setting="cluster"
    )
