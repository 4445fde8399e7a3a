"""Files written aside and renamed: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unetpp.errors import WriteError


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path with the suffixes of `path`; on success it takes the place of `path`, on failure it is removed.

    Raises:
        WriteError: no space, no permission, no such folder. What was at `path` before is intact.
    """
    target = Path(path)
    suffixes = "".join(target.suffixes[-2:])  # .nii.gz needs both
    aside: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        name = target.with_name(f".unetpp-{secrets.token_hex(8)}{suffixes}")
        # with the permissions that any new file gets; those of the module tempfile are narrower
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        aside = name
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(target)
        aside = None
    except OSError as error:
        raise WriteError(
            f"{target}: got {_reason(error)}; expected to write it. {_action(error)} What was there before is intact."
        ) from error
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with write_atomically(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _action(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space, or choose another --out."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Change the permissions of the folder, or choose another --out."
    return "Choose another --out."
