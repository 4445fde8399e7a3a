"""Cards of models: what each predicts, at which sizes, how well and at what cost. Read without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from unetpp.dial import add_sizes, list_by_cost, name_row, name_words
from unetpp.infer.overlay import choose_colors
from unetpp.measured import DepthTable
from unetpp.model.header import read_header
from unetpp.model_notes import Verdict, explain_no_expected_dice
from unetpp.plan import DataPlan, PredictPlan
from unetpp.run_folder import find_model_files
from unetpp.runtime.exported_file import EXPORTED, parse_description, read_description
from unetpp.selection import is_selection, list_files, read_selection

_WEIGHT_BYTES = 4


class CardClass(BaseModel):
    """A class that a model tells apart."""

    index: int
    name: str
    value: int
    """Value in label files."""
    color: str
    """As #rrggbb."""


class CardSize(BaseModel):
    """A size of the network: each predicts by itself, and all are computed in one pass."""

    size: str
    """Its name, as in file names: a depth, or a depth and a width."""
    word: str = ""
    """small, medium or large, where it has one."""
    dice: float | None = None
    """Over the validation cases."""
    latency_ms: float | None = None
    """For one tile, on the machine of the measurement."""
    peak_memory_mb: float | None = None
    parameters: int | None = None
    is_recommended: bool = False
    """The fastest that loses little."""


class ModelCard(BaseModel):
    """What a model is."""

    id: str
    name: str
    trained_on: str
    """Name of the data set."""
    dims: int
    channels: list[str]
    classes: list[CardClass]
    sizes: list[CardSize]
    """Cheapest first."""
    tile: list[int]
    parameters: int | None = None
    weight_bytes: int = 0
    verdict: str = ""
    """How its training stands."""
    no_expected_dice: str = ""
    """Why no Dice is expected of predictions; empty if one is."""
    can_train_further: bool = False
    loaded: bool = False


def describe_model(path: Path, id: str, name: str) -> tuple[ModelCard, DataPlan]:
    """Describe a run folder, a selection, a model file or an exported file, and how it reads images.

    Raises:
        ModelFileError: it cannot be used.
    """
    if path.suffix in EXPORTED and not path.is_dir():
        found = parse_description(read_description(path), str(path))
        exported, parts = found.notes, _describe_data(found.data, found.tiles)
        card = ModelCard(
            id=id,
            name=name,
            trained_on=exported.name,
            sizes=_list_sizes(exported, exported.sizes.list_names()),
            parameters=exported.parameters,
            weight_bytes=path.stat().st_size,
            verdict=str(exported.verdict or ""),
            no_expected_dice=exported.no_expected_dice,
            **parts,
        )
        return card, found.data
    if is_selection(path):
        return _describe_selection(path, id, name)
    files = find_model_files(path)
    headers = [read_header(file) for file in files]
    notes, plan = add_sizes(headers[0].notes, headers[0].plan.model), headers[0].plan
    card = ModelCard(
        id=id,
        name=name,
        trained_on=plan.name,
        sizes=_list_sizes(notes),
        parameters=headers[0].parameters,
        weight_bytes=sum(header.parameters for header in headers) * _WEIGHT_BYTES,
        verdict=_say(notes.verdict),
        no_expected_dice=explain_no_expected_dice([header.notes for header in headers]),
        can_train_further=len(files) == 1 and plan.data.resolution == "full",
        **_describe_data(plan.data, plan.predict),
    )
    return card, plan.data


def _describe_selection(path: Path, id: str, name: str) -> tuple[ModelCard, DataPlan]:
    selection = read_selection(path)
    headers = [read_header(path / file) for file in list_files(selection)]
    member, plan = selection.members[0], headers[0].plan
    notes = add_sizes(headers[0].notes, plan.model)
    row = name_row(notes, member.size) if notes.depths else str(member.size)
    card = ModelCard(
        id=id,
        name=name,
        trained_on=selection.name,
        sizes=[CardSize(size=row, dice=selection.scores.dice)],
        parameters=sum(header.parameters for header in headers),
        weight_bytes=sum(header.parameters for header in headers) * _WEIGHT_BYTES,
        **_describe_data(plan.data, plan.predict),
    )
    return card, plan.data


def _describe_data(data: DataPlan, predict: PredictPlan) -> dict[str, Any]:
    colors = ["#000000", *(f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in choose_colors(data))]
    classes = [
        CardClass(index=index, name=class_name, value=data.label_values[index], color=colors[index])
        for index, class_name in enumerate(data.classes)
    ]
    return {"dims": data.dims, "channels": list(data.channels), "classes": classes, "tile": list(predict.tile)}


def _list_sizes(notes: DepthTable, names: Sequence[int | str] = ()) -> list[CardSize]:
    words, chosen = name_words(notes), notes.recommended
    known = dict(zip(notes.depths, names, strict=True)) if names else {}
    return [
        CardSize(
            size=str(known.get(number, name_row(notes, number))),
            word=words.get(number, ""),
            dice=row.dice,
            latency_ms=row.latency_ms,
            peak_memory_mb=row.peak_memory_mb,
            parameters=row.parameters,
            is_recommended=chosen is not None and chosen.depth == number,
        )
        for number in list_by_cost(notes)
        for row in [notes.depths[number]]
    ]


def _say(verdict: Verdict | None) -> str:
    return "" if verdict is None else verdict.finding
