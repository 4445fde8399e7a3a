"""Names of cases that differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from os.path import commonpath

from unetpp.layouts.dataset import Case


def make_ids_unique(cases: Iterable[Case]) -> list[Case]:
    """Prefix equal ids with the folders in which they differ: p1/scan.nii, p2/scan.nii become p1_scan, p2_scan."""
    cases = list(cases)
    by_id: dict[str, list[Case]] = {}
    for case in cases:
        by_id.setdefault(case.id, []).append(case)
    prefixes = {id(case): prefix for same in by_id.values() for case, prefix in zip(same, _prefix(same), strict=True)}
    return [replace(case, id="_".join((*prefixes[id(case)], case.id))) for case in cases]


def _prefix(cases: Sequence[Case]) -> list[tuple[str, ...]]:
    """Return the folders of each case below those that all have in common, without those that its id names already."""
    folders = [case.images[0].absolute().parent for case in cases]
    common = commonpath(folders)
    return [
        _without_end(folder.relative_to(common).parts, case.id) for folder, case in zip(folders, cases, strict=True)
    ]


def _without_end(parts: tuple[str, ...], id: str) -> tuple[str, ...]:
    return next((parts[:start] for start in range(len(parts)) if "_".join(parts[start:]) == id), parts)
