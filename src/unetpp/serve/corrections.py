"""Corrected cases: an ordinary data set, with a dataset.json, that `unetpp check` and `unetpp train` accept."""

from __future__ import annotations

import math
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from unetpp import labels
from unetpp.errors import WriteError
from unetpp.files import write_atomically, write_json
from unetpp.formats import digest_image, list_image_files, suffix_of
from unetpp.formats.readers import read_label
from unetpp.formats.sources import ImageSource
from unetpp.formats.writers import output_suffix, write_segmentation
from unetpp.json_files import read_json
from unetpp.layouts.dataset import Case
from unetpp.layouts.dataset_json import NAME as DATASET_JSON
from unetpp.layouts.dataset_json import describe_data, find_unsaid_value
from unetpp.plan import DataPlan
from unetpp.serve.display import DisplayGrid
from unetpp.serve.problems import Refused
from unetpp.serve.strokes import Correction

_LOCK = threading.Lock()


class CorrectedCase(BaseModel):
    """A case that a person has corrected."""

    name: str
    images: list[str]
    """Files of the image, relative to the folder."""
    label: str
    job: str
    """Job that was corrected."""
    case: str | None = None
    """Case of DATA that it is, if it is one."""
    painted: int
    """Voxels whose class was changed or said."""
    unsaid: float = 0.0
    """Fraction of the voxels of which nobody says what they are."""
    saved: float
    digest: str = ""
    """SHA-256 of the first image, by which it is recognized: of its file, or of the header and its voxels."""


class _Record(BaseModel):
    cases: list[CorrectedCase] = []


class CorrectionSet:
    """Corrected cases in a folder.

    Args:
        folder: for images/, labels/, dataset.json and corrections.json; it is made with the first case.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def list(self) -> list[CorrectedCase]:
        """List the cases, the newest first."""
        return sorted(self._read().cases, key=lambda case: -case.saved)

    def save(
        self,
        correction: Correction,
        case: Case,
        source: ImageSource,
        predicted: Path,
        data: DataPlan,
        job: str,
        known_as: str | None = None,
    ) -> CorrectedCase:
        """Save a corrected case; the same image again replaces it.

        Args:
            correction: what was painted.
            case: files of the image.
            source: the image, opened.
            predicted: segmentation that was painted over.
            data: classes of the model.
            job: id of the job.
            known_as: case of DATA that it is.

        Raises:
            Refused: a part of a file, an image that is a folder, or a folder of corrections with cases of other
                classes.
            DataError: strokes that do not fit the image.
            WriteError: no space.
        """
        _require_whole_files(case)
        values, painted, unsaid = _paint(correction, source, predicted, data)
        with _LOCK:
            record, description = self._read(), self._describe(data)
            digest = digest_image(case.images[0])
            name = _choose_name(case.id, digest, record)
            images = _copy_images(case, self.folder / "images", name)
            label = self.folder / "labels" / f"{name}{output_suffix(source.geometry)}"
            write_segmentation(values, source.geometry, label)
            saved = CorrectedCase(
                name=name,
                images=[str(path.relative_to(self.folder)) for path in images],
                label=str(label.relative_to(self.folder)),
                job=job,
                case=known_as,
                painted=painted,
                unsaid=unsaid,
                saved=time.time(),
                digest=digest,
            )
            kept = [each for each in record.cases if each.name != name]
            self._write(_Record(cases=[*kept, saved]), description)
            return saved

    def remove(self, name: str) -> None:
        """Remove a case; raises Refused if there is none of that name."""
        with _LOCK:
            record = self._read()
            found = [case for case in record.cases if case.name == name]
            if not found:
                raise Refused(404, "correction", repr(name[:80]), "the name of a corrected case", "List them.")
            description = read_json(self.folder / DATASET_JSON)
            self._write(_Record(cases=[case for case in record.cases if case.name != name]), description)
            for file in (*found[0].images, found[0].label):
                (self.folder / file).unlink(missing_ok=True)
            shutil.rmtree(self.folder / "images" / name, ignore_errors=True)  # of images of several files

    def _read(self) -> _Record:
        try:
            return _Record.model_validate(read_json(self.folder / "corrections.json"))
        except FileNotFoundError:
            return _Record()
        except (OSError, ValueError, ValidationError) as error:
            raise WriteError(
                self.folder / "corrections.json", str(error)[:200], "the list of corrections", ""
            ) from None

    def _describe(self, data: DataPlan) -> dict[str, Any]:
        """Describe the classes; raises Refused where those of the folder are others."""
        made = {"name": "corrections", **describe_data(data)}
        path = self.folder / DATASET_JSON
        earlier = read_json(path) if path.is_file() else made
        if any(earlier.get(key) != made.get(key) for key in ("labels", "channel_names", "regions_class_order")):
            got, expected = f"{self.folder.name}, with cases of other classes or channels", "those of this model"
            raise Refused(409, "corrections", got, expected, "Start the server with another `corrections` folder.")
        return made

    def _write(self, record: _Record, description: dict[str, Any]) -> None:
        entries = [{"image": case.images, "label": case.label} for case in record.cases]
        write_json(self.folder / "corrections.json", record.model_dump(mode="json"))
        write_json(self.folder / DATASET_JSON, {**description, "numTraining": len(entries), "training": entries})


def _require_whole_files(case: Case) -> None:
    if case.is_whole_files:
        return
    got = "a part of a file" if case.is_part else "an image that is a folder"
    raise Refused(409, "correction", got, "whole files", "Correct it in a program of your own.")


def _paint(
    correction: Correction, source: ImageSource, predicted: Path, data: DataPlan
) -> tuple[np.ndarray, int, float]:
    """Paint the strokes over the segmentation; returns label values (*spatial), voxels painted, fraction unsaid."""
    spatial = source.shape[1:]
    drawn, affine = correction.draw(data.num_classes, predicted.name)
    block, strokes = DisplayGrid.of(spatial, source.geometry).place(drawn, affine, predicted.name)
    is_painted = strokes >= 0
    painted = labels.make_labels(data).decode(strokes[is_painted])
    count = int(is_painted.sum())
    if correction.unpainted == "predicted":
        before, unsaid = read_label(predicted).array[0], 0.0
        values = np.array(before, np.result_type(before, painted))
    else:
        nothing = find_unsaid_value(data)
        values = np.full(spatial, nothing, np.result_type(painted, np.min_scalar_type(nothing)))
        unsaid = 1 - count / math.prod(spatial)
    values[block][is_painted] = painted
    return values, count, unsaid


def _choose_name(id: str, digest: str, record: _Record) -> str:
    """Choose the name of a case: that which the same image has, or a new one."""
    same = next((case.name for case in record.cases if case.digest == digest), None)
    if same:
        return same
    taken, name, number = {case.name.lower() for case in record.cases}, id, 1
    while name.lower() in taken:
        number += 1
        name = f"{id}_{number}"
    return name


def _copy_images(case: Case, folder: Path, name: str) -> list[Path]:
    """Copy the files of an image under the name of its case.

    Headers with voxels beside them keep their names, by which they find these, in a folder of the case.
    """
    copied = []
    for number, path in enumerate(case.images):
        channel, files = f"_{number:04d}" if len(case.images) > 1 else "", list_image_files(path)
        if len(files) > 1:
            copied.append(_copy_together(path, files, folder / name / f"image{channel}"))
            continue
        target = folder / f"{name}{channel}{suffix_of(path)}"
        _copy(path, target)
        copied.append(target)
    return copied


def _copy_together(header: Path, files: tuple[Path, ...], folder: Path) -> Path:
    """Copy a header with its voxels; raises Refused if it would not find them in the copy."""
    places = [os.path.relpath(file, header.parent) for file in files]
    if not any(place.startswith(os.pardir) for place in places):
        for file, place in zip(files, places, strict=True):
            _copy(file, folder / place)
        if len(list_image_files(folder / header.name)) == len(files):
            return folder / header.name
    shutil.rmtree(folder, ignore_errors=True)
    got, action = "a header that names the folder of its voxels", "Write their name alone into the header."
    raise Refused(409, "correction", got, "voxels that are named beside their header", action)


def _copy(file: Path, target: Path) -> None:
    with write_atomically(target) as temporary:
        shutil.copyfile(file, temporary)
