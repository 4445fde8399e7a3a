"""Words for messages: counted nouns, shortened lists, values on one line, times, commands, and lines that fit."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

_COMMAND = re.compile(r"(?:^ *|(?<=: )(?<!^unetpp: ))(?:unetpp|pip|chmod|git|tensorboard) \S.*")
"""A command to be copied, at the end of a line: all of it, or what follows a colon (but not that of an error)."""
_QUOTED, _NO_BREAK = re.compile(r"`unetpp [^`\n]*`"), "\0"
_ON_WINDOWS = os.name == "nt"


def count_noun(number: float, noun: str) -> str:
    """Write a number with its noun: "1 case", "2 cases", "0.5 minutes"."""
    return f"{number:{',' if isinstance(number, int) else 'g'}} {noun}{'s' * (number != 1)}"


def format_size(megabytes: float) -> str:
    """Write the size of a file: "7.2 MB", "35 kB"."""
    return f"{megabytes:,.1f} MB" if megabytes >= 0.1 else f"{1000 * megabytes:.0f} kB"


def list_numbers(noun: str, numbers: Sequence[int | str | None]) -> str:
    """Write numbers with their noun: "depth 2", "depths 1, 2, 3"."""
    return f"{noun}{'s' * (len(numbers) != 1)} {', '.join(map(str, numbers))}"


def list_some(names: Iterable[object], shown: int = 3) -> str:
    """List the first names, and the number of the others."""
    texts = [str(name) for name in names]
    return ", ".join(texts[:shown]) + (f" and {len(texts) - shown} more" if len(texts) > shown else "")


def merge_remarks(remarks: Iterable[tuple[object, str]]) -> list[str]:
    """Join equal remarks on several files: one line names the first file and counts the others.

    Args:
        remarks: (name of the file, remark).

    Returns:
        A line for each different remark, in the order of their first files.
    """
    files: dict[str, list[str]] = {}
    for name, remark in remarks:
        files.setdefault(remark, []).append(str(name))
    return [
        f"{names[0]}{f' and {len(names) - 1:,} more' if len(names) > 1 else ''}: {remark}"
        for remark, names in files.items()
    ]


def find_value(values: Any, key: str) -> Any:
    """Look up "section.key" in nested dictionaries; None where it is absent."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def format_value(value: Any) -> str:
    """Write a JSON value on one line; equal entries of a list are written once: 5 x [3, 3]."""
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{key}: {format_value(found)}" for key, found in value.items() if found is not None) + "}"
        )
    if isinstance(value, list):
        if len(value) > 1 and isinstance(value[0], list | dict) and all(entry == value[0] for entry in value):
            return f"{len(value)} x {format_value(value[0])}"
        return "[" + ", ".join(map(format_value, value)) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def shorten(text: str, length: int = 100) -> str:
    """Leave out the middle of a text that is longer."""
    half = (length - 5) // 2
    return text if len(text) <= length else f"{text[:half]} ... {text[-half:]}"


def format_time(seconds: float) -> str:
    """Write a time as a clock does: 0:43, 12:05, 1:02:03."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def shorten_path(path: str) -> str:
    """Write an absolute path relative to the current folder, if it lies there."""
    here = os.path.join(os.getcwd(), "")
    return path[len(here) :] if path.startswith(here) and path != here else path


def write_command(*words: object) -> str:
    """Write a command of unetpp so that it can be pasted into the shell of this system."""
    return join_words("unetpp", *words)


def join_words(*words: object) -> str:
    """Write a command of any program so that it can be pasted into the shell of this system."""
    texts = list(map(str, words))
    return subprocess.list2cmdline(texts) if _ON_WINDOWS else shlex.join(texts)


def wrap(text: str, width: int) -> str:
    """Break long lines between words. A command stays whole, so that it can be copied: on a line of its own.

    A command in backquotes stays whole too, and the line breaks around it.
    """
    lines = _QUOTED.sub(lambda match: match[0].replace(" ", _NO_BREAK), text).split("\n")
    return "\n".join(_wrap_line(line, max(width, 20)) for line in lines).replace(_NO_BREAK, " ")


def _wrap_line(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    command = _COMMAND.search(line)
    words = line[: command.start()] if command else line
    lines = textwrap.wrap(
        words,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
    return "\n".join([*lines, *([(indent if lines else "") + command[0]] if command else [])])


def say_permit(path: object, folder: bool = False) -> str:
    """Say how to make a file or folder readable on this system."""
    if _ON_WINDOWS:
        return "Allow yourself to read it: Properties, Security."
    return f"Run: {join_words('chmod', 'u+rx' if folder else 'u+r', path)}"
