"""QuPath: one GeoJSON for each image."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from unetpp.annotations.documents import Lenient, check, to_ring
from unetpp.annotations.outlines import Annotations, Outline
from unetpp.json_files import read_json

_Ring = list[list[float]]


class _Polygon(Lenient):
    type: Literal["Polygon"]
    coordinates: list[_Ring]


class _Pieces(Lenient):
    type: Literal["MultiPolygon"]
    coordinates: list[list[_Ring]]


class _Other(Lenient):
    type: str


class _Class(Lenient):
    name: str | None = None


class _Properties(Lenient):
    classification: _Class | None = None


class _Feature(Lenient):
    geometry: _Polygon | _Pieces | _Other
    properties: _Properties | None = None


class _Document(Lenient):
    features: list[_Feature]


def matches(content: Any) -> bool:
    """Tell whether JSON is GeoJSON."""
    first = content[0] if isinstance(content, list) and content else content
    return isinstance(first, dict) and first.get("type") in ("FeatureCollection", "Feature")


def read(path: Path) -> Annotations:
    """Read polygons with their holes; a region without a class is "foreground"; points and lines are left out."""
    content = read_json(path)
    features = content if isinstance(content, list) else content.get("features", [content])
    outlines, left_out = [], set()
    for feature in check(_Document, {"features": features}).features:
        classified = feature.properties and feature.properties.classification
        name = (classified and classified.name) or "foreground"
        geometry = feature.geometry
        if isinstance(geometry, _Other):
            left_out.add(geometry.type)
            continue
        pieces = [geometry.coordinates] if isinstance(geometry, _Polygon) else geometry.coordinates
        outlines += [Outline(name, tuple(map(to_ring, rings))) for rings in pieces]
    names = tuple(sorted({outline.name for outline in outlines}))
    return Annotations("GeoJSON", {"": tuple(outlines)}, names, {}, tuple(sorted(left_out)))
