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

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from os.path import dirname, realpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetpp.cluster.engine import Engine, HereEngine
from unetpp.errors import Problem, UsageError
from unetpp.files import MadeFolder
from unetpp.infer.case_result import CaseJob, CaseResult, CaseUnit, share_tiles, write_case
from unetpp.infer.journal import Journal
from unetpp.infer.map_names import MapNames
from unetpp.infer.model_digest import digest_model
from unetpp.infer.options import DEFAULTS, PredictOptions
from unetpp.infer.prediction import name_depth
from unetpp.infer.record_writing import (
    Failure,
    Inputs,
    digest_source,
    identify,
    is_file,
    list_earlier,
    list_ids,
    make_settings,
    name_image,
    read_earlier,
    write_record,
)
from unetpp.layouts.dataset import Case
from unetpp.layouts.inputs import FoundImages, find_images
from unetpp.parts import WHOLE, Part
from unetpp.progress import Stage
from unetpp.words import count_noun, format_time, merge_remarks

if TYPE_CHECKING:
    from unetpp.infer.case_predictor import CasePredictor

Task = Callable[[CaseUnit], CaseResult]


@dataclass(frozen=True)
class Sharing:
    """How the cases of one command are shared between processes, and between commands."""

    engine: Engine = field(default_factory=HereEngine)
    part: Part = WHOLE
    """The share of this command."""
    resume: bool = False
    """Leave alone what the same model has made of the same files."""
    make_task: Callable[[CaseJob], Task] | None = None
    """Makes what the workers of a remote engine run."""


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
    """With early exit (`size="auto"`): fraction of the tiles that stopped at each depth, with shells at each size."""
    outside: tuple[str, ...] = ()
    """How images differ from those of the training, a line for each way."""
    notes: tuple[str, ...] = ()
    """Remarks of the readers, how some files were predicted, and what was left out, a line for each."""

    backend: str = ""
    """Library that ran the network."""

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
    sharing: Sharing | None = None,
) -> WrittenFiles:
    """Predict every image of `inputs`; a bad one is skipped and listed, the others are written.

    Args:
        predictor: the model.
        inputs: files and folders.
        out: folder for the results.
        options: which sizes, how, and which maps to write in addition to the segmentations.
        progress: called with images done of all.
        overlay: write a picture of each image with the outlines of its segmentation.
        sharing: how the cases are shared; None: all are predicted here.

    Raises:
        DataError: no images.
        UsageError: the options do not fit the model, a result would overwrite its input, or another command predicts
            into the same folder.
        WriteError: no space, or no permission to write.
        Interrupted: the engine was lost; what is finished stays.
    """
    found = find_images([Path(entry) for entry in inputs], predictor.data.channels, out)
    depths, sizes = predictor.choose_sizes(options), predictor.sizes
    several = options.wanted == "all"
    folders = {each: out / f"{sizes.noun}_{sizes.name(each)}" if several else out for each in depths}
    _require_other_folder(found.cases, folders)
    made, sharing = MadeFolder(out), sharing or Sharing()
    journal = Journal(out, sharing.part)
    with journal.hold():
        journal.begin()
        return _Prediction(predictor, found, made, folders, options, overlay, sharing, journal).run(progress)


class _Prediction:
    """The prediction of all cases of one command, and its state while it runs."""

    def __init__(
        self,
        predictor: CasePredictor,
        found: FoundImages,
        made: MadeFolder,
        folders: dict[int, Path],
        options: PredictOptions,
        overlay: bool,
        sharing: Sharing,
        journal: Journal,
    ) -> None:
        self._predictor, self._found, self._made, self._sharing = predictor, found, made, sharing
        self._options, self._overlay, self._folders, self._journal = options, overlay, folders, journal
        self._digest = digest_model(Path(predictor.name))
        self._keys = {depth: identify(self._make_settings(depth)) for depth in folders}
        self._earlier, self._replaced = read_earlier(folders)
        self._units = sharing.part.choose(self._list_units())
        self._results: dict[str, CaseResult] = {}
        self._resumed = self._find_finished() if sharing.resume else {}
        self._backend = ""

    def run(self, progress: Stage | None) -> WrittenFiles:
        """Predict the cases; finished ones are recorded, whatever ends it."""
        is_whole = False
        try:
            self._predict(progress)
            is_whole = True
        finally:
            written = self._sum_up()
            self._made.require()
            self._write_records(written)
            if is_whole or not self._sharing.engine.is_remote:  # workers may still write to it
                self._journal.remove()
        return written

    def _list_units(self) -> list[CaseUnit]:
        """List all cases, with the names of their maps."""
        cases, options = self._found.cases, self._options
        mine = {case.id for case in cases}
        others = {
            depth: [each for each in list_ids(record) if each not in mine] for depth, record in self._earlier.items()
        }
        namers = {depth: MapNames(self._predictor.data.scored, others[depth]) for depth in self._folders}
        kinds = {"probabilities": options.probabilities, "uncertainty": options.uncertainty, "overlay": self._overlay}
        extras = [name for name, wanted in kinds.items() if wanted]
        maps = [
            {depth: namer.choose(case.id) for depth, namer in namers.items()} if options.probabilities else {}
            for case in cases
        ]
        return [CaseUnit(case, digest_source(case, extras), each) for case, each in zip(cases, maps, strict=True)]

    def _find_finished(self) -> dict[str, CaseResult]:
        """Find the cases that this model, with these settings, has made of the same files."""
        by_id: dict[str, dict[int, tuple[str, dict[str, Any]]]] = {}
        for depth, folder in self._folders.items():
            known = list_earlier(folder, self._earlier[depth], self._keys[depth]) | self._recall(depth)
            for name, entry in known.items():
                by_id.setdefault(name_image(name), {})[depth] = name, entry or {}
        found = {}
        for unit in self._units:
            entries = by_id.get(unit.id, {})
            if len(entries) == len(self._folders) and all(
                entry.get("source") == unit.source for _, entry in entries.values()
            ):
                found[unit.id] = CaseResult({depth: entries[depth] for depth in self._folders})
        return found

    def _recall(self, depth: int) -> dict[str, Any]:
        """Recall what killed commands, and other parts, have finished in one folder."""
        folder = self._folders[depth]
        return {
            each.file: each.entry
            for each in self._journal.read()
            if self._journal.out / each.folder == folder
            if each.key == self._keys[depth] and is_file(folder / each.file)
        }

    def _predict(self, progress: Stage | None) -> None:
        todo = [unit for unit in self._units if unit.id not in self._resumed]
        show = _show_time_left(progress, len(todo))
        engine = self._sharing.engine
        task, units = self._send(todo) if engine.is_remote else (partial(self._predict_here, show), iter(todo))
        given = {unit.id: unit.case for unit in todo}
        for done, outcome in enumerate(engine.run(task, units, name="predict")):
            case = given[outcome.unit.id]
            given_up = tuple(replace(problem, where=str(case.images[0])) for problem in outcome.problems)
            result = outcome.result or CaseResult(problems=given_up)
            result.problems = tuple(map(case.name_as_given, result.problems))
            self._results[case.id] = result
            self._backend = result.backend or self._backend
            show(case.id, done, 1, 1)

    def _predict_here(self, show: Callable[[str, int, int, int], None], unit: CaseUnit) -> CaseResult:
        progress = partial(show, unit.id, len(self._results))
        job = CaseJob(self._folders, self._keys, self._options, self._overlay, self._journal)
        return write_case(self._predictor, unit, job, self._made.require, progress)

    def _send(self, todo: list[CaseUnit]) -> tuple[Task, Iterator[CaseUnit]]:
        """Make the task and the units for other processes, whose current folder may be another."""
        sharing, out = self._sharing, self._journal.out.absolute()
        assert sharing.make_task is not None
        folders = {depth: folder.absolute() for depth, folder in self._folders.items()}
        journal = replace(self._journal, out=out)
        images = [path.absolute() for unit in todo for path in unit.case.images]
        sharing.engine.require_shared([Path(self._predictor.name).absolute(), *{path.parent for path in images}], out)
        task = sharing.make_task(CaseJob(folders, self._keys, self._options, self._overlay, journal))
        return task, (replace(unit, case=unit.case.absolute()) for unit in todo)

    def _make_settings(self, depth: int) -> dict[str, Any]:
        return make_settings(self._predictor, depth, self._options, self._digest)

    def _sum_up(self) -> WrittenFiles:
        """Sum up what there is, in the order of the inputs."""
        known = {**self._resumed, **self._results}
        results = {unit.id: known[unit.id] for unit in self._units if unit.id in known}
        skipped = self._found.skipped if self._sharing.part.index == 1 else []
        failures = [Failure(Path(problem.where).name, problem) for problem in skipped]
        failures += [Failure(name, problem) for name, result in results.items() for problem in result.problems]
        entries = {
            self._folders[depth] / name: entry
            for result in results.values()
            for depth, (name, entry) in result.entries.items()
        }
        tiles = sum((Counter(result.tiles) for result in results.values()), Counter[int]())
        remarks = [(name, note) for name, result in results.items() for note in result.notes]
        again = f"{count_noun(len(self._resumed), 'image')} had been segmented before, by the same model"
        return WrittenFiles(
            self._journal.out,
            tuple(name_depth(depth, self._predictor.sizes) for depth in self._folders),
            tuple(entries),
            tuple(failures),
            doubtful={path: entry["why"] for path, entry in entries.items() if entry["review"]},
            expected_dice=_collect(entries, "expected_dice"),
            expected_dice_error=_collect(entries, "expected_dice_error"),
            depth_shares=share_tiles(tiles, self._predictor.sizes),
            outside=tuple(
                merge_remarks([(name, way) for name, result in results.items() for way in _list_outside(result)])
            ),
            notes=(
                *([again] if self._resumed else []),
                *merge_remarks(remarks),
                *self._found.notes,
                *self._replaced,
            ),
            backend=self._backend,
        )

    def _write_records(self, written: WrittenFiles) -> None:
        """Write the records of all folders, with what other commands have finished."""
        skipped = [Path(problem.where).name for problem in self._found.skipped]
        mine = {*(unit.id for unit in self._units), *(skipped if self._sharing.part.index == 1 else ())}
        inputs = Inputs((*skipped, *(case.id for case in self._found.cases)), frozenset(mine))
        results = {**self._resumed, **self._results}.values()
        with self._journal.hold_record():
            for depth, folder in self._folders.items():
                own = dict(result.entries[depth] for result in results if depth in result.entries)
                settings = self._make_settings(depth) | ({"backend": self._backend} if self._backend else {})
                finished = {**self._recall(depth), **own}
                write_record(folder, settings, finished, written.failures, inputs, self._predictor.verdicts)


def _list_outside(result: CaseResult) -> Sequence[str]:
    """List how an image differs from those of the training: of one that was predicted before, by its entry."""
    return result.outside or next((entry.get("outside", ()) for _, entry in result.entries.values()), ())


def _collect(entries: Mapping[Path, Mapping[str, Any]], key: str) -> dict[Path, float]:
    return {path: entry[key] for path, entry in entries.items() if entry[key] is not None}


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
