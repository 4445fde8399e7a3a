"""Prediction from files to files.

OUT/NAME.png                       label values, in the format and on the grid of the input; OUT/depth_D/NAME.png with
                                   all depths, OUT/size_DxC/NAME.png with all sizes of a network with shells;
                                   OUT/FOLDER/NAME.png for an input in a folder of an input folder
OUT/probabilities/NAME_CLASS.tif   probability of each foreground class, if requested
OUT/uncertainty/NAME.tif           entropy or disagreement, if requested
OUT/overlays/NAME.png              the image with the outlines of its segmentation, if requested
OUT/predictions.json               model, options and files, with the expected Dice of each
OUT/predictions.csv                voxels, size and objects of each class of each file
"""

from __future__ import annotations

import errno
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from os.path import dirname, realpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetpp.data.case_files import open_case_image
from unetpp.data.preprocess import to_label_values
from unetpp.errors import (
    DataError,
    MissingExtraError,
    Problem,
    UnetppError,
    UsageError,
    WriteError,
    describe_failure,
    is_out_of_memory,
)
from unetpp.files import MadeFolder, write_json
from unetpp.formats import stem_of
from unetpp.formats.scratch import release
from unetpp.formats.writers import map_suffix, output_suffix, write_map, write_segmentation
from unetpp.infer.calibration import describe_low
from unetpp.infer.map_names import MapNames
from unetpp.infer.options import DEFAULTS, PredictOptions
from unetpp.infer.overlay import write_overlay
from unetpp.infer.prediction import AUTO, MEAN, Prediction, name_depth
from unetpp.infer.record import OVERLAYS, PREDICTIONS, PredictionRecord, measure_size, read_record, write_table
from unetpp.labels.objects import measure_classes
from unetpp.layouts.dataset import Case
from unetpp.layouts.inputs import FoundImages, find_images
from unetpp.measured import Calibration
from unetpp.plan import DataPlan
from unetpp.progress import Stage
from unetpp.results import NOTHING, SPECKLED, UNLIKE
from unetpp.size_names import SizeNames
from unetpp.sizes import find_size
from unetpp.words import format_time, merge_remarks

if TYPE_CHECKING:
    from unetpp.infer.case_predictor import CasePredictor

_FEW_OBJECTS, _VOXELS_PER_OBJECT = 100, 50
"""Objects beyond which a segmentation may be speckled; voxels of the image for each object below which it is."""
_OF_ONE_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EILSEQ, errno.ENOTEMPTY)
"""Errors of writing that other files need not have."""


@dataclass(frozen=True)
class Failure:
    """A case that could not be predicted."""

    id: str
    problem: Problem


@dataclass(frozen=True)
class WrittenFiles:
    """Files written, and cases that failed."""

    out: Path
    depths: tuple[int | str, ...]
    """Depths, with shells names of sizes, or "mean", "auto"."""
    files: tuple[Path, ...]
    """Segmentations, in the order of the inputs."""
    failures: tuple[Failure, ...]
    """Inputs that were skipped: images that are not read, and cases that failed."""
    doubtful: Mapping[Path, str] = field(default_factory=dict)
    """Those of `files` to review, and why: NOTHING, UNLIKE, SPECKLED, or LOW, of how few cases."""
    expected_dice: Mapping[Path, float] = field(default_factory=dict)
    """Dice that is to be expected of those of `files` of which it is known."""
    expected_dice_error: Mapping[Path, float] = field(default_factory=dict)
    """Mean absolute error of that on the validation cases."""
    depth_shares: Mapping[int | str, float] = field(default_factory=dict)
    """With `depth="auto"`: fraction of the tiles that stopped at each depth, with shells at each size."""
    outside: tuple[str, ...] = ()
    """How images differ from those of the training, a line for each way."""
    notes: tuple[str, ...] = ()
    """Remarks of the readers, how some files were predicted, and what was left out, a line for each."""

    @property
    def failed(self) -> tuple[Problem, ...]:
        """Problems of the inputs that were skipped."""
        return tuple(failure.problem for failure in self.failures)


def predict_to_files(
    predictor: CasePredictor,
    inputs: Sequence[str | PathLike[str]],
    out: Path,
    options: PredictOptions = DEFAULTS,
    progress: Stage | None = None,
    overlay: bool = False,
) -> WrittenFiles:
    """Predict every image of `inputs`; a bad one is skipped and listed, the others are written.

    Args:
        predictor: the model.
        inputs: files and folders.
        out: folder for the results.
        options: which sizes, how, and which maps to write in addition to the segmentations.
        progress: called with images done of all.
        overlay: write a picture of each image with the outlines of its segmentation.

    Raises:
        DataError: no images.
        UsageError: the options do not fit the model, or a result would overwrite its input.
        WriteError: no space, or no permission to write.
    """
    found = find_images([Path(entry) for entry in inputs], predictor.data.channels, out)
    return predict_found(predictor, found, out, options, progress, overlay)


def predict_found(
    predictor: CasePredictor,
    found_images: FoundImages,
    out: Path,
    options: PredictOptions = DEFAULTS,
    progress: Stage | None = None,
    overlay: bool = False,
) -> WrittenFiles:
    """Predict images whose files are known; arguments and errors otherwise as of `predict_to_files`."""
    plan = predictor.data
    depths, sizes = predictor.choose_sizes(options), predictor.sizes
    several = options.wanted == "all"
    folders = {each: out / f"{sizes.noun}_{sizes.name(each)}" if several else out for each in depths}
    cases = found_images.cases
    _require_other_folder(cases, folders)
    made = MadeFolder(out)
    earlier, replaced = _read_earlier(folders)
    namers = {depth: MapNames(plan.scored, _list_ids(earlier[depth])) for depth in depths}
    entries: dict[Path, dict[str, Any]] = {}
    failures = [Failure(Path(problem.where).name, problem) for problem in found_images.skipped]
    outside: list[tuple[str, str]] = []
    notes: list[tuple[str, str]] = []
    tiles: Counter[int] = Counter()
    show = _show_time_left(progress, len(cases))
    try:
        for number, case in enumerate(cases):
            try:
                # nothing of one case is held while the next is predicted: either may be huge
                for depth, found in predictor.predict_case(case, options, partial(show, case.id, number)).items():
                    made.require()
                    path = _write(found, case.id, folders[depth], plan, namers[depth])
                    size = found.segmentation.size
                    entries[path] = _flag_speckles({**_judge(found, predictor), **_measure(found, plan, sizes)}, size)
                    tiles.update(found.tiles)
                    if overlay:
                        picture = folders[depth] / OVERLAYS / f"{case.id}.png"
                        write_overlay(open_case_image(case, plan), found.segmentation, plan, picture)
                    if depth == depths[0]:
                        outside += [(case.id, way) for way in found.outside]
                        notes += [(case.id, note) for note in _find_notes(found, plan.dims)]
            except Exception as error:
                failures += [Failure(case.id, problem) for problem in _find_problems(error, str(case.images[0]))]
            show(case.id, number, 1, 1)
    finally:  # finished cases are recorded, whatever ends the loop
        written = WrittenFiles(
            out,
            tuple(name_depth(depth, sizes) for depth in depths),
            tuple(entries),
            tuple(failures),
            doubtful={path: entry["why"] for path, entry in entries.items() if entry["review"]},
            expected_dice=_collect(entries, "expected_dice"),
            expected_dice_error=_collect(entries, "expected_dice_error"),
            depth_shares=_share(tiles, sizes),
            outside=tuple(merge_remarks(outside)),
            notes=(*merge_remarks(notes), *found_images.notes, *replaced),
        )
        made.require()
        _write_entries(written, entries, folders, predictor, options)
    return written


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


def _read_earlier(folders: Mapping[int, Path]) -> tuple[dict[int, PredictionRecord], list[str]]:
    """Read what earlier calls have recorded, by depth, and notes on records that cannot be read and are replaced."""
    records, notes = {depth: PredictionRecord() for depth in folders}, []
    for depth, folder in folders.items():
        try:
            records[depth] = read_record(folder) or PredictionRecord()
        except DataError as error:
            problem = error.problems[0]
            notes.append(f"{problem.where} held {problem.got}; it was replaced, and earlier files are not listed in it")
    return records, notes


def _list_ids(record: PredictionRecord) -> list[str]:
    """List the images that earlier calls have predicted into a folder."""
    names = [Path(name) for name in record.files or ()]
    return [str(name.with_name(stem_of(name))) for name in names if name.name]


def _write(prediction: Prediction, name: str, folder: Path, plan: DataPlan, map_names: MapNames) -> Path:
    geometry = prediction.geometry
    path = folder / f"{name}{output_suffix(geometry)}"
    write_segmentation(to_label_values(prediction.segmentation, plan), geometry, path)
    if prediction.probabilities is not None:
        for map_name, values in zip(map_names.choose(name), prediction.probabilities[-len(plan.scored) :], strict=True):
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
    return {"classes": classes, **({"depth_shares": _share(prediction.tiles, sizes)} if prediction.tiles else {})}


def _flag_speckles(entry: dict[str, Any], voxels: int) -> dict[str, Any]:
    """Have a segmentation reviewed that has fallen into speckles, also without a calibration."""
    objects = sum(found["objects"] or 0 for found in entry["classes"].values())
    is_speckled = objects > max(_FEW_OBJECTS, voxels / _VOXELS_PER_OBJECT) and not entry["why"]
    return entry | {"review": True, "why": SPECKLED} if is_speckled else entry


def _collect(entries: Mapping[Path, Mapping[str, Any]], key: str) -> dict[Path, float]:
    return {path: entry[key] for path, entry in entries.items() if entry[key] is not None}


def _share(tiles: Mapping[int, int], sizes: SizeNames) -> dict[int | str, float]:
    """Return the fraction of the tiles at each depth, with shells at each size."""
    return {sizes.name(number): count / sum(tiles.values()) for number, count in sorted(tiles.items())}


def _write_entries(
    written: WrittenFiles,
    entries: Mapping[Path, Any],
    folders: Mapping[int, Path],
    predictor: CasePredictor,
    options: PredictOptions,
) -> None:
    for depth, folder in folders.items():
        settings = {
            **_name_model(predictor.name),
            "backend": predictor.backend,
            **_name_size(depth, predictor.sizes),
            "options": options.recorded,
            **predictor.data.model_dump(mode="json", include={"classes", "label_values", "labels", "regions"}),
        }
        files = {
            path.relative_to(folder).as_posix(): entry for path, entry in entries.items() if path.is_relative_to(folder)
        }
        failed = [
            {"id": failure.id, **failure.problem.to_dict(), "where": Path(failure.problem.where).name}
            for failure in written.failures
        ]
        earlier = _list_earlier(folder, settings)
        cases = {name: files.get(name, earlier.get(name)) for name in sorted({*files, *earlier})}
        said = {"verdicts": list(predictor.verdicts)} if predictor.verdicts else {}
        write_json(folder / PREDICTIONS, {**settings, **said, "files": list(cases), "cases": cases, "failed": failed})
        write_table(folder, cases)


def _name_size(number: int, sizes: SizeNames) -> dict[str, Any]:
    """Name the size of a prediction: its depth, and with shells also its name and number."""
    name = name_depth(number, sizes)
    if len(sizes.channels) == 1 or number in (MEAN, AUTO):
        return {"depth": name}
    return {"depth": find_size(number, sizes.depth).depth, "size": name, "size_number": number}


def _name_model(path: str) -> dict[str, str]:
    """Name a model without the place of its file, which is nobody's business; a digest of that tells models apart."""
    place = Path(path).absolute()
    digest = hashlib.sha256(str(place).encode(errors="surrogateescape")).hexdigest()
    return {"model": "/".join(place.parts[1:][-2:]), "model_place": digest[:12]}


def _list_earlier(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """List the files, and their entries, that earlier calls with the same model and settings have written."""
    (record,) = _read_earlier({0: folder})[0].values()
    names = record.files or () if record.matches(settings) else ()
    return {name: record.cases.get(name) for name in names if _is_file(folder / name)}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _require_other_folder(cases: Sequence[Case], folders: Mapping[int, Path]) -> None:
    """Refuse a folder that holds an input: the segmentation of a PNG has the name of the PNG."""
    images = [path for case in cases for path in case.images]
    sources = {realpath(folder) for folder in {path.parent for path in images}}
    sources |= {dirname(realpath(path)) for path in images if path.is_symlink()}  # both its folder and that of the file
    inner = {dirname(case.id) for case in cases}
    for folder in {folder / name for folder in folders.values() for name in inner}:
        if realpath(folder) in sources:
            expected = "another folder, so that no input is overwritten"
            raise UsageError("out", f"{folder}, which holds input images", expected, "Choose another `out`.")


def _show_time_left(progress: Stage | None, total: int) -> Callable[[str, int, int, int], None]:
    """Return a function that reports the images done, the time left, and the percentage of the current image.

    It takes the name of the current image, the number of images before it, and its tiles: done and in total.
    """
    started = time.monotonic()

    def show(name: str, before: int, tiles_done: int, tiles: int) -> None:
        if progress:
            done = before + tiles_done / tiles
            left = format_time((time.monotonic() - started) * (total / done - 1))
            progress(done, total, f"{left} left, {name} {tiles_done / tiles:.0%}" if done < total else "")

    return show
