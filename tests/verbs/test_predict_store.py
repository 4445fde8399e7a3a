"""The command `predict` for stores: what it takes, what it says, and a kill in between."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import toy_plan
from tests.processes import Command
from tests.tiny import run_cli
from tests.zarr_images import write_image

from unetpp.infer import block_cut

zarr = pytest.importorskip("zarr", reason="the extra cluster is not installed")
pytest.importorskip("obstore", reason="the extra cluster is not installed")


def make_blocks_small(patch: pytest.MonkeyPatch | None = None) -> None:
    """Cut blocks so small that there are many."""
    for name, value in {"CHUNK": {3: (8, 8)}, "BLOCK": {3: 8}}.items():
        (patch.setattr if patch else setattr)(block_cut, name, value)


def test_a_store_into_files_and_into_a_store(make_model: Callable[..., Path], tmp_path: Path) -> None:
    model, array = make_model(toy_plan(2)), np.random.default_rng(0).integers(0, 255, (1, 40, 45)).astype(np.uint8)
    write_image(tmp_path / "in" / "a.ome.zarr", array, "cyx", (1, 16, 16))
    (tmp_path / "in" / "notes.txt").touch()
    answer = run_cli("predict", model, tmp_path / "in", "--out", tmp_path / "files", "--device", "cpu")
    assert answer.code == 0
    image = tmp_path / "in" / "a.ome.zarr"
    answer = run_cli("predict", model, image, "--out", tmp_path / "out.zarr", "--device", "cpu")
    assert answer.code == 0
    assert "1 of 1 block predicted" in answer.stdout
    import tifffile

    labels = zarr.open_array(str(tmp_path / "out.zarr"), path="labels/segmentation/0", mode="r")
    assert np.array_equal(labels[...], tifffile.imread(tmp_path / "files" / "a.tif"))
    answer = run_cli("predict", model, image, "--out", tmp_path / "dry.zarr", "--dry-run")
    assert "1 block of 40 x 45" in answer.stdout
    assert not (tmp_path / "dry.zarr").exists()


@pytest.mark.parametrize(
    ("inputs", "out", "more", "said"),
    [
        (("a.zarr", "b.zarr"), "out.zarr", (), "2 inputs with an --out that ends in .zarr"),
        (("none.zarr",), "out.zarr", (), "which is no folder"),
        (("a.zarr",), "out.zarr", ("--overlay",), "labels alone in a store"),
        (("a.zarr",), "out.zarr", ("--part", "3/2"), "I/N"),
        (("s3://bucket/a.zarr",), "files", (), "that ends in .zarr"),
        (("a.zarr",), "s3://bucket/files", (), "that ends in .zarr"),
        (("empty.zarr",), "out.zarr", (), "no Zarr group"),
    ],
)
def test_one_message_for_what_cannot_work(
    make_model: Callable[..., Path], tmp_path: Path, inputs: tuple[str, ...], out: str, more: tuple[str, ...], said: str
) -> None:
    write_image(tmp_path / "a.zarr", np.zeros((20, 20), np.uint8), "yx", (16, 16))
    (tmp_path / "empty.zarr").mkdir()
    places = [each if "://" in each else tmp_path / each for each in (*inputs, out)]
    answer = run_cli("predict", make_model(), *places[:-1], "--out", places[-1], "--device", "cpu", *more)
    assert answer.code == 2
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_killed_command_goes_on(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(toy_plan(3))
    array = np.random.default_rng(0).integers(0, 255, (16, 24, 40)).astype(np.uint8)
    write_image(tmp_path / "in.zarr", array, "zyx", (8, 8, 8))
    common = ("predict", model, tmp_path / "in.zarr", "--device", "cpu", "--backend", "torch", "--out")
    killed = Command(*common, tmp_path / "out.zarr", before=make_blocks_small)
    marks = tmp_path / "out.zarr" / ".unetpp"
    until = time.monotonic() + 120
    while len(list(marks.glob("*/blocks/*"))) < 3 and time.monotonic() < until and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert list(marks.glob("*/blocks/*"))
    make_blocks_small(monkeypatch)
    again = run_cli(*common, tmp_path / "out.zarr", "--resume")
    assert again.code == 0, again.stderr
    assert "were there" in again.stdout
    assert run_cli(*common, tmp_path / "whole.zarr").code == 0
    assert read_all(tmp_path / "out.zarr") == read_all(tmp_path / "whole.zarr")


def read_all(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
