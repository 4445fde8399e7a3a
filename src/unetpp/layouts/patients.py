"""Cases of one patient, by their names: frames, sessions and slices have the name of the patient and a number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from unetpp.layouts.dataset import Case
from unetpp.words import count_noun

FEWEST = 5
"""Groups below which names decide nothing: one volume in slices could not be divided into folds at all."""
_OF_A_PATIENT = re.compile(
    r"(?P<patient>.*?\d.*?)(?:[_\-. ](?:frame|session|ses|visit|timepoint|time|tp|scan|series|slice)[_\-]?\d+)+",
    re.IGNORECASE,
)


def find_patient(name: str) -> str | None:
    """Find the patient in the name of a case; None: it names no frame, session, visit, scan or slice of one."""
    found = _OF_A_PATIENT.fullmatch(name)
    return found["patient"] if found else None


def group_by_name(cases: Sequence[Case]) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """Group the cases whose names differ in the number of a frame, session, visit, scan or slice alone.

    Nothing is done where the data set has groups, where cases are parts of files, or where it would make few groups.

    Args:
        cases: the cases of a data set.

    Returns:
        The cases, and a note on what was found.
    """
    known = tuple(cases)
    if any(case.group or case.is_part for case in cases):
        return known, ()
    names = {case.id: found for case in cases if (found := find_patient(case.id))}
    sizes = Counter(names.get(case.id, f"case {case.id}") for case in cases)
    shared = {name for name in names.values() if sizes[name] > 1}
    if not shared or len(sizes) < FEWEST:
        return known, ()
    grouped = tuple(replace(case, group=names[case.id]) if names.get(case.id) in shared else case for case in cases)
    together = [case for case in grouped if case.group]
    first, second = [case.id for case in together if case.group == together[0].group][:2]
    note = (
        f"{count_noun(len(together), 'case')} are of {count_noun(len(shared), 'patient')} by their names, as {first} "
        f"and {second}; those of one stay in one fold (another order: the column group of a CSV table, or splits.json)"
    )
    return grouped, (note,)
