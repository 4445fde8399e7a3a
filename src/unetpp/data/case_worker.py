"""Process that prepares cases for `data.workers`: cases come as lines of JSON, and each is answered with one."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from unetpp.data.case_files import name_files
from unetpp.data.store import StoredCase, write_case
from unetpp.errors import DataError, WriteError, failures_of
from unetpp.layouts.dataset import Case
from unetpp.plan import DataPlan


def main() -> None:
    """Prepare the cases that come in until there are no more, or until the parent process has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    plan = DataPlan.model_validate_json(sys.argv[1])
    with os.fdopen(os.dup(1), "w", encoding="ascii") as answers:
        os.dup2(2, 1)  # what a library prints is no answer
        for line in sys.stdin:
            task = json.loads(line)
            answers.write(f"{json.dumps(_answer(read_case(task['case']), plan, Path(task['stem'])))}\n")
            answers.flush()


def read_case(fields: dict[str, Any]) -> Case:
    """Make a case of what `dataclasses.asdict` and JSON made of it."""
    values = {name: _freeze(value) for name, value in fields.items()}
    paths = {name: tuple(map(Path, values[name])) for name in ("images", "labels")}
    return Case(**{**values, **paths})


def _freeze(value: Any) -> Any:
    return tuple(map(_freeze, value)) if isinstance(value, list) else value


def _answer(case: Case, plan: DataPlan, stem: Path) -> dict[str, Any]:
    try:
        with failures_of(name_files(case.images)):
            write_case(case, plan, StoredCase(case.id, stem))
    except DataError as error:
        return {"problems": [problem.to_dict() for problem in error.problems]}
    except WriteError as error:
        return {"write": error.problems[0].to_dict()}
    return {"problems": []}


if __name__ == "__main__":
    main()
