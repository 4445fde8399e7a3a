"""The thread that predicts: one job after the other, all sizes in one pass, files in the format of the input."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from unetpp.data.case_files import open_case_image
from unetpp.errors import LOG, DataError, Problem
from unetpp.formats import stem_of
from unetpp.formats.sources import ImageSource
from unetpp.infer.case_predictor import CasePredictor
from unetpp.infer.map_names import MapNames
from unetpp.infer.options import PredictOptions
from unetpp.infer.predict_files import WrittenFiles, predict_found
from unetpp.infer.prediction import Uncertainty
from unetpp.infer.record import read_record
from unetpp.layouts.dataset import Case
from unetpp.layouts.inputs import FoundImages
from unetpp.progress import Stage
from unetpp.serve.job import FoundClass, Job, JobState, SizeResult
from unetpp.serve.job_store import JobStore
from unetpp.serve.limits import Limits
from unetpp.serve.model_shelf import ModelShelf
from unetpp.serve.problems import describe_error, to_item
from unetpp.serve.uploads import clean_name
from unetpp.serve.views import make_view

MAP_VOXELS = 2**27
"""Largest number of voxels of an image of which maps are written: 4 bytes for each, class and size."""
RETRY_S = 5.0
"""Seconds after which the list of jobs is written again, if that was not possible."""


class Stopped(BaseException):
    """Ends a prediction between two tiles; no `Exception`, so that nothing takes it for a problem of the image."""

    def __init__(self, state: JobState, problem: Problem | None = None) -> None:
        self.state, self.problem = state, problem


class Worker(threading.Thread):
    """Predicts the jobs of a store until it is stopped.

    Args:
        store: the jobs.
        shelf: the models.
        find_case: finds a case of DATA by its name.
        limits: of the server.
    """

    def __init__(self, store: JobStore, shelf: ModelShelf, find_case: Callable[[str], Case], limits: Limits) -> None:
        super().__init__(name="unetpp predictions", daemon=True)
        self._store, self._shelf, self._find_case, self._limits = store, shelf, find_case, limits
        self._stopping = threading.Event()
        self._cancelled: set[str] = set()
        self.is_ready = threading.Event()
        """Set when the first model is loaded."""
        self.finished: dict[JobState, int] = {}
        """Number of jobs by the state in which they ended."""
        self.busy_seconds = 0.0

    def stop(self, wait_s: float = 30.0) -> None:
        """Stop after the present tile; its job goes back to the queue."""
        self._stopping.set()
        with self._store.changed:
            self._store.changed.notify_all()
        if self.is_alive():
            self.join(wait_s)

    def cancel(self, id: str) -> None:
        """Stop a running job after its present tile."""
        self._cancelled.add(id)

    def run(self) -> None:
        """Load the first model, and predict until stopped."""
        for card in self._shelf.list()[:1]:
            with suppress(Exception):  # told by each job
                self._shelf.load(card.id)
        self.is_ready.set()
        while not self._stopping.is_set():
            try:
                job = self._store.take(self._stopping.is_set)
            except Exception as error:  # a full disk, most often: this thread is the only one that predicts
                self._wait_for_disk(error)
                continue
            if job is not None:
                self._run_job(job)

    def _run_job(self, job: Job) -> None:
        started = time.time()
        end: dict[str, Any] = {"state": JobState.DONE}
        try:
            end |= self._predict(job)
        except Stopped as stopped:
            end = {"state": stopped.state, "problem": stopped.problem and to_item(stopped.problem)}
            if stopped.state is JobState.QUEUED:
                end |= {"started": None, "progress": 0.0}
        except Exception as error:
            status, problems = describe_error(error)
            if status == 500:
                LOG.error("job %s", job.id, exc_info=error)
            end = {"state": JobState.FAILED, "problem": to_item(problems[0])}
        self._cancelled.discard(job.id)
        state = end["state"]
        if state is not JobState.QUEUED:
            end["finished"] = time.time()
            self.finished[state] = self.finished.get(state, 0) + 1
            self.busy_seconds += time.time() - started
        while not self._write_end(job, end):
            if self._stopping.is_set():
                return  # the next server begins it again

    def _write_end(self, job: Job, end: dict[str, Any]) -> bool:
        """Write how a job ended; False: not possible now, so that it has to be tried again."""
        try:
            current = self._store.find(job.id)
            if current is not None:  # not removed meanwhile
                self._store.save(current.model_copy(update=end))
                self._store.remove_oldest(self._limits.kept)
        except Exception as error:
            self._wait_for_disk(error)
            return False
        return True

    def _wait_for_disk(self, error: Exception) -> None:
        LOG.error("the list of jobs cannot be written (%s); it is tried again", error)
        LOG.debug("list of jobs", exc_info=error)
        self._stopping.wait(RETRY_S)

    def _predict(self, job: Job) -> dict[str, Any]:
        predictor = self._shelf.load(job.model)
        case = self.case_of(job)
        source = open_case_image(case, predictor.data)
        out = self._store.results_of(job.id)
        shutil.rmtree(out, ignore_errors=True)  # of a server that was killed
        wanted, note = _choose_maps(job, source)
        written = predict_found(predictor, FoundImages((case,)), out, wanted, self._watch(job))
        if written.failures:
            problem = written.failures[0].problem
            raise DataError(problem)
        notes = [*written.notes, *note, *predictor.doubts]
        found = {"sizes": collect_sizes(out, case.id, written, predictor, wanted), "notes": notes}
        return found | {
            "outside": list(written.outside),
            "view": make_view(source),
            "seconds_left": 0.0,
            "progress": 1.0,
        }

    def case_of(self, job: Job) -> Case:
        """Return the case of a job: uploaded files, or one of DATA; its name in files is always the same."""
        if job.case is not None:
            found = self._find_case(job.case)
            return Case(safe_id(job), found.images, plane=found.plane, area=found.area)
        return Case(safe_id(job), tuple(self._store.inputs_of(job.id) / name for name in job.images))

    def _watch(self, job: Job) -> Stage:
        """Return what is told of the progress: it shows it, and stops the job where it must end."""
        started = time.monotonic()

        def watch(done: float, total: int, note: str = "") -> None:
            if job.id in self._cancelled:
                raise Stopped(JobState.CANCELLED)
            if self._stopping.is_set():
                raise Stopped(JobState.QUEUED)
            spent = time.monotonic() - started
            if spent > self._limits.job_seconds:
                got, expected = (
                    f"more than {self._limits.job_seconds:g} s",
                    "a prediction within the limit of the server",
                )
                raise Stopped(JobState.FAILED, Problem(job.name, got, expected, "Cut the image into pieces."))
            left = spent * (total / done - 1) if done else None
            shown = {"progress": done / max(total, 1), "seconds_left": left}
            self._store.show(job.model_copy(update=shown))

        return watch


def safe_id(job: Job) -> str:
    """Return the name of a case in files: that of its first image without folders."""
    name = clean_name(job.name.replace("/", "_"))
    return name or "image"


def _choose_maps(job: Job, source: ImageSource) -> tuple[PredictOptions, list[str]]:
    """Choose the options of a prediction: maps of huge images are left out, with a note."""
    voxels = 1
    for size in source.shape[1:]:
        voxels *= size
    given = job.options
    if voxels > MAP_VOXELS and (given.uncertainty or given.probabilities):
        note = f"maps are left out of images above {MAP_VOXELS:,} pixels"
        return PredictOptions(depth="all", tta=given.tta), [note]
    uncertainty: Uncertainty | None = "entropy" if given.uncertainty else None
    return PredictOptions("all", given.tta, given.probabilities, uncertainty), []


def collect_sizes(
    out: Path, id: str, written: WrittenFiles, predictor: CasePredictor, options: PredictOptions
) -> list[SizeResult]:
    """Collect what was written at each size, with what is expected of it."""
    found = []
    for path in written.files:
        folder = path.parent
        record = read_record(folder)
        entry = (record.cases.get(path.name) if record else None) or {}
        name = folder.name.partition("_")[2]
        maps = MapNames(predictor.data.scored, []).choose(id) if options.probabilities else []
        found.append(
            SizeResult(
                size=name,
                file=str(path.relative_to(out)),
                **{key: entry.get(key) for key in ("expected_dice", "expected_dice_error", "confidence")},
                review=bool(entry.get("review")),
                why=str(entry.get("why") or ""),
                classes=[_describe_class(each, values) for each, values in (entry.get("classes") or {}).items()],
                probabilities=[_find(out, folder / "probabilities", stem) for stem in maps],
                uncertainty=_find(out, folder / "uncertainty", stem_of(path)) if options.uncertainty else None,
            )
        )
    return found


def _describe_class(name: str, values: dict[str, Any]) -> FoundClass:
    return FoundClass(name=name, **{key: values[key] for key in values if key in FoundClass.model_fields})


def _find(out: Path, folder: Path, stem: str) -> str:
    with suppress(StopIteration):
        return str(next(path for path in folder.iterdir() if stem_of(path) == stem).relative_to(out))
    return ""
