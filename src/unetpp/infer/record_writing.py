"""Writing of predictions.json and predictions.csv: what earlier commands and other parts have done stays in them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetpp.errors import DataError, Problem
from unetpp.files import write_json
from unetpp.formats import list_image_files, stem_of
from unetpp.infer.options import PredictOptions
from unetpp.infer.prediction import AUTO, MEAN, name_depth
from unetpp.infer.record import PREDICTIONS, PredictionRecord, read_record, write_table
from unetpp.layouts.dataset import Case
from unetpp.size_names import SizeNames
from unetpp.sizes import find_size

if TYPE_CHECKING:
    from unetpp.infer.case_predictor import CasePredictor

_OF_PLACES = ("backend", "model", "model_place")
"""Settings that say where a prediction was made: they differ between the workers of one command."""


@dataclass(frozen=True)
class Failure:
    """A case that could not be predicted."""

    id: str
    problem: Problem

    def as_entry(self) -> dict[str, Any]:
        """Return it as predictions.json has it: without the place of the file."""
        return {"id": self.id, **self.problem.to_dict(), "where": Path(self.problem.where).name}


@dataclass(frozen=True)
class Inputs:
    """Names of what a command was asked for, to find what is its own among the failures of all parts."""

    ids: tuple[str, ...]
    """Inputs that cannot be read, then the cases of all parts."""
    mine: frozenset[str]
    """Those of this part."""

    def merge(self, earlier: Iterable[Any], failures: Sequence[Failure]) -> list[dict[str, Any]]:
        """Add the failures of other parts to those of this one, in the order of the inputs."""
        places = {name: place for place, name in enumerate(self.ids)}
        others = [each for each in earlier if isinstance(each, dict) and each.get("id") in places.keys() - self.mine]
        found = [*(failure.as_entry() for failure in failures), *others]
        return sorted(found, key=lambda each: places.get(each["id"], -1))


def make_settings(predictor: CasePredictor, depth: int, options: PredictOptions, digest: str | None) -> dict[str, Any]:
    """Make the settings that predictions.json begins with.

    Args:
        predictor: the model.
        depth: number of the size.
        options: options of the prediction.
        digest: that of the model's files, if it has some.
    """
    return {
        **_name_model(predictor.name),
        **({"model_digest": digest} if digest else {}),
        "backend": predictor.backend,
        **_name_size(depth, predictor.sizes),
        "options": options.recorded,
        **predictor.data.model_dump(mode="json", include={"classes", "label_values", "labels", "regions"}),
    }


def identify(settings: Mapping[str, Any]) -> str:
    """Digest the settings that a segmentation depends on: the content of the model, not its place."""
    places = _OF_PLACES if "model_digest" in settings else ("backend",)
    kept = {name: value for name, value in settings.items() if name not in places}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def digest_source(case: Case, extras: Sequence[str]) -> str:
    """Digest what identifies the files of a case, name, size and time, and what is written beside its segmentation.

    Voxels beside a header count, and all files of a folder: where only these change, the header's time stays.
    """
    files = [(os.path.relpath(file, path.parent), file) for path in case.images for file in list_image_files(path)]
    status = [(name, found.st_size, found.st_mtime_ns) for name, file in files if (found := _stat(file))]
    text = json.dumps([case.id, status, *sorted(extras)])
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def _stat(path: Path) -> Any:
    try:
        return path.stat()
    except OSError:  # that is a problem of the case, and is found again
        return None


def read_earlier(folders: Mapping[int, Path]) -> tuple[dict[int, PredictionRecord], list[str]]:
    """Read what earlier calls have recorded, by depth, and notes on records that cannot be read and are replaced."""
    records, notes = {depth: PredictionRecord() for depth in folders}, []
    for depth, folder in folders.items():
        try:
            records[depth] = read_record(folder) or PredictionRecord()
        except DataError as error:
            problem = error.problems[0]
            notes.append(f"{problem.where} held {problem.got}; it was replaced, and earlier files are not listed in it")
    return records, notes


def list_ids(record: PredictionRecord) -> list[str]:
    """List the images that earlier calls have predicted into a folder."""
    return [name_image(name) for name in record.files or () if Path(name).name]


def name_image(file: str) -> str:
    """Return the id of the image of a segmentation: its path without the ending."""
    return str(Path(file).with_name(stem_of(Path(file))))


def list_earlier(folder: Path, record: PredictionRecord, key: str) -> dict[str, Any]:
    """List the files, and their entries, that earlier calls with the same model and settings have written."""
    names = record.files or () if _identify_record(record) == key else ()
    return {name: record.cases.get(name) for name in names if is_file(folder / name)}


def _identify_record(record: PredictionRecord) -> str:
    """Digest the settings of a record."""
    own = {"files", "cases", "failed", "verdicts", "instances"}
    return identify({name: value for name, value in record.model_dump(mode="json").items() if name not in own})


def write_record(
    folder: Path,
    settings: Mapping[str, Any],
    finished: Mapping[str, Any],
    failures: Sequence[Failure],
    inputs: Inputs,
    verdicts: Sequence[str],
) -> None:
    """Write predictions.json and predictions.csv of one folder.

    Args:
        folder: folder of segmentations.
        settings: those of `make_settings`.
        finished: path of a segmentation in the folder -> its entry.
        failures: inputs of this command that have none.
        inputs: what all parts of the command were asked for.
        verdicts: on the training of the model, a line for each that is not good.

    Raises:
        WriteError: no space, or no permission to write.
    """
    (record,) = read_earlier({0: folder})[0].values()
    key = identify(settings)
    earlier, is_same = list_earlier(folder, record, key), _identify_record(record) == key
    cases = {name: finished.get(name, earlier.get(name)) for name in sorted({*finished, *earlier})}
    said = {"verdicts": list(verdicts)} if verdicts else {}
    failed = inputs.merge(record.failed if is_same else (), failures)
    content = {**settings, **said, "files": list(cases), "cases": cases, "failed": failed}
    write_json(folder / PREDICTIONS, content)
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


def is_file(path: Path) -> bool:
    """Tell whether a file is there."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
