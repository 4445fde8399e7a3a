"""File operations that are counted, of which one fails or is the last of its process."""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITES = {"create", "write", "fsync", "replace", "mkdir"}
OPERATIONS = {
    "ENOSPC": WRITES,
    "EIO": {"read", "write", "fsync", "list"},
    "EACCES": {"open", "create", "replace", "mkdir", "list", "unlink"},
    "SIGKILL": WRITES | {"unlink"},
}
"""Error -> the operations in which a system may give it."""


class Injector:
    """Counts the operations on files of a folder, as Python sees them; of libraries in C only what they open in Python.

    Args:
        folder: operations elsewhere are not counted.
        error: a key of `OPERATIONS`. A disk that is full stays full; other errors come once.
        at: number of the operation that fails, from 1; 0: none.
        count: file that receives the number of operations.
    """

    def __init__(self, folder: Path, error: str, at: int = 0, count: Path | None = None) -> None:
        self._root, self._error, self._at, self._count_file = os.fspath(folder), error, at, count
        self._count = 0

    def install(self) -> None:
        """Watch the file operations of this process from now on."""
        self._open, self._os_open = builtins.open, os.open
        builtins.open = io.open = self._open_counted  # type: ignore[assignment]
        os.open = self._os_open_counted  # type: ignore[assignment]
        for name, operation in (
            ("replace", "replace"),
            ("rename", "replace"),
            ("mkdir", "mkdir"),
            ("unlink", "unlink"),
            ("remove", "unlink"),
            ("scandir", "list"),
            ("listdir", "list"),
        ):
            setattr(os, name, self._watch(getattr(os, name), operation))
        os.fsync = self._watch(os.fsync, "fsync")

    def tick(self, operation: str, path: object) -> None:
        """Count an operation on a path or a descriptor; fail if it is its turn."""
        if operation not in OPERATIONS[self._error] or not self._is_watched(path):
            return
        self._count += 1
        if self._count_file is not None:
            with self._open(self._count_file, "w") as file:
                file.write(str(self._count))
        if self._at and (self._count == self._at or (self._error == "ENOSPC" and self._count > self._at)):
            if self._error == "SIGKILL":
                os.kill(os.getpid(), signal.SIGKILL)
            number = getattr(errno, self._error)
            raise OSError(number, os.strerror(number), None if isinstance(path, int) else os.fspath(path))  # type: ignore[call-overload]

    def _is_watched(self, path: object) -> bool:
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")
            except OSError:
                return False
        if not isinstance(path, str | os.PathLike):
            return False
        return os.path.abspath(os.fspath(path)).startswith(self._root)

    def _watch(self, function: Callable[..., Any], operation: str) -> Callable[..., Any]:
        def watched(path: Any = ".", *args: Any, **options: Any) -> Any:
            self.tick(operation, path)
            return function(path, *args, **options)

        return watched

    def _os_open_counted(self, path: Any, flags: int, *args: Any, **options: Any) -> int:
        self.tick("create" if flags & os.O_CREAT else "open", path)
        return self._os_open(path, flags, *args, **options)

    def _open_counted(self, file: Any, mode: str = "r", buffering: int = -1, *args: Any, **options: Any) -> Any:
        if not self._is_watched(file):
            return self._open(file, mode, buffering, *args, **options)
        if not isinstance(file, int):
            self.tick("open" if mode.startswith("r") else "create", file)
        raw = _CountedFile(self, file, mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        kind = io.BufferedRandom if "+" in mode else io.BufferedReader if mode.startswith("r") else io.BufferedWriter
        buffered = kind(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *args, **options)


class _CountedFile(io.FileIO):
    def __init__(self, injector: Injector, file: Any, mode: str) -> None:
        super().__init__(file, mode)
        self._injector = injector

    def write(self, data: Any) -> int | None:
        self._injector.tick("write", self.fileno())
        return super().write(data)

    def readinto(self, buffer: Any) -> int | None:
        self._injector.tick("read", self.fileno())
        return super().readinto(buffer)

    def readall(self) -> bytes | None:
        self._injector.tick("read", self.fileno())
        return super().readall()
