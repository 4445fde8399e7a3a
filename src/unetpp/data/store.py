"""Patch store: each case on the network's grid, normalized, as arrays from which patches are read.

    cache/CASE-DIGEST.image.npy       (C, *grid) float16, memory-mapped when read
    cache/CASE-DIGEST.label.npy       (*grid) uint8, class indices
    cache/CASE-DIGEST.foreground.npy  (n, 1 + dims) int32: class and position of some voxels of each foreground class;
                                      with voxels that nobody labeled also 0 and position of some labeled voxels

The digest covers the plan's data section and the source files: a change of either recomputes the arrays.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from unetpp import labels
from unetpp.data.case_files import close_whole_files, name_files
from unetpp.data.preprocess import prepare_case_image, prepare_case_label
from unetpp.errors import DataError, Problem, failures_of
from unetpp.files import write_atomically
from unetpp.layouts.cases import Case
from unetpp.plan import DataPlan

STORE_VERSION = 3
ARRAYS = ("image", "label", "foreground")
DIGEST = 12
"""Length of a digest in file names."""
LOCATIONS_PER_CLASS = 4096
"""Largest number of stored positions of each class of a case: enough to center patches on."""


@dataclass(frozen=True)
class StoredCase:
    """One case of the store."""

    id: str
    stem: Path
    """Path of the arrays without their endings."""

    def image(self) -> np.ndarray:
        """Map the image (C, *grid) float16 into memory."""
        return self._map("image")

    def label(self) -> np.ndarray:
        """Map the label (*grid) uint8 into memory."""
        return self._map("label")

    def positions(self) -> dict[int, np.ndarray]:
        """Read some positions (n, dims) of each foreground class; neither files nor memory are held for each case.

        Where some voxels are not labeled, 0 has positions of labeled ones of any class.
        """
        rows = self._load("foreground")
        classes, starts = np.unique(rows[:, 0], return_index=True)  # sorted by class
        return {
            int(index): rows[start:stop, 1:]
            for index, start, stop in zip(classes, starts, np.append(starts, len(rows))[1:], strict=True)
        }

    def _map(self, name: str) -> np.ndarray:
        return self._load(name, "r")

    def _load(self, name: str, mode: Literal["r"] | None = None) -> np.ndarray:
        path = f"{self.stem}.{name}.npy"
        try:
            array: np.ndarray = np.load(path, mmap_mode=mode, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            got = f"an array that cannot be read ({getattr(error, 'strerror', None) or error})"
            action = "Has the run folder been moved or unmounted? Otherwise remove the cache: it is made again."
            raise DataError(Problem(path, got, "the array that was prepared", action)) from error
        return array


def store_cases(
    cases: Iterable[Case], plan: DataPlan, folder: Path, progress: Callable[[int, int], None] | None = None
) -> list[StoredCase]:
    """Put cases into the store, unless they are there.

    Args:
        cases: the cases of a data set.
        plan: the data section of the plan.
        folder: the folder of the store.
        progress: called with (cases done, cases in all).

    Returns:
        The stored cases, in the same order.

    Raises:
        DataError: the problems of all cases that could not be read.
        WriteError: the store could not be written.
    """
    todo = list(cases)
    stored: list[StoredCase] = []
    problems: list[Problem] = []
    pool = ThreadPoolExecutor(max_workers=4)
    try:
        futures = [pool.submit(_store_case, case, plan, folder) for case in todo]
        for done, future in enumerate(futures, start=1):
            try:
                with failures_of(name_files(todo[done - 1].images)):
                    stored.append(future.result())
            except DataError as error:
                problems.extend(error.problems)
            if progress:
                progress(done, len(todo))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C and a full disk do not wait for the other cases
        close_whole_files()
    if problems:
        raise DataError(problems)
    return stored


def find_stored_cases(ids: Iterable[str], folder: Path) -> list[StoredCase]:
    """Find cases of these ids that an earlier call has stored; sources are not read, the newest arrays are taken."""
    endings = tuple(f".{name}.npy" for name in ARRAYS)
    newest: dict[str, Path] = {}
    for path in sorted(folder.glob(f"*{endings[-1]}"), key=lambda path: path.stat().st_mtime):
        stem = path.name.removesuffix(endings[-1])
        if all((folder / f"{stem}{ending}").is_file() for ending in endings):
            newest[stem[: -DIGEST - 1]] = folder / stem
    names = [(case_id, _make_file_name(case_id)) for case_id in ids]
    return [StoredCase(case_id, newest[name]) for case_id, name in names if name in newest]


def _store_case(case: Case, plan: DataPlan, folder: Path) -> StoredCase:
    stored = StoredCase(case.id, folder / f"{_make_file_name(case.id)}-{_hash(case, plan)}")
    if not Path(f"{stored.stem}.foreground.npy").exists():  # written last
        prepared = prepare_case_image(case, plan)
        grid = prepared.shape[1:]
        label = prepare_case_label(case, plan, prepared)
        image = prepared.read(tuple(slice(0, size) for size in grid)).astype(np.float16)
        positions = _sample_positions(label, case.id, labels.find_ignored_index(plan))
        for ending, array in zip(ARRAYS, (image, label, positions), strict=True):
            with write_atomically(f"{stored.stem}.{ending}.npy") as temporary, temporary.open("wb") as file:
                np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return stored


def _sample_positions(label: np.ndarray, name: str, ignored: int | None) -> np.ndarray:
    rng = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
    rows = [np.empty((0, 1 + label.ndim), np.int32)]
    found = np.unique(label[label > 0])
    for index in [0, *found[found != ignored]] if ignored in found else found:
        positions = np.flatnonzero(label == index if index else label != ignored)
        if len(positions) > LOCATIONS_PER_CLASS:
            positions = np.sort(rng.choice(positions, LOCATIONS_PER_CLASS, replace=False))
        coordinates = np.stack(np.unravel_index(positions, label.shape), axis=1)
        rows.append(np.column_stack([np.full(len(positions), index), coordinates]).astype(np.int32))
    return np.concatenate(rows)


def _hash(case: Case, plan: DataPlan) -> str:
    files = [
        f"{path.absolute()} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in (*case.images, *case.labels)
    ]
    part = [f"{case.plane} {case.area}"] if case.is_part else []
    text = "\n".join([str(STORE_VERSION), plan.model_dump_json(exclude={"regions"}), case.id, *files, *part])
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST]


def _make_file_name(name: str) -> str:
    """Make a file name of a case's id; one that had to be changed or cut gets a digest, so that no two share a name."""
    safe = re.sub(r"[^\w.-]", "_", name)[:80]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:8]}"
