"""New cases, mixed with those that a model knows: without these it would forget rare kinds of images (docs/log.md).

The mixture is a data set of its own: a dataset.json that names images where they lie, labels with the values of the
model, and the validation cases of the model, by which it can be compared with the one that learns from the mixture.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetpp import labels
from unetpp.data.case_files import open_case_image, read_case_classes
from unetpp.data.folds import NNUNET_SPLITS, read_splits
from unetpp.errors import DataError, Problem, UnetppError
from unetpp.files import write_json
from unetpp.formats import digest_image, list_image_files, stem_of
from unetpp.formats.writers import output_suffix, write_segmentation
from unetpp.json_files import read_json
from unetpp.layouts.cases import find_cases
from unetpp.layouts.dataset import Case
from unetpp.layouts.dataset_json import NAME as DATASET_JSON
from unetpp.layouts.dataset_json import describe_data, find_unsaid_value
from unetpp.layouts.patients import find_patient
from unetpp.plan import DataPlan
from unetpp.run_folder import RunFolder
from unetpp.words import count_noun

MOST_REPLAYED = 200
"""Known cases that are learned from again."""
MOST_REPLAYED_VOXELS = 400_000_000
"""Voxels of these cases in all: their labels are read and written before the training begins."""
NEW_SHARE = 0.25
"""Fraction of the patches that come from new cases at least, about, where images are of one size."""
MOST_VALIDATED = 40
"""Known validation cases on which the old and the new model are compared."""


@dataclass(frozen=True)
class Mixture:
    """A data set of new and of known cases."""

    folder: Path
    new: int
    replayed: int
    validated: int
    """Known validation cases; 0: the training chooses some of the new cases."""
    settings: dict[str, Any]
    """Of the training: new cases are few, so that patches of them are drawn more often."""

    def describe(self) -> str:
        """Say what is learned from, and on what models are compared."""
        new = count_noun(self.new, "new case")
        if not self.validated:
            return (
                f"{new} alone, as those that the model has learned from are not found: its run, and the data of that "
                "run, have them. Some of the new ones are kept to compare on."
            )
        known = f"{count_noun(self.replayed, 'case')} that the model knows"
        return f"{new} and {known}; compared on {count_noun(self.validated, 'validation case')} of the model's run."


@dataclass(frozen=True)
class _Known:
    """Cases that a model has learned from, and those by which it was validated."""

    train: list[Case]
    validation: list[Case]

    def drop(self, copies: set[str]) -> _Known:
        """Leave cases out: a new one is not replayed as it was, nor does a model that learns from it prove itself."""
        return _Known(*([case for case in cases if case.id not in copies] for cases in (self.train, self.validation)))


def mix(new: Path, model_file: Path, folder: Path, data: DataPlan, known_data: Path | None = None) -> Mixture:
    """Mix the cases of a data set with those that a model knows.

    Known cases are those of the run that the model lies in, from the data set that this run remembers, or from
    `known_data`. Those that are among the new ones, byte for byte, are left out.

    Args:
        new: the data set; its labels have the values of the model.
        model_file: the model.
        folder: for the mixture; images stay where they are.
        data: channels and classes of the model.
        known_data: a data set in which the known cases may be.

    Raises:
        DataError: a case that cannot be read, or too few to train and to validate.
        WriteError: no space.
    """
    added = [case for case in find_cases(new).cases if case.labels and case.split != "test"]
    if not added:
        raise DataError(Problem(str(new), "no cases with labels", "cases to learn from", "Name another data set."))
    known = _find_known(model_file, known_data)
    if known:
        cases = [*known.train, *known.validation]
        found = known.drop(_find_copies([case.images[0] for case in added], cases))
        found = _Known(found.train, _leave_out_patients(added, found.validation))
        if not found.validation:
            count = count_noun(len(known.validation), "validation case")
            got, expected = f"all {count} of the model, or their patients, among the new ones", "one that is not"
            raise DataError(Problem(str(new), got, f"{expected}, to compare on", "Leave one of them out."))
        known = _Known(_choose(found.train, MOST_REPLAYED), _choose(found.validation, MOST_VALIDATED))
        known = _Known(_bound(known.train, data), known.validation)
    elif len(added) < 2:
        got = f"{count_noun(len(added), 'new case')}, and none of those that the model has learned from"
        action = "Add a case; or use the model of a run whose data set is still there."
        raise DataError(Problem(str(new), got, "2 cases or more, one to train and one to compare on", action))
    return _write(added, known or _Known([], []), folder, data, is_described=_is_described(new, data))


def _write(added: list[Case], known: _Known, folder: Path, data: DataPlan, is_described: bool) -> Mixture:
    taken: set[str] = set()
    entries = [_keep(case) if is_described else _convert(case, _name(case, taken), folder, data) for case in added]
    taken |= {stem_of(Path(entry["label"])) for entry in entries}
    entries += [_convert(case, _name(case, taken), folder, data) for case in (*known.train, *known.validation)]
    ids = [stem_of(Path(entry["label"])) for entry in entries]
    write_json(folder / DATASET_JSON, {"name": "mixture", **describe_data(data), "training": entries})
    count = len(known.validation)
    if count:
        write_json(folder / NNUNET_SPLITS, [{"train": ids[:-count], "val": ids[-count:]}])
    settings = _weigh(ids[: len(added)], len(known.train))
    return Mixture(folder, len(added), len(known.train), count, settings)


def _name(case: Case, taken: set[str]) -> str:
    """Name a case in the mixture: as it is named, or with a number where another one has that name."""
    plain = case.id.replace("/", "__")
    names = (plain, *(f"{plain}-{number}" for number in range(2, len(taken) + 3)))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name


def _leave_out_patients(added: Sequence[Case], validation: list[Case]) -> list[Case]:
    """Leave out validation cases of patients of whom a new case trains, as far as groups and names tell."""
    new = {case.group or find_patient(case.id) for case in added} - {None}
    return [case for case in validation if (case.group or find_patient(case.id)) not in new]


def _weigh(new: list[str], replayed: int) -> dict[str, Any]:
    """Let patches of new cases be drawn more often, if they are few among those that are replayed."""
    if len(new) >= NEW_SHARE * (len(new) + replayed):
        return {}
    weight = round(replayed * NEW_SHARE / (1 - NEW_SHARE) / len(new), 3)
    return {"train.case_weights": dict.fromkeys(new, weight)}


def _find_known(model_file: Path, known_data: Path | None) -> _Known | None:
    """Find what a model was trained and validated on, if it lies in its run and the data set of the run is there."""
    run, fold = RunFolder(model_file.parent.parent), model_file.parent.name.removeprefix("fold_")
    try:
        split = read_splits(run.splits)[int(fold)]
    except (UnetppError, ValueError, IndexError):
        return None
    for place in filter(None, (Path(run.recall_data()), known_data)):
        try:
            cases = find_cases(place, tolerant=True).cases
        except UnetppError:
            continue
        usable = {case.id: case for case in cases if case.labels and not case.is_part}
        found = _Known(*([usable[id] for id in ids if id in usable] for ids in (split.train, split.validation)))
        if found.train and found.validation:
            return found
    return None


def _find_copies(new: Iterable[Path], known: Sequence[Case]) -> set[str]:
    """Find the known cases whose first image is one of the new ones; only files of equal size are compared."""
    by_size: dict[int, list[Case]] = {}
    for case in known:
        by_size.setdefault(_measure(case.images[0]), []).append(case)
    found = set()
    for path in new:
        alike = by_size.get(_measure(path), ())
        digest = digest_image(path) if alike else ""
        found |= {case.id for case in alike if digest_image(case.images[0]) == digest}
    return found


def _measure(path: Path) -> int:
    return sum(file.stat().st_size for file in list_image_files(path) if file.is_file())


def _choose(cases: list[Case], most: int) -> list[Case]:
    return random.Random(0).sample(cases, len(cases))[:most]


def _bound(cases: Iterable[Case], data: DataPlan) -> list[Case]:
    """Take cases until their voxels are as many as are replayed, the first one in any case."""
    taken: list[Case] = []
    voxels = 0
    for case in cases:
        voxels += math.prod(open_case_image(case, data).shape[1:])
        if taken and voxels > MOST_REPLAYED_VOXELS:
            break
        taken.append(case)
    return taken


def _is_described(folder: Path, data: DataPlan) -> bool:
    """Tell whether a data set has the label values of the mixture, as corrections have."""
    try:
        found = read_json(folder / DATASET_JSON)
    except (OSError, ValueError):
        return False
    return all(found.get(key) == value for key, value in describe_data(data).items())


def _keep(case: Case) -> dict[str, Any]:
    return {"image": [str(path.absolute()) for path in case.images], "label": str(case.labels[0].absolute())}


def _convert(case: Case, name: str, folder: Path, data: DataPlan) -> dict[str, Any]:
    """Write the label of a case with the values of the model, whatever its own are; the image stays where it is."""
    classes, geometry = read_case_classes(case, data), open_case_image(case, data).geometry
    label = folder / "labels" / f"{name}{output_suffix(geometry)}"
    known = labels.make_labels(data)
    ignored = labels.find_ignored_index(data)
    shown = classes if ignored is None else classes.clip(max=data.num_classes)
    table = [*known.values, *([] if ignored is None else [find_unsaid_value(data)])]
    values = labels.Classes((*known.names, *(["ignore"] if ignored is not None else [])), tuple(table)).decode(shown)
    write_segmentation(values, geometry, label)
    return {"image": [str(path.absolute()) for path in case.images], "label": str(label.absolute())}
