"""The prediction of one job: all sizes in one pass, files in the format of the input, and what is told of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

from unetpp.data.case_files import open_case_image
from unetpp.errors import DataError
from unetpp.formats import stem_of
from unetpp.formats.sources import ImageSource
from unetpp.infer.case_predictor import CasePredictor
from unetpp.infer.case_result import CaseJob, CaseResult, CaseUnit, write_case
from unetpp.infer.map_names import MapNames
from unetpp.infer.model_digest import digest_model
from unetpp.infer.options import PredictOptions
from unetpp.infer.prediction import Uncertainty
from unetpp.infer.record_writing import make_settings
from unetpp.layouts.dataset import Case
from unetpp.progress import Stage
from unetpp.serve.job import FoundClass, Job, SizeResult
from unetpp.serve.job_records import SizeRecord, keep_records
from unetpp.serve.job_store import JobStore
from unetpp.serve.model_shelf import ModelShelf
from unetpp.serve.uploads import clean_name
from unetpp.serve.views import make_view
from unetpp.words import merge_remarks

MAP_VOXELS = 2**27
"""Largest number of voxels of an image of which maps are written: 4 bytes for each, class and size."""


class JobPrediction:
    """Predicts jobs. Threads share it.

    Args:
        store: the jobs.
        shelf: the models.
        find_case: finds a case of DATA by its name.
    """

    def __init__(self, store: JobStore, shelf: ModelShelf, find_case: Callable[[str], Case]) -> None:
        self._store, self._shelf, self._find_case = store, shelf, find_case

    def run(self, job: Job, progress: Stage) -> dict[str, Any]:
        """Predict a job.

        Args:
            job: the job.
            progress: called with the images done of all; what it raises ends the prediction.

        Returns:
            The fields of the job that tell of its result.

        Raises:
            UnetppError: it cannot be predicted.
        """
        predictor, case = self._shelf.load(job.model), self.case_of(job)
        source = open_case_image(case, predictor.data)
        out = self._store.results_of(job.id)
        shutil.rmtree(out, ignore_errors=True)  # of a server that was killed
        options, left_out = _choose_maps(job, source)
        maps = MapNames(predictor.data.scored, []).choose(case.id) if options.probabilities else []
        unit = CaseUnit(case, "", dict.fromkeys(predictor.choose_sizes(options), maps))
        found, records = _predict(predictor, unit, source, out, options, progress)
        keep_records(out, records)
        remarks = [(case.id, note) for note in found.notes]
        return {
            "sizes": [_describe_size(out, name, record, maps) for name, record in records.items()],
            "notes": [*merge_remarks(remarks), *left_out, *predictor.doubts],
            "outside": merge_remarks([(case.id, way) for way in found.outside]),
            "view": make_view(source),
            "can_correct": case.is_whole_files,
            "seconds_left": 0.0,
            "progress": 1.0,
        }

    def case_of(self, job: Job) -> Case:
        """Return the case of a job: uploaded files, or one of DATA; its name in files is always the same."""
        if job.case is not None:
            found = self._find_case(job.case)
            return Case(safe_id(job), found.images, plane=found.plane, area=found.area)
        return Case(safe_id(job), tuple(self._store.inputs_of(job.id) / name for name in job.images))


def safe_id(job: Job) -> str:
    """Return the name of a case in files: that of its first image without folders."""
    name = clean_name(job.name.replace("/", "_"))
    return name or "image"


def _choose_maps(job: Job, source: ImageSource) -> tuple[PredictOptions, list[str]]:
    """Choose the options of a prediction: maps of huge images are left out, with a note."""
    given = job.options
    if prod(source.shape[1:]) > MAP_VOXELS and (given.uncertainty or given.probabilities):
        note = f"maps are left out of images above {MAP_VOXELS:,} pixels"
        return PredictOptions(depth="all", tta=given.tta), [note]
    uncertainty: Uncertainty | None = "entropy" if given.uncertainty else None
    return PredictOptions("all", given.tta, given.probabilities, uncertainty), []


def _predict(
    predictor: CasePredictor, unit: CaseUnit, source: ImageSource, out: Path, options: PredictOptions, progress: Stage
) -> tuple[CaseResult, dict[str, SizeRecord]]:
    """Predict a case into a folder for each of its sizes.

    Raises:
        DataError: it cannot be predicted.
    """
    sizes = predictor.sizes
    folders = {size: out / f"{sizes.noun}_{sizes.name(size)}" for size in unit.maps}
    job = CaseJob(folders, {}, options, False, None)
    found = write_case(
        predictor, unit, job, lambda: None, lambda done, tiles: progress(done / max(tiles, 1), 1), source
    )
    if found.problems:
        raise DataError(found.problems[0])
    digest = digest_model(Path(predictor.name))
    records = {
        folders[size].name: SizeRecord(
            settings=make_settings(predictor, size, options, digest),
            file=file,
            entry=entry,
            verdicts=list(predictor.verdicts),
        )
        for size, (file, entry) in found.entries.items()
    }
    return found, records


def _describe_size(out: Path, folder: str, record: SizeRecord, maps: Sequence[str]) -> SizeResult:
    """Describe what was written at a size, with what is expected of it."""
    entry, place = record.entry, out / folder
    return SizeResult(
        size=folder.partition("_")[2],
        file=f"{folder}/{record.file}",
        **{key: entry.get(key) for key in ("expected_dice", "expected_dice_error", "confidence")},
        review=bool(entry.get("review")),
        why=str(entry.get("why") or ""),
        classes=[_describe_class(each, values) for each, values in (entry.get("classes") or {}).items()],
        probabilities=[_find(out, place / "probabilities", stem) for stem in maps],
        uncertainty=_find(out, place / "uncertainty", stem_of(Path(record.file))) or None,
    )


def _describe_class(name: str, values: dict[str, Any]) -> FoundClass:
    return FoundClass(name=name, **{key: values[key] for key in values if key in FoundClass.model_fields})


def _find(out: Path, folder: Path, stem: str) -> str:
    with suppress(StopIteration, FileNotFoundError):
        return str(next(path for path in folder.iterdir() if stem_of(path) == stem).relative_to(out))
    return ""
