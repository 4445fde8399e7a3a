"""Blocks of one image on workers of Dask: the same store as without."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import toy_plan
from tests.zarr_images import write_image

import unetpp

pytest.importorskip("zarr", reason="the extra cluster is not installed")
pytest.importorskip("obstore", reason="the extra cluster is not installed")


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_blocks_on_workers_make_the_same_store(
    make_model: Callable[..., Path], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.random.default_rng(0).integers(0, 255, (6, 24, 30)).astype(np.uint8)
    write_image(tmp_path / "in.zarr", array, "zyx", (2, 8, 8))
    model = make_model(toy_plan(2))
    monkeypatch.chdir(tmp_path)
    for out, cluster in (("here.zarr", None), ("there.zarr", address)):
        done = unetpp.predict(model, "in.zarr", out, cluster=cluster, device="cpu", backend="torch", progress=False)
        assert done.complete
        assert done.blocks == 6
    assert read(tmp_path / "there.zarr") == read(tmp_path / "here.zarr")


def test_workers_that_outlive_a_command_notice_another_image(
    make_model: Callable[..., Path], address: str, tmp_path: Path
) -> None:
    model = make_model(toy_plan(2).changed({"data.normalization": [{"per_case": True}]}))
    for shape, chunk in (((30, 36), 8), ((60, 44), 16)):
        for name in ("in.zarr", "out.zarr"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
        array = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
        write_image(tmp_path / "in.zarr", array, "yx", (chunk, chunk))
        for out, cluster in ((f"here_{chunk}.zarr", None), ("out.zarr", address)):
            image, place = tmp_path / "in.zarr", tmp_path / out
            unetpp.predict(model, image, place, cluster=cluster, device="cpu", backend="torch", progress=False)
        assert read(tmp_path / "out.zarr") == read(tmp_path / f"here_{chunk}.zarr")
