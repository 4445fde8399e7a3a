"""Reading of JSON and XML that somebody else wrote: bounded, checked by types, nothing executed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from unetpp.json_files import LARGEST

_Model = TypeVar("_Model", bound=BaseModel)


class Lenient(BaseModel):
    """Base of foreign documents: other keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def read_bytes(path: Path) -> bytes:
    """Read a whole file.

    Raises:
        ValueError: it is larger than `LARGEST`.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise ValueError(f"{size / 1e6:,.0f} MB; annotations of up to {LARGEST / 1e6:,.0f} MB are read")
    return path.read_bytes()


def check(model: type[_Model], values: Any) -> _Model:
    """Check a document by its types.

    Raises:
        ValueError: names the first place that differs.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def read_xml(path: Path) -> ElementTree.Element:
    """Read XML without a document type, whose entities could grow without limit.

    Raises:
        ValueError: no XML, or one with a document type.
    """
    content = read_bytes(path)
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise ValueError("XML with a document type, which is not read")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise ValueError(f"no XML ({error})") from None


def to_ring(points: Iterable[Iterable[float]]) -> np.ndarray:
    """Convert points (x, y) to a ring.

    Raises:
        ValueError: fewer than three points, or numbers that are not finite.
    """
    ring = np.array([tuple(point)[:2] for point in points], dtype=np.float64)
    if ring.ndim != 2 or len(ring) < 3 or not np.isfinite(ring).all() or np.abs(ring).max() > 1e7:
        raise ValueError("an outline that is no line of at least three points")
    return ring
