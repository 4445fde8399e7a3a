"""Atomic file writes: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import functools
import hashlib
import importlib
import json
import math
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TextIO

from unetpp.errors import WriteError

_TEMPORARY = ".unetpp-"
"""Prefix of files and folders that are being written."""
_ON_WINDOWS = os.name == "nt"
"""There, nobody can remove or replace an open file, nor write to one that is locked."""
_ABANDONED_S = 60.0
"""Age of a temporary file from which on it is removed, if no process holds it."""
_SYNC_S = 1.0
"""Seconds from one wait for the disk to the next: for records of small images it takes longer than their work."""
_SYNCED: dict[Path, float] = {}
"""When each file of lines was last on the disk as a whole."""


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path with the suffixes of `path`; rename it to `path` on success, remove it on failure.

    Raises:
        WriteError: no space, no permission, no such folder. What was at `path` before is intact.
    """
    target = Path(path)
    suffixes = "".join(target.suffixes[-2:])  # .nii.gz needs both
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_remains(target.parent.absolute())
        name = target.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}{suffixes}")
        # with the permissions of any new file; those of the module tempfile are narrower
        with open(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666), "wb") as held:
            temporary = name
            if not _ON_WINDOWS:
                _lock(held, wait=False)  # tells others that its process lives
            yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
        temporary = None
    except OSError as error:
        action = f"{_action(error)} What was there before is intact."
        raise WriteError(target, _describe(error), "to write it", action) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


class MadeFolder:
    """A folder for results, made once. If it vanishes, such as a share that is unmounted, nothing fills its place.

    Args:
        path: the folder.

    Raises:
        WriteError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._device = path.stat().st_dev
        except OSError as error:
            got = "a file, or a link that leads nowhere" if isinstance(error, FileExistsError) else _describe(error)
            raise WriteError(path, got, "a folder for the results", _action(error)) from error

    def require(self) -> None:
        """Raise WriteError if the folder is no longer there."""
        try:
            if self.path.stat().st_dev == self._device:
                return
            got = "another disk than before (was it unmounted?)"
        except OSError as error:
            got = f"a folder that has vanished ({_describe(error)})"
        raise WriteError(self.path, got, "the folder of the results", "Bring it back, then run the command again.")


@functools.cache
def _remove_remains(folder: Path) -> None:
    """Remove what killed processes left in a folder; once for each folder, as listing it takes time."""
    for path in find_remains(folder):
        with suppress(OSError):
            path.unlink()


def find_remains(folder: Path) -> list[Path]:
    """Find what killed processes left in a folder: temporary files of some age that no process holds."""
    found = []
    for path in folder.glob(f"{_TEMPORARY}*"):
        with suppress(OSError), path.open("rb") as file:
            if path.is_file() and time.time() - path.stat().st_mtime > _ABANDONED_S and _lock(file, wait=False):
                found.append(path)
    return found


@contextmanager
def hold_lock(path: Path, wait: bool = False, shared: bool = False) -> Iterator[bool]:
    """Hold a lock against other processes, on any machine that sees the same folder; the system frees it if we die.

    Args:
        path: lock file; it is removed with its folder, if the folder is empty otherwise.
        wait: wait until it is free.
        shared: several processes may hold it, if all of them share it.

    Yields:
        Whether it is held; False: another process holds it.

    Raises:
        WriteError: the file cannot be written.
    """
    file, held = _open_locked(path, wait, shared)
    with file:
        try:
            yield held
        finally:
            if _ON_WINDOWS:
                file.close()
            if held and (not shared or (not _ON_WINDOWS and _lock(file, wait=False))):  # the last one removes it
                with suppress(OSError):
                    path.unlink()
                    path.parent.rmdir()  # refused unless it is empty


def _open_locked(path: Path, wait: bool, shared: bool) -> tuple[TextIO, bool]:
    """Open and lock a file; again, if its last holder has removed it meanwhile."""
    attempts = 100
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a")
        except OSError as error:
            attempts -= 1
            if isinstance(error, FileNotFoundError) and attempts:
                continue  # its last holder has removed the folder between the two
            raise WriteError(path, _describe(error), "to write it", _action(error)) from error
        held = _lock(file, wait, shared)
        with suppress(OSError):
            if not held or os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file, held
        file.close()


def _lock(file: IO[Any], wait: bool, shared: bool = False) -> bool:
    """Lock a whole file; True too on a network file system without locks. On Windows nothing is shared."""
    if _ON_WINDOWS:
        return _lock_on_windows(file, wait)
    import fcntl

    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _lock_on_windows(file: IO[Any], wait: bool) -> bool:
    """Lock the first byte of a file, until it is closed."""
    msvcrt: Any = importlib.import_module("msvcrt")
    while True:
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            return True
        except OSError:
            if not wait:
                return False
            time.sleep(0.1)


def append_line(path: Path, text: str, durable: bool = True) -> None:
    """Append one line: after a crash it is there or not, or it is cut, which `read_json_lines` leaves out.

    Args:
        path: the file.
        text: the line.
        durable: wait until this line and those before it are on the disk, so that they survive a crash of the machine;
            one of the process they survive in any case.

    Raises:
        WriteError: no space, no permission, no such folder.
    """
    line = f"\n{text}\n".encode(errors="backslashreplace")  # its own line, also behind one that was cut
    try:
        with path.open("ab", buffering=0) as file:
            if (written := file.write(line)) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{written} of {len(line)} bytes")
            if durable:
                os.fsync(file.fileno())
    except OSError as error:
        raise WriteError(path, _describe(error), "to write it", _action(error)) from error


def append_line_soon(path: Path, text: str) -> None:
    """Append one line, and wait for the disk if this process has not done so for a second: for many small records.

    Lines survive the process in any case; a machine that loses power may cost those of the last second.

    Raises:
        WriteError: as `append_line`.
    """
    durable = time.monotonic() - _SYNCED.get(path, -math.inf) >= _SYNC_S
    append_line(path, text, durable)
    if durable:
        _SYNCED[path] = time.monotonic()


def read_json_lines(path: Path) -> list[Any]:
    """Read what `append_line` wrote as JSON; lines that are cut, and a file that is not there, are left out."""
    found = []
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):
                found += [json.loads(line)] if line else []
    return found


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text in UTF-8 atomically. Raises as `write_atomically`."""
    with _open_text(path) as file:
        file.write(text)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value as JSON atomically. Raises as `write_atomically`, and ValueError for NaN and infinity."""
    with _open_text(path) as file:
        json.dump(value, file, indent=2, allow_nan=False)  # its whole text would take several times the memory
        file.write("\n")


@contextmanager
def _open_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Yield a text file in UTF-8 that is put in place when it is complete."""
    with (
        write_atomically(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace") as file,  # names of files may be no UTF-8
    ):
        yield file


def _is_full(error: OSError) -> bool:
    """Tell whether there is no space; NumPy says only that it wrote too little, C++ libraries say it in words."""
    words = str(error).lower()
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or (
        error.errno is None and ("requested and" in words or "no space" in words)
    )


def _describe(error: OSError) -> str:
    return os.strerror(errno.ENOSPC) if _is_full(error) else error.strerror or str(error)


def _action(error: OSError) -> str:
    if _is_full(error):
        return "Free some space, or choose another `out`."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        first = "Close the programs that use it" if _ON_WINDOWS else "Change the permissions of the folder"
        return f"{first}, or choose another `out`."
    return "Choose another `out`."


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
