"""Aperio ImageScope: one XML for each slide, with regions; the annotations of MoNuSeg."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

from unetpp.annotations.documents import read_xml, to_ring
from unetpp.annotations.outlines import Annotations, Outline


def matches(root: Element) -> bool:
    """Tell whether XML is ImageScope's."""
    return root.tag == "Annotations" and root.find("Annotation") is not None


def read(path: Path) -> Annotations:
    """Read the regions of all layers; a layer without a name is "foreground"."""
    outlines = []
    for layer in read_xml(path).iter("Annotation"):
        for region in layer.iter("Region"):
            points = [(float(v.get("X", "nan")), float(v.get("Y", "nan"))) for v in region.iter("Vertex")]
            if len(points) >= 3:  # lines and points have no area
                outlines.append(Outline(layer.get("Name") or "foreground", (to_ring(points),)))
    names = tuple(sorted({outline.name for outline in outlines}))
    return Annotations("ImageScope", {"": tuple(outlines)}, names, {})
