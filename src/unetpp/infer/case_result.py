"""One case: its prediction written to files, with its entry of predictions.json. What a worker of an engine does."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetpp.data.case_files import open_case_image
from unetpp.data.preprocess import to_label_values
from unetpp.errors import (
    DataError,
    MissingExtraError,
    Problem,
    UnetppError,
    WriteError,
    describe_failure,
    is_out_of_memory,
)
from unetpp.formats.sources import ImageSource
from unetpp.formats.writers import map_suffix, output_suffix, write_map, write_segmentation
from unetpp.infer.calibration import describe_low
from unetpp.infer.journal import FinishedFile, Journal
from unetpp.infer.options import PredictOptions
from unetpp.infer.overlay import write_overlay
from unetpp.infer.prediction import AUTO, MEAN, Prediction
from unetpp.infer.record import OVERLAYS, measure_size
from unetpp.infer.tiles import TileProgress
from unetpp.labels.objects import measure_classes
from unetpp.layouts.dataset import Case
from unetpp.measured import Calibration
from unetpp.plan import DataPlan
from unetpp.results import NOTHING, SPECKLED, UNLIKE
from unetpp.scratch import release
from unetpp.size_names import SizeNames

if TYPE_CHECKING:
    from unetpp.infer.case_predictor import CasePredictor

_FEW_OBJECTS, _VOXELS_PER_OBJECT = 100, 50
"""Objects beyond which a segmentation may be speckled; voxels of the image for each object below which it is."""
_OF_ONE_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EILSEQ, errno.ENOTEMPTY)
"""Errors of writing that other files need not have."""


@dataclass(frozen=True)
class CaseUnit:
    """A case to predict."""

    case: Case
    source: str
    """Identifies its files, see `record_writing.digest_source`."""
    maps: Mapping[int, Sequence[str]] = field(default_factory=dict)
    """Number of a size -> names of its probability maps."""

    @property
    def id(self) -> str:
        """Id of the case."""
        return self.case.id


@dataclass(frozen=True)
class CaseJob:
    """How the cases of one command are predicted and written."""

    folders: Mapping[int, Path]
    """Number of a size -> folder of its segmentations."""
    keys: Mapping[int, str]
    """Number of a size -> what identifies the model and the settings."""
    options: PredictOptions
    overlay: bool
    journal: Journal | None
    """Records at once what is finished; None: nobody resumes it."""


@dataclass
class CaseResult:
    """What was made of one case."""

    entries: dict[int, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    """Number of a size -> path of the segmentation in its folder, and its entry in predictions.json."""
    problems: tuple[Problem, ...] = ()
    outside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tiles: dict[int, int] = field(default_factory=dict)
    """Number of tiles that stopped at each depth."""
    backend: str = ""
    """Library that ran the network."""


def write_case(
    predictor: CasePredictor,
    unit: CaseUnit,
    job: CaseJob,
    require_out: Callable[[], None],
    progress: TileProgress | None = None,
    source: ImageSource | None = None,
) -> CaseResult:
    """Predict one case, write its files, and record at once that it is finished.

    Args:
        predictor: the model.
        unit: the case.
        job: how it is predicted and written.
        require_out: raises WriteError if the folder of the results has vanished.
        progress: called with (tiles done, tiles in total).
        source: its image, if it is open already.

    Raises:
        UnetppError: an error that concerns all cases; others are problems of this one.
    """
    case, plan, sizes, found = unit.case, predictor.data, predictor.sizes, CaseResult()
    try:
        predicted = predictor.predict_case(case, job.options, progress, source)
        for depth, each in predicted.items():
            require_out()
            folder = job.folders[depth]
            path = _write(each, case.id, folder, plan, unit.maps.get(depth, ()))
            voxels = each.segmentation.size
            entry = _flag_speckles({**_judge(each, predictor), **_measure(each, plan, sizes)}, voxels)
            found.entries[depth] = path.relative_to(folder).as_posix(), {**entry, "source": unit.source}
            for stopped, count in each.tiles.items():
                found.tiles[stopped] = found.tiles.get(stopped, 0) + count
            if job.overlay:
                picture = folder / OVERLAYS / f"{case.id}.png"
                write_overlay(open_case_image(case, plan), each.segmentation, plan, picture)
            if depth == next(iter(job.folders)):
                found.outside, found.notes = each.outside, tuple(_find_notes(each, plan.dims))
        if job.journal is not None:
            job.journal.append(_list_finished(found, job, job.journal.out))
    except Exception as error:
        found.problems = tuple(_find_problems(error, str(case.images[0])))
    found.backend = predictor.backend
    return found


def _list_finished(found: CaseResult, job: CaseJob, out: Path) -> list[FinishedFile]:
    places = {depth: job.folders[depth].relative_to(out).as_posix() for depth in found.entries}
    return [
        FinishedFile("" if places[depth] == "." else places[depth], job.keys[depth], name, entry)
        for depth, (name, entry) in found.entries.items()
    ]


def _find_notes(prediction: Prediction, dims: int) -> list[str]:
    """Find what the readers and the prediction of one image have to say of it."""
    as_planes = "a volume, predicted plane by plane by a 2D network"
    return [*prediction.geometry.notes, *([as_planes] if prediction.segmentation.ndim > dims else [])]


def _find_problems(error: Exception, where: str) -> Sequence[Problem]:
    """Return the problems of a single case; an error that is not that of the case is raised again."""
    if isinstance(error, DataError):
        return error.problems
    if isinstance(error, WriteError) and getattr(error.__cause__, "errno", None) in _OF_ONE_NAME:
        return error.problems
    if isinstance(error, MissingExtraError):
        return [Problem(where, "a format that is not installed", "a format of this installation", str(error))]
    if isinstance(error, UnetppError):
        raise error
    found = describe_failure(error, where)
    if is_out_of_memory(error):
        found = replace(found, action="Leave out `probabilities` and `uncertainty`, or use a machine with more memory.")
    return [found]


def _write(prediction: Prediction, name: str, folder: Path, plan: DataPlan, maps: Sequence[str]) -> Path:
    geometry = prediction.geometry
    path = folder / f"{name}{output_suffix(geometry)}"
    write_segmentation(to_label_values(prediction.segmentation, plan), geometry, path)
    if prediction.probabilities is not None:
        for map_name, values in zip(maps, prediction.probabilities[-len(plan.scored) :], strict=True):
            write_map(values, geometry, folder / "probabilities" / f"{map_name}{map_suffix(geometry)}")
    if prediction.uncertainty is not None:
        write_map(prediction.uncertainty, geometry, folder / "uncertainty" / f"{name}{map_suffix(geometry)}")
    return path


def _judge(prediction: Prediction, predictor: CasePredictor) -> dict[str, Any]:
    """Estimate how good a segmentation is, by the calibration on validation cases; None without one.

    A segmentation is to be reviewed if its confidence is low or nothing was found. MEAN and AUTO use the calibration
    of the deepest head. Of an image unlike those of the training, the calibration knows nothing.
    """
    confidence, depth = prediction.confidence, prediction.depth
    calibration = predictor.calibrations.get(max(predictor.depths) if depth in (MEAN, AUTO) else depth, Calibration())
    level, expected, why = calibration.review_below, calibration.expect_dice(confidence), ""
    if prediction.outside:
        expected, why = None, UNLIKE
    elif level is not None:
        why = NOTHING if confidence is None else describe_low(calibration) if confidence < level else ""
    return {
        "expected_dice": expected,
        "expected_dice_error": None if expected is None else calibration.expected_dice_error,
        "confidence": confidence,
        "review": None if level is None and not why else bool(why),
        "why": why,
        "outside": list(prediction.outside),
    }


def _measure(prediction: Prediction, plan: DataPlan, sizes: SizeNames) -> dict[str, Any]:
    """Measure the classes of a segmentation: voxels, area or volume, connected objects; and which depths tiles took."""
    spacing = prediction.geometry.spacing_mm
    found = measure_classes(prediction.segmentation, plan.num_classes, plan.region_indices)
    measured = zip(plan.scored, found, strict=True)
    classes = {
        name: {"voxels": size.voxels, **measure_size(size.voxels, spacing), "objects": size.objects}
        for name, size in measured
    }
    release(prediction.segmentation)
    return {"classes": classes, **({"depth_shares": share_tiles(prediction.tiles, sizes)} if prediction.tiles else {})}


def _flag_speckles(entry: dict[str, Any], voxels: int) -> dict[str, Any]:
    """Have a segmentation reviewed that has fallen into speckles, also without a calibration."""
    objects = sum(found["objects"] or 0 for found in entry["classes"].values())
    is_speckled = objects > max(_FEW_OBJECTS, voxels / _VOXELS_PER_OBJECT) and not entry["why"]
    return entry | {"review": True, "why": SPECKLED} if is_speckled else entry


def share_tiles(tiles: Mapping[int, int], sizes: SizeNames) -> dict[int | str, float]:
    """Return the fraction of the tiles at each depth, with shells at each size."""
    return {sizes.name(number): count / sum(tiles.values()) for number, count in sorted(tiles.items())}
