"""Records that a disk, another program or a person has damaged: only errors of the package, never a traceback."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from unetpp.data.folds import read_splits
from unetpp.errors import UnetppError
from unetpp.infer.record import read_record
from unetpp.layouts.dataset_json import read_dataset_json
from unetpp.model.foreign import read_foreign
from unetpp.model.header import read_header
from unetpp.model_notes import read_metrics
from unetpp.plan import read_plan
from unetpp.report import plots
from unetpp.report.html import render
from unetpp.report.run_record import read_run
from unetpp.train.checkpoint import read_training_state
from unetpp.train.log import Log

MUTATIONS = 60
ODD: list[Any] = [None, True, -1, 10**30, 1e308, "", "²", "\x00", [], {}, [[]], {"": None}, "nan", 0.5, [1, "a"]]


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Change some bytes, cut, or insert what JSON may hold."""
    kind = rng.randrange(4)
    if kind == 0:
        return content[: rng.randrange(len(content))]
    changed = bytearray(content)
    place = rng.randrange(len(content))
    if kind == 1:
        changed[place] = rng.randrange(256)
    elif kind == 2:
        changed[place:place] = rng.choice([b"[" * 100_000, b"9" * 5000, b"\xff", b"1e999", b"NaN", b'"', b"}", b"\n"])
    else:
        del changed[place : place + rng.randrange(1, 9)]
    return bytes(changed)


def replace_one(value: Any, rng: random.Random) -> Any:
    """Replace one entry, at any depth, by a value of another type."""
    if isinstance(value, dict | list) and value and rng.random() < 0.8:
        value = value.copy()
        key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        value[key] = replace_one(value[key], rng)
        return value
    return rng.choice(ODD)


def variants(content: bytes, count: int = MUTATIONS) -> Iterator[bytes]:
    rng = random.Random(len(content))
    for number in range(count):
        if number % 2:
            with suppress(ValueError):
                yield json.dumps(replace_one(json.loads(content), rng)).encode()
                continue
        yield mutate(content, rng)


def try_all(path: Path, read: Callable[[], object]) -> None:
    content = path.read_bytes()
    for changed in variants(content):
        path.write_bytes(changed)
        with suppress(UnetppError):
            read()


READERS: dict[str, Callable[[Path], object]] = {
    "plan.json": lambda run: read_plan(run / "plan.json"),
    "splits.json": lambda run: read_splits(run / "splits.json"),
    "fold_0/model.safetensors": lambda run: read_header(run / "fold_0/model.safetensors"),
    "fold_0/last.ckpt": lambda run: read_training_state(run / "fold_0/last.ckpt"),
    "fold_0/metrics.json": lambda run: read_metrics(run / "fold_0/metrics.json"),
    "fold_0/log.jsonl": lambda run: Log(run / "fold_0/log.jsonl").begin(2),
}


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(trained, copy, ignore=shutil.ignore_patterns("cache", "data"))
    return copy


@pytest.mark.parametrize("name", READERS)
def test_files_of_a_run(name: str, run: Path) -> None:
    try_all(run / name, lambda: READERS[name](run))


@pytest.mark.parametrize("name", ["metrics.json", "log.jsonl", "views/*.npz"])
def test_a_report_leaves_out_what_it_cannot_read(name: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "encode_figure", lambda figure: "")  # pictures take long
    path = min((run / "fold_0").glob(name))
    if name == "log.jsonl":
        lines = path.read_text().splitlines()[-3:]
        path.write_text("\n".join(lines) + "\n")
    content = path.read_bytes()
    lost = 0
    for changed in variants(content.splitlines()[-1] if name == "log.jsonl" else content, 10):
        path.write_bytes(changed)
        text, left_out = render(read_run(run))
        lost += bool(left_out)
        assert ("Left out, because it cannot be read" in text) == bool(left_out)
    assert lost


def test_the_record_of_a_prediction(tmp_path: Path) -> None:
    record = {
        "model": "m", "depth": 1, "classes": ["background", "a"], "label_values": [0, 1], "labels": {"kind": "binary"},
        "files": ["a.png"], "cases": {"a.png": {"review": None}},
    }  # fmt: skip
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(record))
    found = read_record(tmp_path)
    assert found and found.files == ("a.png",)
    assert found.matches({"model": "m", "depth": 1})
    assert not found.matches({"model": "n"})
    try_all(path, lambda: read_record(tmp_path))


def test_a_description_of_a_data_set(tmp_path: Path) -> None:
    for name in ("imagesTr/a.nii", "labelsTr/a.nii"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    content = {
        "channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "ignore": 2}, "file_ending": ".nii",
        "numTraining": 1, "training": [{"image": "./imagesTr/a.nii", "label": "./labelsTr/a.nii"}],
    }  # fmt: skip
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content))
    assert not read_dataset_json(tmp_path, "a").problems
    try_all(path, lambda: read_dataset_json(tmp_path, "a"))


def test_a_checkpoint_in_the_old_format(cases: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    shutil.copy(cases / "bad/checkpoint-damaged-legacy/a.pth", path)
    path.chmod(0o600)
    try_all(path, lambda: read_foreign(path))
