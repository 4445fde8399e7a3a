"""Cases are read once: what they have shown is kept bit for bit, as long as their files are the same."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.test_inspect import mask, solid, write_case, write_volume
from unetpp.data import inspect as inspection
from unetpp.data.inspect import Inspection, inspect_dataset
from unetpp.data.known_cases import KnownCases
from unetpp.layouts.cases import find_cases
from unetpp.plan import AS_FILES_SAY, ReadPlan
from unetpp.planning.fingerprint import make_fingerprint

FILE = "cases.json"
RNG = np.random.default_rng(0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the cases that are read."""
    found: list[str] = []
    read = inspection._inspect_case

    def note(case: Any, reading: ReadPlan) -> Any:
        found.append(case.id)
        return read(case, reading)

    monkeypatch.setattr(inspection, "_inspect_case", note)
    return found


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for stem in ("a", "b", "c"):
        write_case(tmp_path / "data", stem, RNG.integers(0, 255, (12, 10, 3), dtype=np.uint8), mask())
    return tmp_path / "data"


def inspect(data: Path, reading: ReadPlan = AS_FILES_SAY) -> Inspection:
    """Inspect as a command does, which knows what the one before it has read."""
    known = KnownCases(data.parent / FILE)
    found = inspect_dataset(find_cases(data, tolerant=True), reading, known=known)
    known.write(data.parent / FILE)
    return found


def describe(found: Inspection) -> list[Any]:
    """Everything that is known of the cases, arrays with their types."""

    def unfold(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.dtype.str, value.tolist()
        if dataclasses.is_dataclass(value):
            return {field.name: unfold(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return dict(value) if isinstance(value, dict) else value

    return [unfold(facts) for facts in found.facts]


@pytest.mark.parametrize("kind", ["images", "volumes"])
def test_what_is_recalled_is_what_was_read(tmp_path: Path, images: Path, reads: list[str], kind: str) -> None:
    data = images
    if kind == "volumes":
        data = tmp_path / "volumes"
        for seed, stem in enumerate(("a", "b")):
            write_volume(data, stem, *solid(seed))
    first = inspect(data)
    assert len(reads) == len(first.facts) >= 2
    second = inspect(data)
    assert len(reads) == len(first.facts)
    assert describe(second) == describe(first)
    assert (second.notes, second.meaning, second.channels) == (first.notes, first.meaning, first.channels)
    dataset = find_cases(data)
    assert make_fingerprint(dataset, second).to_json() == make_fingerprint(dataset, first).to_json()


def test_what_has_changed_is_read_again(images: Path, reads: list[str]) -> None:
    inspect(images)
    del reads[:]
    write_case(images, "b", np.full((12, 10, 3), 7, np.uint8), mask())
    os.utime(images / "masks" / "c.png", ns=(1, 1))
    write_case(images, "d", RNG.integers(0, 255, (12, 10, 3), dtype=np.uint8), mask())
    found = inspect(images)
    assert (sorted(reads), [facts.id for facts in found.facts]) == (["b", "c", "d"], ["a", "b", "c", "d"])
    assert found.facts[1].maximum == (7, 7, 7)
    del reads[:]
    (images / "images" / "a.png").unlink()
    (images / "masks" / "a.png").unlink()
    assert [facts.id for facts in inspect(images).facts] == ["b", "c", "d"] and not reads
    inspect(images, ReadPlan(fill=0.0))  # read in another way
    assert sorted(reads) == ["b", "c", "d"]


def test_a_case_with_a_problem_is_looked_at_each_time(images: Path, reads: list[str]) -> None:
    (images / "images" / "b.png").write_bytes(b"no image")
    assert inspect(images).problems == inspect(images).problems != []
    assert sorted(reads) == ["a", "b", "b", "c"]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"a": {"id": 3}}', b"\xff\xfe"])
def test_a_damaged_record_is_no_record(images: Path, reads: list[str], damage: bytes) -> None:
    inspect(images)
    (images.parent / FILE).write_bytes(damage)
    inspect(images)
    assert len(reads) == 6
    inspect(images)
    assert len(reads) == 6


def test_a_series_in_a_folder_is_known_by_its_files_and_detached_voxels_are_not(tmp_path: Path) -> None:
    from unetpp.layouts.dataset import Case

    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"1")
    known, case = KnownCases(), Case("a", (series,))
    known.recall(case, AS_FILES_SAY, 9)
    before = dict(known._keys)
    (series / "2.dcm").write_bytes(b"2")
    known.recall(case, AS_FILES_SAY, 9)
    assert known._keys["a"] != before["a"]
    (tmp_path / "b.mhd").write_text("ElementDataFile = b.raw")
    known.recall(Case("b", (tmp_path / "b.mhd",)), AS_FILES_SAY, 9)
    assert "b" not in known._keys
