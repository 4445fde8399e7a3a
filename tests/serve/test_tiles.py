"""Tiles of large images and parts of volumes: every pixel at its place, in bounded memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from starlette.testclient import TestClient
from tests.serve.conftest import MakeState, predict

from unetpp.serve import tiles, views
from unetpp.serve.state import ServerState

OpenClient = Callable[[ServerState], TestClient]


@pytest.fixture
def large(
    make_state: MakeState, open_client: OpenClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[TestClient, dict[str, Any], np.ndarray]:
    """A job of an image that is large for the viewer, with all limits a tenth of the usual ones."""
    for module, name, value in ((views, "LONGEST_SIDE", 64), (tiles, "OVERVIEW", 64), (tiles, "TILE", 32)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(tiles, "SLAB_PIXELS", 500)
    picture = (np.add.outer(np.arange(90), 2 * np.arange(140)) % 251).astype(np.uint8)
    tifffile.imwrite(tmp_path / "large.tif", picture)
    client = open_client(make_state())
    return client, predict(client, tmp_path / "large.tif"), picture


def take(client: TestClient, job: dict[str, Any], path: str) -> np.ndarray:
    answer = client.get(f"/v1/jobs/{job['id']}/tiles/{path}")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png", answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_tiles_of_single_pixels_are_the_image(large: tuple[TestClient, dict[str, Any], np.ndarray]) -> None:
    client, job, picture = large
    assert job["view"]["kind"] == "large image"
    rows = []
    for row in range(3):
        columns = [take(client, job, f"image/8/{column}_{row}.png?low=0&high=255") for column in range(5)]
        rows.append(np.concatenate(columns, axis=1))
    assert np.array_equal(np.concatenate(rows), picture)


@pytest.mark.parametrize("level", range(8))
def test_coarse_tiles_show_every_so_many_pixels(
    large: tuple[TestClient, dict[str, Any], np.ndarray], level: int
) -> None:
    client, job, picture = large
    step = 2 ** (8 - level)
    tile = take(client, job, f"image/{level}/0_0.png?low=0&high=255")
    assert np.array_equal(tile, picture[::step, ::step][: tiles.TILE, : tiles.TILE])


def test_tiles_of_the_segmentation_have_its_classes(large: tuple[TestClient, dict[str, Any], np.ndarray]) -> None:
    client, job, _ = large
    result = client.get(f"/v1/jobs/{job['id']}/result").content
    labels = tifffile.imread(io.BytesIO(result))[:32, :32]
    tile = take(client, job, "labels/8/0_0.png")
    assert np.array_equal(tile[..., 3] > 0, labels > 0)
    assert not take(client, job, "labels/8/0_0.png?classes=0")[..., 3].any()
    outlines = take(client, job, "labels/8/0_0.png?outlines=true")[..., 3] > 0
    assert not (outlines & ~(labels > 0)).any()


def test_a_part_of_a_large_segmentation_is_read_by_itself(
    large: tuple[TestClient, dict[str, Any], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, job, _ = large
    result = tifffile.imread(io.BytesIO(client.get(f"/v1/jobs/{job['id']}/result").content)) > 0
    take(client, job, "labels/8/0_0.png")
    take(client, job, "image/8/0_0.png")
    monkeypatch.setattr(tiles, "open_image", None)  # neither is opened again
    monkeypatch.setattr(ServerState, "open_image", None)
    height = job["view"]["shape"][1]
    part = client.get(f"/v1/jobs/{job['id']}/view/labels?box=4,12,{height - 9},{height - 2},0,1")
    shown = np.asarray(nibabel.Nifti1Image.from_bytes(part.content).dataobj)[..., 0]
    assert np.array_equal(shown.T[::-1] > 0, result[2:9, 4:12])
    assert client.get(f"/v1/jobs/{job['id']}/view/image?box=4,12,0,7,0,1").status_code == 200


def test_tiles_of_the_map_of_doubt_are_clear_where_the_network_is_sure(
    large: tuple[TestClient, dict[str, Any], np.ndarray],
) -> None:
    client, job, _ = large
    doubts = tifffile.imread(io.BytesIO(client.get(f"/v1/jobs/{job['id']}/uncertainty").content))
    tile = take(client, job, "doubt/8/1_2.png")
    assert np.array_equal(tile[..., 3] > 0, doubts[64:, 32:64] > tiles.SURE)
    brightness = tile[..., :3].sum(axis=-1, dtype=int)[tile[..., 3] > 0]
    order = np.argsort(doubts[64:, 32:64][tile[..., 3] > 0], kind="stable")
    assert (np.diff(brightness[order]) >= -2).all(), "the more doubtful the brighter"


@pytest.mark.parametrize("longest", [16, 64])
def test_each_channel_has_its_own_window(
    make_state: MakeState,
    open_client: OpenClient,
    two_channel_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    longest: int,
) -> None:
    monkeypatch.setattr(views, "LONGEST_SIDE", longest)
    ramps = [np.tile(np.arange(40, dtype=np.uint8) + shift, (40, 1)) for shift in (0, 200)]
    for number, ramp in enumerate(ramps):
        Image.fromarray(ramp).save(tmp_path / f"a_{number:04d}.png")
    client = open_client(make_state([two_channel_model], data=None))
    job = predict(client, *sorted(tmp_path.glob("a_*.png")))
    base = f"/v1/jobs/{job['id']}"
    assert job["state"] == "done" and job["view"]["channels"] == 2
    windows = [client.get(f"{base}/view/window?channel={channel}").json() for channel in (0, 1)]
    assert windows[0][1] < 40 and windows[1][0] >= 200
    first, second = (take(client, job, f"image/6/0_0.png?channel={channel}") for channel in (0, 1))
    assert np.array_equal(first, second) and len(np.unique(first)) > 20, "each from its black to its white"
    assert client.get(f"{base}/view/window?channel=2").status_code == 422
    assert client.get(f"{base}/tiles/image/6/0_0.png?channel=2").status_code == 422


@pytest.mark.parametrize(
    "place",
    [
        "image/9/0_0.png",
        "image/8/5_0.png",
        "image/8/0_3.png",
        "image/-1/0_0.png",
        "image/8/-1_0.png",
        "image/-1000000000000/0_0.png",
        f"image/8/{'9' * 4000}_0.png",
    ],
)
def test_there_are_no_other_tiles(large: tuple[TestClient, dict[str, Any], np.ndarray], place: str) -> None:
    client, job, _ = large
    assert client.get(f"/v1/jobs/{job['id']}/tiles/{place}").status_code == 404


def test_large_volumes_are_shown_coarsely(
    make_state: MakeState,
    open_client: OpenClient,
    make_model: Callable[..., Path],
    small_plan: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(views, "VIEW_VOXELS", 500)
    voxels = np.random.default_rng(0).integers(0, 9, (16, 18, 20), dtype=np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii.gz")
    client = open_client(make_state([make_model(small_plan(dims=3))], data=None))
    job = predict(client, tmp_path / "a.nii.gz")
    step, base = job["view"]["step"], f"/v1/jobs/{job['id']}/view"
    assert step == 3
    shown = nibabel.Nifti1Image.from_bytes(client.get(f"{base}/image?step={step}").content)
    assert np.array_equal(np.asarray(shown.dataobj), voxels[::3, ::3, ::3])
    assert np.allclose(np.diag(shown.affine)[:3], 3)
    assert client.get(f"{base}/image").status_code == 413
    labels = nibabel.Nifti1Image.from_bytes(client.get(f"{base}/labels?step={step}").content)
    doubt = nibabel.Nifti1Image.from_bytes(client.get(f"{base}/doubt?box=0,4,0,4,0,4").content)
    assert labels.shape == shown.shape and 0 <= np.asarray(doubt.dataobj).max() < 1.001
