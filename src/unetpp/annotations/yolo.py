"""YOLO: one text for each image; a line is a class number and an outline in fractions of the image."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np

from unetpp.annotations.documents import read_bytes, to_ring
from unetpp.annotations.outlines import Annotations, Outline

NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", "classes.txt", "obj.names")
"""Files with the names of the classes, in a folder above."""


def matches(path: Path) -> bool:
    """Tell whether the first line of a text is a class number and fractions; an empty text is an image without any."""
    lines = read_bytes(path).decode("utf-8", errors="replace").split("\n", 1)
    if not lines[0].strip():
        return not any(line.strip() for line in lines)
    fields = lines[0].split()
    return len(fields) >= 5 and fields[0].isdecimal() and all(re.fullmatch(r"[\d.eE+-]+", each) for each in fields[1:])


def read(path: Path) -> Annotations:
    """Read outlines; lines of four numbers are boxes and left out."""
    outlines, boxes = [], False
    for line in read_bytes(path).decode("utf-8").splitlines():
        number, *numbers = line.split() or [""]
        if not number:
            continue
        values = np.array([float(each) for each in numbers])
        if len(values) == 4:
            boxes = True
            continue
        if len(values) % 2 or not number.isdecimal() or not ((values > -0.5) & (values < 1.5)).all():
            raise ValueError(f"the line {line[:60]!r}")
        outlines.append(Outline(number, (to_ring(values.reshape(-1, 2)),)))
    names = tuple(sorted({outline.name for outline in outlines}, key=int))
    return Annotations("YOLO", {"": tuple(outlines)}, names, {}, ("boxes",) if boxes else (), in_fractions=True)


def read_names(path: Path) -> list[str]:
    """Read the names of the classes, in the order of their numbers, from one of the files `NAMES`.

    Of YAML, only `names` as a list or as numbered lines is understood, as the field's programs write it.
    """
    text = read_bytes(path).decode("utf-8", errors="replace")
    if path.suffix in (".txt", ".names"):
        return [line.strip() for line in text.splitlines() if line.strip()]
    if inline := re.search(r"^names:\s*([\[{].*?[\]}])", text, re.MULTILINE | re.DOTALL):
        try:
            found = ast.literal_eval(inline[1])
        except (ValueError, SyntaxError):  # names without quotes
            found = [each.strip(" '\"") for each in inline[1].strip("[]").split(",")]
        return list(map(str, found.values() if isinstance(found, dict) else found))
    block = re.search(r"^names:[ \t]*\n((?:[ \t]*(?:-|\d+:)[^\n]*\n?)+)", text, re.MULTILINE)
    lines = block[1].splitlines() if block else []
    return [re.sub(r"^\s*(-|\d+:)\s*", "", line).strip(" '\"") for line in lines]
