"""Patch store: each case on the network's grid, normalized, as arrays from which patches are read.

    cache/CASE-DIGEST.image.npy       (C, *grid) float16, memory-mapped when read
    cache/CASE-DIGEST.label.npy       (*grid) uint8 or uint16, class indices
    cache/CASE-DIGEST.foreground.npy  (n, 1 + dims) int32, see `data.foreground`
    cache/CASE-DIGEST.first-KEY.npy   (*grid) uint8 or uint16, class indices of the first stage of a cascade

Image and label of a large case are in compressed tiles, `.tif` instead of `.npy`: see `data.compressed`. The digest has
two halves: what the image depends on, and what the label does. A change remakes the arrays that it concerns.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from unetpp import labels
from unetpp.cluster.engine import HERE, Engine
from unetpp.data.case_files import close_whole_files, name_files
from unetpp.data.case_runs import run_cases
from unetpp.data.compressed import CompressedArray, make_unreadable, write_compressed
from unetpp.data.foreground import sample_positions
from unetpp.data.preprocess import prepare_case_image, prepare_case_label
from unetpp.data.workers import WorkerProcesses, count_at_once, needs_processes
from unetpp.errors import DataError, Problem, failures_of
from unetpp.files import MadeFolder, write_atomically
from unetpp.formats.sources import Slices
from unetpp.layouts.cases import Case
from unetpp.plan import DataPlan
from unetpp.slabs import Sliced

STORE_VERSION = 4
ARRAYS = ("image", "label", "foreground")
DIGEST = 12
"""Length of a digest in file names."""
SMALL = 2**25
"""Bytes of an image up to which it is stored as it is: mapped, it is read a little faster."""
_AT_ONCE = 4
"""Largest number of small cases that are prepared at once; of large ones there are as many as cores."""
_OF_NEITHER = {"training_range", "voxel_mm", "regions", "resolution"}
_OF_LABELS = {"classes", "label_values", "labels", "label_grid"}
_OF_IMAGES = {"normalization", "resampling", "fill"}
"""Fields of the plan's data section on which no array depends, only labels, and only images."""


@dataclass(frozen=True)
class StoredCase:
    """One case of the store."""

    id: str
    stem: Path
    """Path of the arrays without their endings."""
    first_stage: str = ""
    """Name of the array with the segmentation of the first stage of a cascade; empty: there is none."""

    def image(self) -> Sliced:
        """Open the image (C, *grid) float16, whose slices are read from disk."""
        return self._open("image")

    def label(self) -> Sliced:
        """Open the label (*grid) uint8 or uint16, whose slices are read from disk."""
        return self._open("label")

    def first(self) -> Sliced:
        """Open the segmentation (*grid) of the first stage, whose slices are read from disk."""
        return self._open(self.first_stage)

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

    def is_complete(self) -> bool:
        """Whether all arrays are there; that of the foreground is written last."""
        return all(self.has(name) for name in reversed(ARRAYS))

    def has(self, name: str) -> bool:
        """Whether one array is there."""
        return any(os.path.isfile(f"{self.stem}.{name}{suffix}") for suffix in (".npy", ".tif"))

    def _open(self, name: str) -> Sliced:
        path = Path(f"{self.stem}.{name}.tif")
        return CompressedArray(path) if path.exists() else self._load(name, "r")

    def _load(self, name: str, mode: Literal["r"] | None = None) -> np.ndarray:
        path = f"{self.stem}.{name}.npy"
        try:
            array: np.ndarray = np.load(path, mmap_mode=mode, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise make_unreadable(path, error) from error
        return array


def store_cases(
    cases: Iterable[Case],
    plan: DataPlan,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
    engine: Engine = HERE,
) -> list[StoredCase]:
    """Put cases into the store, unless they are there: large ones in processes, as many as memory and cores allow.

    Args:
        cases: the cases of a data set.
        plan: the data section of the plan.
        folder: the folder of the store.
        progress: called with (cases done, cases in all).
        engine: where they are prepared.

    Returns:
        The stored cases, in the same order.

    Raises:
        DataError: the problems of all cases that could not be read, or whose process was killed; the others are stored.
        WriteError: the store could not be written; what was stored stays.
    """
    todo = list(cases)
    if engine.is_remote:
        return _store_elsewhere(todo, plan, folder, progress, engine)
    stored: list[StoredCase] = []
    problems: list[Problem] = []
    processes = WorkerProcesses(plan) if needs_processes(todo) else None
    most = (os.cpu_count() or 1) if processes else _AT_ONCE
    pool = ThreadPoolExecutor(max_workers=count_at_once(todo, most))
    try:
        futures = [pool.submit(_store_missing, case, plan, folder, processes) for case in todo]
        for done, future in enumerate(futures, start=1):
            try:
                with failures_of(name_files(todo[done - 1].images)):
                    stored.append(future.result())
            except DataError as error:
                problems.extend(error.problems)
            if progress:
                progress(done, len(todo))
    finally:
        if processes:
            processes.close()
        pool.shutdown(cancel_futures=True)  # Ctrl-C and a full disk do not wait for the other cases
        close_whole_files()
    if problems:
        raise DataError(problems)
    return stored


def _store_elsewhere(
    cases: list[Case], plan: DataPlan, folder: Path, progress: Callable[[int, int], None] | None, engine: Engine
) -> list[StoredCase]:
    """Have the workers of an engine put cases into the store, which they share."""
    MadeFolder(folder)
    sources = {path.absolute().parent for case in cases for path in (*case.images, *case.labels)}
    engine.require_shared(list(sources), folder.absolute())
    task = partial(_store_missing, plan=plan, folder=folder.absolute(), processes=None)
    outcomes = list(run_cases(engine, task, cases, name="prepare", progress=progress))
    if problems := [problem for outcome in outcomes for problem in outcome.problems]:
        raise DataError(problems)
    return [StoredCase(outcome.unit.id, folder / outcome.value.stem.name) for outcome in outcomes]


def find_stored_cases(ids: Iterable[str], folder: Path) -> list[StoredCase]:
    """Find cases of these ids that an earlier call has stored; sources are not read, the newest arrays are taken."""
    newest: dict[str, Path] = {}
    for path in sorted(folder.glob("*.foreground.npy"), key=lambda path: path.stat().st_mtime):
        stem = path.name.removesuffix(".foreground.npy")
        if StoredCase(stem, folder / stem).is_complete():
            newest[stem[: -DIGEST - 1]] = folder / stem
    names = [(case_id, _make_file_name(case_id)) for case_id in ids]
    return [StoredCase(case_id, newest[name]) for case_id, name in names if name in newest]


def _store_missing(case: Case, plan: DataPlan, folder: Path, processes: WorkerProcesses | None) -> StoredCase:
    stored = StoredCase(case.id, folder / f"{_make_file_name(case.id)}-{_hash(case, plan)}")
    if stored.is_complete():
        return stored
    if processes:
        processes.prepare(case, stored.stem)
    else:
        write_case(case, plan, stored)
    return stored


def write_case(case: Case, plan: DataPlan, stored: StoredCase) -> None:
    """Prepare one case and write its arrays; raises as `store_cases`."""
    prepared = prepare_case_image(case, plan, once=True)
    grid = prepared.shape[1:]
    label = prepare_case_label(case, plan, prepared)
    if not _reuse_image(stored):
        _write(stored, "image", prepared.shape, np.float16, grid, prepared.read)
    _write(stored, "label", grid, label.dtype, grid, lambda slices: label[slices])
    positions = sample_positions(label, case.id, labels.find_ignored_index(plan))
    with write_atomically(f"{stored.stem}.foreground.npy") as temporary, temporary.open("wb") as file:  # the last one
        np.save(file, positions, allow_pickle=False)


def write_segmentation(stored: StoredCase, segmentation: np.ndarray) -> None:
    """Write the segmentation (*grid) of the first stage; raises WriteError."""
    shape = segmentation.shape
    _write(stored, stored.first_stage, shape, segmentation.dtype, shape, lambda slices: segmentation[slices])


def _write(
    stored: StoredCase,
    name: str,
    shape: Sequence[int],
    dtype: DTypeLike,
    grid: tuple[int, ...],
    read: Callable[[Slices], np.ndarray],
) -> None:
    """Write an array, a large one in tiles."""
    is_small = prod(shape) * np.dtype(dtype).itemsize <= SMALL
    with write_atomically(f"{stored.stem}.{name}{'.npy' if is_small else '.tif'}") as temporary:
        if is_small:
            with temporary.open("wb") as file:
                array = read(tuple(slice(0, size) for size in grid)).astype(dtype)
                np.save(file, np.ascontiguousarray(array), allow_pickle=False)
        else:
            write_compressed(temporary, tuple(shape), dtype, len(grid), read)


def _reuse_image(stored: StoredCase) -> bool:
    """Take the image of an entry whose label alone differs, without a copy where the disk can."""
    if stored.has("image"):
        return True
    half = len(stored.stem.name) - DIGEST // 2
    for path in stored.stem.parent.glob(f"{glob.escape(stored.stem.name[:half])}{'?' * (DIGEST // 2)}.image.*"):
        target = f"{stored.stem}.image{path.suffix}"
        try:
            os.link(path, target)
        except OSError:  # a disk without links
            with write_atomically(target) as temporary:
                shutil.copyfile(path, temporary)
        return True
    return False


def _hash(case: Case, plan: DataPlan) -> str:
    """Hash what the image depends on, and what the label does, each to half of the digest."""
    common = [str(STORE_VERSION), case.id, *([f"{case.plane} {case.area}"] if case.is_part else [])]
    image = [*map(_describe_file, case.images), plan.model_dump_json(exclude=_OF_NEITHER | _OF_LABELS)]
    label = [*map(_describe_file, (*case.images, *case.labels)), plan.model_dump_json(exclude=_OF_NEITHER | _OF_IMAGES)]
    texts = ["\n".join([*common, *each]) for each in (image, label)]
    digests = [hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest() for text in texts]
    return "".join(digest[: DIGEST // 2] for digest in digests)


def _describe_file(path: Path) -> str:
    return f"{path.absolute()} {path.stat().st_size} {path.stat().st_mtime_ns}"


def _make_file_name(name: str) -> str:
    """Make a file name of a case's id; one that had to be changed or cut gets a digest, so that no two share a name."""
    safe = re.sub(r"[^\w.-]", "_", name)[:80]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:8]}"
