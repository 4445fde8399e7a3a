"""CSV tables with the columns image[, image_2, ...], label, group, split. Paths are relative to the table."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unetpp.errors import DataError, Problem
from unetpp.formats import stem_of
from unetpp.layouts.dataset import Case, Dataset
from unetpp.layouts.folders import SUBSETS, note_unlabeled

_IMAGE_COLUMN = re.compile(r"image(_\d+)?$")
_OTHER_COLUMNS = ("label", "group", "split")
_Row = tuple[int, dict[str, str]]
"""Line number, and entries by column."""


def read_manifest(path: Path, name: str) -> Dataset:
    """Read the cases of a table.

    Raises:
        DataError: it cannot be read, or has no columns `image` and `label`.
    """
    columns, rows = _load(path)
    problems: list[Problem] = []
    rows, unlabeled = _leave_out_unlabeled(rows)
    cases = [case for line, row in rows if (case := _make_case(path, line, row, problems))]
    unknown = [column for column in columns if not (_IMAGE_COLUMN.match(column) or column in _OTHER_COLUMNS)]
    notes = [f"{path}: ignored the columns {', '.join(unknown)}"] if unknown else []
    notes += [note_unlabeled(unlabeled, len(rows) + len(unlabeled))] if unlabeled else []
    cases = _make_ids_unique(path.parent, cases)
    return Dataset(name, path.parent, "csv", tuple(cases), problems=tuple(problems), notes=tuple(notes))


def is_manifest(path: Path) -> bool:
    """Tell whether a table has the columns `image` and `label`."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            header = stream.readline(10_000)
    except (OSError, UnicodeDecodeError):
        return False
    return {"image", "label"} <= {column.strip(' "').lower() for column in re.split(r"[,;\t]", header.strip())}


def _load(path: Path) -> tuple[Sequence[str], list[_Row]]:
    """Read column names and (line number, row) of a table separated by comma, semicolon or tab."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = stream.readline()
            stream.seek(0)
            reader = csv.DictReader(stream, delimiter=max(",;\t", key=header.count), restval="")
            reader.fieldnames = columns = [column.strip().lower() for column in reader.fieldnames or ()]
            rows = [
                (reader.line_num, {key: value.strip() for key, value in row.items() if isinstance(value, str)})
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        got = f"a file that cannot be read ({error})"
        raise DataError(Problem(str(path), got, "a CSV table in UTF-8", "Save it as CSV in UTF-8.")) from None
    if not {"image", "label"} <= set(columns):
        got, expected = f"the columns {', '.join(columns) or '(none)'}", "image[, image_2, ...], label[, group, split]"
        raise DataError(Problem(str(path), got, expected, "Name the columns so in the first line."))
    return columns, rows


def _leave_out_unlabeled(rows: Sequence[_Row]) -> tuple[list[_Row], list[str]]:
    """Take the rows whose entry `label` is empty from those of a partly labeled table; return the images of these."""
    if not any(row["label"] for _, row in rows):
        return list(rows), []
    needed = [not row["image"] or SUBSETS.get(row.get("split", "").lower()) == "test" for _, row in rows]
    labeled = [row for row, keep in zip(rows, needed, strict=True) if keep or row[1]["label"]]
    unlabeled = [row for row, keep in zip(rows, needed, strict=True) if not (keep or row[1]["label"])]
    return labeled, [Path(row["image"]).name for _, row in unlabeled]


def _make_case(table: Path, line: int, row: dict[str, str], problems: list[Problem]) -> Case | None:
    where = f"{table}, line {line}"
    columns = sorted(filter(_IMAGE_COLUMN.match, row), key=_channel_number)
    images = [table.parent / row[column] for column in columns if row[column]]
    labels = [table.parent / row["label"]] if row["label"] else []
    split = row.get("split", "").lower()
    found = [
        Problem(where, f"no file {path}", "an existing file", "Correct the path, or remove the line.")
        for path in (*images, *labels)
        if not path.is_file()
    ]
    if not row["image"]:
        found.append(Problem(where, "no image", "a path in the column image", "Add it, or remove the line."))
    if split and split not in SUBSETS:
        found.append(Problem(where, f"the split {split}", "train, validation, test or nothing", "Correct it."))
    if not labels and SUBSETS.get(split) != "test":
        action = "Add it, or write test into the column split."
        found.append(Problem(where, "no label", "a path in the column label", action))
    problems += found
    if found:
        return None
    return Case(
        stem_of(images[0]),
        tuple(images),
        tuple(labels),
        group=row.get("group") or None,
        split=SUBSETS.get(split),
    )


def _channel_number(column: str) -> int:
    """Order image, image_2, ..., image_10."""
    return int(column.partition("_")[2] or 1)


def _make_ids_unique(root: Path, cases: list[Case]) -> list[Case]:
    """Prefix repeated stems (p1/scan.nii, p2/scan.nii) with their folders: p1_scan, p2_scan."""
    counts = Counter(case.id for case in cases)
    return [case if counts[case.id] == 1 else _prefix_folders(root, case) for case in cases]


def _prefix_folders(root: Path, case: Case) -> Case:
    path = case.images[0]
    folders = path.parent.relative_to(root).parts if path.is_relative_to(root) else path.parent.parts[1:]
    return replace(case, id="_".join((*folders, case.id)))
