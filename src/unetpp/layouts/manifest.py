"""CSV tables with the columns image[, image_2, ...], label, group, split. Paths are relative to the table.

A table for prediction needs the column image alone; a text file with one path in each line serves, too.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unetpp.errors import DataError, Problem
from unetpp.formats import is_store, stem_of
from unetpp.layouts.case_names import make_ids_unique
from unetpp.layouts.dataset import Case, Dataset
from unetpp.layouts.folders import SUBSETS, note_unlabeled
from unetpp.words import list_some

_IMAGE_COLUMN = re.compile(r"image(_\d+)?$")
_OTHER_COLUMNS = ("label", "group", "split")
_REQUIRED = frozenset({"image", "label"})
_Row = tuple[int, dict[str, str]]
"""Line number, and entries by column."""


def is_manifest(path: Path) -> bool:
    """Tell whether a table has the columns `image` and `label`: others lie in data sets, too."""
    try:
        return set(_load(path, frozenset())[0]) >= _REQUIRED
    except DataError:
        return False


def read_manifest(path: Path, name: str) -> Dataset:
    """Read the cases of a table.

    Raises:
        DataError: it cannot be read, or has no columns `image` and `label`.
    """
    columns, rows = _load(path, _REQUIRED)
    problems: list[Problem] = []
    rows, unlabeled = _leave_out_unlabeled(rows)
    cases = [case for line, row in rows if (case := _make_case(path, line, row, problems))]
    unknown = [column for column in columns if not (_IMAGE_COLUMN.match(column) or column in _OTHER_COLUMNS)]
    notes = [f"{path}: ignored the columns {', '.join(unknown)}"] if unknown else []
    notes += [note_unlabeled(unlabeled, len(rows) + len(unlabeled))] if unlabeled else []
    cases = make_ids_unique(_take_first_label(path, cases, problems))
    return Dataset(name, path.parent, "csv", tuple(cases), problems=tuple(problems), notes=tuple(notes))


def read_image_list(path: Path) -> tuple[list[Case], list[Problem]]:
    """Read the images to predict: the column `image` (and image_2, ...) of a table, or the lines of a text file.

    Returns:
        Cases without labels, whose ids may repeat, and a problem for each line that names no file.

    Raises:
        DataError: it cannot be read, or has no column `image`.
    """
    if path.suffix.lower() == ".txt":
        lines = enumerate(_read_text(path).splitlines(), start=1)
        rows = [(number, {"image": line.strip()}) for number, line in lines if line.strip()]
    else:
        _, rows = _load(path, frozenset({"image"}))
    problems: list[Problem] = []
    unlabeled = ((line, {**row, "label": "", "split": "test"}) for line, row in rows)
    cases = [case for line, row in unlabeled if (case := _make_case(path, line, row, problems))]
    return [replace(case, split=None) for case in cases], problems


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _describe_unreadable(path, error) from None


def _load(path: Path, required: frozenset[str]) -> tuple[Sequence[str], list[_Row]]:
    """Read column names and (line number, row) of a table separated by comma, semicolon or tab."""
    stream = io.StringIO(_read_text(path), newline="")
    try:
        header = stream.readline()
        stream.seek(0)
        reader = csv.DictReader(stream, delimiter=max(",;\t", key=header.count), restval="")
        reader.fieldnames = columns = [column.strip().lower() for column in reader.fieldnames or ()]
        rows = [
            (reader.line_num, {key: value.strip() for key, value in row.items() if isinstance(value, str)})
            for row in reader
        ]
    except csv.Error as error:
        raise _describe_unreadable(path, error) from None
    if not required <= set(columns):
        got = f"the columns {', '.join(columns) or '(none)'}"
        expected = "image[, image_2, ...], label[, group, split]" if "label" in required else "image[, image_2, ...]"
        raise DataError(Problem(str(path), got, expected, "Name the columns so in the first line."))
    return columns, rows


def _describe_unreadable(path: Path, error: Exception) -> DataError:
    got = f"a file that cannot be read ({error})"
    return DataError(Problem(str(path), got, "a CSV table in UTF-8", "Save it as CSV in UTF-8."))


def _take_first_label(table: Path, cases: list[Case], problems: list[Problem]) -> list[Case]:
    """Report images that have several labels, and keep the first of each for the other checks."""
    by_images: dict[tuple[Path, ...], list[Case]] = {}
    for case in cases:
        by_images.setdefault(case.images, []).append(case)
    for images, found in by_images.items():
        if len(found) > 1:
            labels = list_some((label.name for case in found for label in case.labels), 4)
            got, action = f"one image in {len(found)} lines ({labels})", "Remove all lines of the image but one."
            problems.append(Problem(f"{table}, {images[0].name}", got, "one label for each image", action))
    return [found[0] for found in by_images.values()]


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
    images = [_find_file(table.parent, row[column]) for column in columns if row[column]]
    labels = [_find_file(table.parent, row["label"])] if row["label"] else []
    split = row.get("split", "").lower()
    found = [
        Problem(where, f"no file {path}", "an existing file", "Correct the path, or remove the line.")
        for path in (*images, *labels)
        if not (path.is_file() or is_store(path))
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


def _find_file(folder: Path, name: str) -> Path:
    """Find a file by its name in a table; a path of Windows, with backslashes, is read as such where it fits."""
    path = folder / name
    return path if "\\" not in name or path.exists() else folder / name.replace("\\", "/")


def _channel_number(column: str) -> int:
    """Order image, image_2, ..., image_10."""
    return int(column.partition("_")[2] or 1)
