"""Table of what `unetpp check` makes of many data sets: one row for each folder in the given folders.

python -m benchmarks.inputs FOLDER... [--timeout 120] [--full]

Each data set is checked in a process of its own, so that a crash or a hang is a row too; its time and its peak memory
are those of that process. `--full` prints the text of every check below the table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """Outcome of one check."""

    name: str
    exit_code: int
    seconds: float
    peak_mb: float
    result: dict[str, Any] = field(default_factory=dict)
    """The JSON of the check; empty if it printed none."""
    text: str = ""
    """What it printed otherwise."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="folder of data sets")
    parser.add_argument("--timeout", type=float, default=120, help="seconds after which a check is ended")
    parser.add_argument("--full", action="store_true", help="print problems and notes of every check too")
    arguments = parser.parse_args()
    rows = [check(path, arguments.timeout) for path in list_data_sets(arguments.folders)]
    print(to_markdown(rows))
    if arguments.full:
        for row in rows:
            print(f"\n## {row.name}\n{describe(row)}")
    sys.exit(any(is_fault(row) for row in rows))


def list_data_sets(folders: Iterable[Path]) -> list[Path]:
    """List the folders, and the tables, in some folders."""
    found = [path for folder in folders for path in sorted(folder.iterdir())]
    return [path for path in found if path.is_dir() or path.suffix.lower() == ".csv"]


def check(path: Path, timeout: float) -> Row:
    """Check one data set.

    Args:
        path: the data set.
        timeout: seconds after which the check is ended.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "-m", "unetpp", "check", str(path), "--json"]
        process = subprocess.Popen(command, stdout=output, stderr=errors)
        peak_mb = wait(process, started + timeout)
        seconds = time.monotonic() - started
        output.seek(0)
        errors.seek(0)
        text = output.read()
        try:
            return Row(str(path), process.returncode, seconds, peak_mb, json.loads(text))
        except ValueError:
            return Row(str(path), process.returncode, seconds, peak_mb, text=text + errors.read())


def wait(process: subprocess.Popen[bytes], until: float) -> float:
    """Wait for a process, end it when its time is over, and return its peak memory in MB."""
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
        if time.monotonic() > until:
            process.kill()
        time.sleep(0.05)


def is_fault(row: Row) -> bool:
    """Tell whether a check ended otherwise than with an answer: 0 for a sound data set, 2 for one with problems."""
    return row.exit_code not in (0, 2) or "Traceback" in row.text


def to_markdown(rows: Iterable[Row]) -> str:
    """Make the table."""
    lines = [
        "| data set | exit | s | peak, MB | cases | layout | classes | problems | notes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        found = row.result
        cells = [
            Path(row.name).name,
            str(row.exit_code) + " FAULT" * is_fault(row),
            f"{row.seconds:.1f}",
            f"{row.peak_mb:.0f}",
            str(found.get("cases", "-")),
            str(found.get("layout") or "-"),
            ", ".join(found.get("classes", ())) or "-",
            first_line(found.get("problems", ())) if found else row.text.strip().replace("\n", " ")[:160],
            first_line(found.get("notes", ())),
        ]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)


def first_line(entries: Iterable[Any]) -> str:
    """Write the first of some problems or notes in short, and the number of them."""
    texts = [to_text(entry) for entry in entries]
    return f"{len(texts)}: {texts[0][:160]}" if texts else "-"


def to_text(entry: Any) -> str:
    """Write a problem or a note on one line."""
    if isinstance(entry, dict):
        return f"{Path(entry['where']).name}: got {entry['got']}; expected {entry['expected']}. {entry['action']}"
    return str(entry)


def describe(row: Row) -> str:
    """Write all problems and notes of a check."""
    if not row.result:
        return row.text.strip()
    found = [*row.result.get("problems", ()), *row.result.get("notes", ())]
    return "\n".join(f"- {to_text(entry)}" for entry in found) or "no problems, no notes"


if __name__ == "__main__":
    main()
