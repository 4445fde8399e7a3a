"""A data set as a table: CSV with the columns image[, image_2, ...], label, group, split. Paths are relative to the table."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from unetpp.data.dataset import Case, Dataset
from unetpp.data.folders import SUBSETS
from unetpp.data.formats import stem_of
from unetpp.errors import DataError, Problem

_IMAGE_COLUMN = re.compile(r"image(_\d+)?$")
_OTHER_COLUMNS = ("label", "group", "split")


def read_manifest(path: Path, name: str) -> Dataset:
    columns, rows = _load(path)
    problems: list[Problem] = []
    cases = [case for line, row in rows if (case := _case(path, line, row, problems))]
    unknown = [column for column in columns if not (_IMAGE_COLUMN.match(column) or column in _OTHER_COLUMNS)]
    notes = (f"{path}: ignored the columns {', '.join(unknown)}",) if unknown else ()
    return Dataset(
        name, path.parent, "csv", tuple(_with_unique_ids(path.parent, cases)), problems=tuple(problems), notes=notes
    )


def _load(path: Path) -> tuple[Sequence[str], list[tuple[int, dict[str, str]]]]:
    """Column names and (line number, row) of a table that is separated by comma, semicolon or tab."""
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
        raise DataError(
            Problem(
                str(path), f"a file that cannot be read ({error})", "a CSV table in UTF-8", "Save it as CSV in UTF-8."
            )
        ) from None
    if not {"image", "label"} <= set(columns):
        got = f"the columns {', '.join(columns) or '(none)'}"
        raise DataError(
            Problem(
                str(path), got, "image[, image_2, ...], label[, group, split]", "Name the columns so in the first line."
            )
        )
    return columns, rows


def _case(table: Path, line: int, row: dict[str, str], problems: list[Problem]) -> Case | None:
    where = f"{table}, line {line}"
    images = [
        table.parent / value
        for column, value in sorted(row.items(), key=_channel_order)
        if _IMAGE_COLUMN.match(column) and value
    ]
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
        found.append(
            Problem(where, "no label", "a path in the column label", "Add it, or write test into the column split.")
        )
    problems += found
    return (
        None
        if found
        else Case(stem_of(images[0]), tuple(images), tuple(labels), row.get("group") or None, SUBSETS.get(split))
    )


def _channel_order(item: tuple[str, str]) -> int:
    """image, image_2, ..., image_10."""
    return int(item[0].partition("_")[2] or 1) if _IMAGE_COLUMN.match(item[0]) else 0


def _with_unique_ids(root: Path, cases: list[Case]) -> list[Case]:
    """Stems; where one is there twice (p1/scan.nii, p2/scan.nii), the folders join in: p1_scan, p2_scan."""
    counts = Counter(case.id for case in cases)
    return [case if counts[case.id] == 1 else _named_by_path(root, case) for case in cases]


def _named_by_path(root: Path, case: Case) -> Case:
    path = case.images[0]
    folders = path.parent.relative_to(root).parts if path.is_relative_to(root) else path.parent.parts[1:]
    return Case("_".join((*folders, case.id)), case.images, case.labels, case.group, case.split)
