"""What a further training learns from: corrected cases, and some of those that the model has learned from."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetpp import labels
from unetpp.data.case_files import open_case_image, read_case_classes
from unetpp.data.folds import Split, read_splits
from unetpp.errors import UnetppError
from unetpp.files import write_json
from unetpp.formats import stem_of
from unetpp.formats.writers import output_suffix, write_segmentation
from unetpp.layouts.dataset import Case
from unetpp.layouts.dataset_json import NAME as DATASET_JSON
from unetpp.plan import DataPlan
from unetpp.run_folder import RunFolder
from unetpp.serve.corrections import CorrectedCase, describe_data, find_unsaid_value
from unetpp.serve.data_cases import DataCases

MOST_REPLAYED = 200
"""Cases that the model knows and learns again: without them it would forget rare kinds of images (docs/log.md)."""
MOST_REPLAYED_VOXELS = 400_000_000
"""Voxels of these cases in all: their labels are read and written before the training begins."""
CORRECTED_SHARE = 0.25
"""Fraction of the patches that come from corrected cases at least, about, where images are of one size."""
MOST_VALIDATED = 40
"""Validation cases on which the old and the new model are compared."""
SPLITS = "splits_final.json"
"""Splits beside the data, which training takes over."""


@dataclass(frozen=True)
class TrainingData:
    """A data set for a further training."""

    folder: Path
    corrected: int
    replayed: int
    settings: tuple[str, ...]
    """Of the training: corrected cases are few, so that patches of them are drawn more often."""


def gather(
    folder: Path, corrected: list[CorrectedCase], corrections: Path, cases: DataCases, model_file: Path, data: DataPlan
) -> TrainingData:
    """Gather the cases of a further training as a data set of its own.

    Args:
        folder: for the data set; images stay where they are.
        corrected: corrected cases.
        corrections: their folder.
        cases: those of DATA.
        model_file: the model, which may lie in its run, whose folds are kept.
        data: classes of the model.

    Raises:
        DataError: a case that cannot be read.
        WriteError: no space.
    """
    known = _find_known(model_file, cases)
    held_out = set(known.validation if known else ())
    learned = [case for case in corrected if case.case not in held_out]
    entries = [_list_corrected(case, corrections) for case in learned]
    rest = [id for id in (known.train if known else ()) if id not in {case.case for case in learned}]
    random.Random(0).shuffle(rest)
    replayed = _bound((cases.find(id) for id in rest[:MOST_REPLAYED]), data)
    validation = sorted(held_out)
    random.Random(0).shuffle(validation)
    validation = validation[:MOST_VALIDATED]
    entries += [_convert(case, folder, data) for case in [*replayed, *map(cases.find, validation)]]
    ids = [stem_of(Path(entry["label"])) for entry in entries]
    write_json(folder / DATASET_JSON, {"name": "corrected", **describe_data(data), "training": entries})
    if validation:
        split = {"train": ids[: -len(validation)], "val": ids[-len(validation) :]}
        write_json(folder / SPLITS, [split])
    settings = _weigh(ids[: len(learned)], len(replayed))
    return TrainingData(folder, len(learned), len(replayed), settings)


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


def _weigh(corrected: list[str], replayed: int) -> tuple[str, ...]:
    """Let patches of corrected cases be drawn more often, if they are few among those that are replayed."""
    if not corrected or len(corrected) >= CORRECTED_SHARE * (len(corrected) + replayed):
        return ()
    weight = round(replayed * CORRECTED_SHARE / (1 - CORRECTED_SHARE) / len(corrected), 3)
    return (f"train.case_weights={json.dumps(dict.fromkeys(corrected, weight))}",)


def _find_known(model_file: Path, cases: DataCases) -> Split | None:
    """Find what a model was trained and validated on, if it lies in its run and these cases are served."""
    run, fold = RunFolder(model_file.parent.parent), model_file.parent.name.removeprefix("fold_")
    try:
        split = read_splits(run.splits)[int(fold)]
        served = {
            entry.id for entry in cases.list(0, len(cases)) if entry.has_label and not cases.find(entry.id).is_part
        }
    except (UnetppError, ValueError, IndexError):
        return None
    found = [tuple(id for id in ids if id in served) for ids in (split.train, split.validation)]
    return Split(*found) if all(found) else None


def _list_corrected(case: CorrectedCase, corrections: Path) -> dict[str, Any]:
    root = corrections.absolute()
    return {"image": [str(root / image) for image in case.images], "label": str(root / case.label)}


def _convert(case: Case, folder: Path, data: DataPlan) -> dict[str, Any]:
    """Write the label of a case with the values of the model, whatever its own are; the image stays where it is."""
    classes, geometry = read_case_classes(case, data), open_case_image(case, data).geometry
    name = f"{case.id.replace('/', '__')}"
    label = folder / "labels" / f"known_{name}{output_suffix(geometry)}"
    known = labels.make_labels(data)
    ignored = labels.find_ignored_index(data)
    shown = classes if ignored is None else classes.clip(max=data.num_classes)
    table = [*known.values, *([] if ignored is None else [find_unsaid_value(data)])]
    values = labels.Classes((*known.names, *(["ignore"] if ignored is not None else [])), tuple(table)).decode(shown)
    write_segmentation(values, geometry, label)
    return {"image": [str(path.absolute()) for path in case.images], "label": str(label.absolute())}
