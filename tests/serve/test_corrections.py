"""Corrections become ordinary cases: on the image's grid, never flipped, with what nobody said left unsaid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from tests.conftest import toy_plan
from tests.serve.conftest import MakeState, predict

import unetpp
from unetpp.data.case_files import open_case_image
from unetpp.layouts.dataset import Case
from unetpp.layouts.dataset_json import read_dataset_json
from unetpp.plan import Region
from unetpp.replay import mix
from unetpp.serve.corrections import CorrectionSet, _copy_images
from unetpp.serve.problems import Refused
from unetpp.serve.state import ServerState
from unetpp.serve.strokes import Correction

OpenClient = Callable[[ServerState], TestClient]


def runs_of(painted: np.ndarray) -> list[list[int]]:
    """Runs of painted voxels (x, y, z), -1 elsewhere, as the page sends them."""
    flat = painted.ravel(order="F")
    return [[int(place), 1, int(flat[place])] for place in np.flatnonzero(flat >= 0)]


def read_view(client: TestClient, path: str) -> tuple[np.ndarray, np.ndarray]:
    image = nibabel.Nifti1Image.from_bytes(client.get(path).content)
    return np.asarray(image.dataobj), image.affine


def save(client: TestClient, job: dict[str, Any], painted: np.ndarray, **values: Any) -> Any:
    view = job["view"]
    body = {"shape": list(painted.shape), "affine": view["affine"], "runs": runs_of(painted), **values}
    return client.post(f"/v1/jobs/{job['id']}/corrections", json=body)


def test_regions_are_corrected_by_their_classes(tmp_path: Path) -> None:
    data = toy_plan(num_classes=3).data.model_copy(
        update={"regions": (Region(name="whole", values=(1, 2)), Region(name="core", values=(2,)))}
    )
    (tmp_path / "in").mkdir()
    image, predicted = tmp_path / "in" / "a.png", tmp_path / "p" / "a.png"
    predicted.parent.mkdir()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(image)
    Image.fromarray(np.ones((8, 8), np.uint8)).save(predicted)
    case = Case("a", (image,))
    correction = Correction(shape=(8, 8, 1), affine=np.diag([1.0, -1, 1, 1]).tolist(), runs=[(0, 8, 2)])
    found = CorrectionSet(tmp_path / "c")
    found.save(correction, case, open_case_image(case, data), predicted, data, "job")
    Image.fromarray(np.arange(64, 128, dtype=np.uint8).reshape(8, 8)).save(image)
    found.save(correction, replace(case, id="b"), open_case_image(case, data), predicted, data, "job")
    checked = unetpp.check(tmp_path / "c", progress=False)
    assert not checked.problems and checked.cases == 2
    described = read_dataset_json(tmp_path / "c", "c")
    assert described.regions == data.regions and described.classes == {0: "background", 1: "class_1", 2: "core"}
    values = np.asarray(Image.open(tmp_path / "c" / "labels" / "a.png"))
    assert sorted(np.unique(values)) == [1, 2]


def test_a_corrected_image_is_a_case(client: TestClient, trained: Path, tmp_path: Path) -> None:
    for number, name in enumerate(client.get("/v1/cases").json()[:2]):
        job = predict(client, case=name["id"])
        painted = np.full(job["view"]["shape"], -1)
        painted[3:6, 2, 0] = 1  # y points up: the third row from below
        painted[3:6, 30, 0] = 0
        answer = save(client, job, painted, unpainted="unsaid" if number else "predicted")
        assert answer.status_code == 201, answer.text
        saved = answer.json()
        folder = tmp_path / "served" / "corrections" / "data"
        mask = np.asarray(Image.open(folder / saved["label"]))
        assert (mask[-3, 3:6] == 255).all() and (mask[-31, 3:6] == 0).all()
        result = client.get(f"/v1/jobs/{job['id']}/result").content
        (tmp_path / "result.png").write_bytes(result)
        rest = np.ones(mask.shape, bool)
        rest[-3, 3:6] = rest[-31, 3:6] = False
        expected = 254 if number else np.asarray(Image.open(tmp_path / "result.png"))[rest]
        assert (mask[rest] == expected).all()
        assert saved["painted"] == 6 and (saved["unsaid"] > 0.9) == bool(number)
    checked = unetpp.check(folder, progress=False)
    assert not checked.problems and checked.cases == 2
    assert [case["case"] for case in client.get("/v1/corrections").json()]
    assert save(client, job, painted).json()["name"] == saved["name"]  # the same image again
    assert len(client.get("/v1/corrections").json()) == 2
    assert client.delete(f"/v1/corrections/{saved['name']}").status_code == 204
    assert len(client.get("/v1/corrections").json()) == 1 and not (folder / saved["label"]).exists()
    assert client.delete("/v1/corrections/none").status_code == 404


@pytest.fixture
def oblique(tmp_path: Path, make_model: Callable[..., Path], small_plan: Callable[..., Any]) -> tuple[Path, Path]:
    """A 3D model, and an oblique volume whose axes are permuted and flipped."""
    voxels = np.random.default_rng(0).normal(size=(9, 14, 11)).astype(np.float32)
    turn = np.array([[0, 0.2, -1.9], [-1.1, 0.1, 0], [0.1, -1.4, 0.2]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn, (12, -40, 7)
    path = tmp_path / "oblique.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return make_model(small_plan(dims=3)), path


def test_strokes_on_an_oblique_flipped_volume_land_on_their_voxels(
    make_state: MakeState, open_client: OpenClient, oblique: tuple[Path, Path], tmp_path: Path
) -> None:
    model, path = oblique
    client = open_client(make_state([model], data=None))
    job = predict(client, path)
    assert job["state"] == "done", job
    base = f"/v1/jobs/{job['id']}/view"
    shown, affine = read_view(client, f"{base}/image")
    stored = nibabel.load(path)
    assert shown.shape == tuple(job["view"]["shape"]) and np.allclose(affine, job["view"]["affine"], atol=1e-4)
    painted = np.full(shown.shape, -1)
    brightest = shown > 1.5  # voxels are known by their intensity, whatever the axes
    painted[brightest], painted[shown < -1.5] = 1, 0
    answer = save(client, job, painted, unpainted="unsaid")
    assert answer.status_code == 201, answer.text
    folder = tmp_path / "served" / "corrections" / "toy"
    label = nibabel.load(folder / answer.json()["label"])
    assert np.allclose(label.affine, stored.affine, atol=1e-4)
    values, image = np.asarray(label.dataobj), np.asarray(stored.dataobj)
    assert (values[image > 1.5] == 1).all() and (values[image < -1.5] == 0).all()
    assert (values[np.abs(image) <= 1.5] == 255).all()


def write_header(folder: Path, seed: int) -> tuple[Path, Path]:
    """A header, always the same, and voxels of its own."""
    folder.mkdir()
    header, voxels = folder / "scan.1.mhd", folder / "scan.1.raw"
    text = "ObjectType = Image\nNDims = 3\nDimSize = 11 14 9\nElementType = MET_SHORT\nElementDataFile = scan.1.raw\n"
    header.write_text(text)
    np.random.default_rng(seed).integers(0, 99, (9, 14, 11), dtype=np.int16).tofile(voxels)
    return header, voxels


def test_headers_keep_the_voxels_beside_them(
    make_state: MakeState, open_client: OpenClient, oblique: tuple[Path, Path], tmp_path: Path
) -> None:
    pytest.importorskip("SimpleITK", reason="the extra medical is not installed")
    client = open_client(make_state([oblique[0]], data=None))
    for seed in range(2):
        files = write_header(tmp_path / str(seed), seed)
        job = predict(client, *files)
        assert job["state"] == "done", job
        answer = save(client, job, np.ones(job["view"]["shape"], int))
        assert answer.status_code == 201, answer.text
    folder = tmp_path / "served" / "corrections" / "toy"
    assert save(client, job, np.ones(job["view"]["shape"], int)).json()["name"] == answer.json()["name"]
    newest, oldest = client.get("/v1/corrections").json()  # equal headers are two images
    checked = unetpp.check(folder, progress=False)
    assert not checked.problems and checked.cases == 2
    voxels = (folder / newest["images"][0]).with_name("scan.1.raw")
    assert voxels.read_bytes() == files[1].read_bytes()
    state = client.app.state.unetpp  # type: ignore[attr-defined]
    mixture = mix(
        state.corrected(job["model"]).folder, oblique[0], tmp_path / "mixture", state.shelf.data(job["model"])
    )
    assert mixture.new == 2 and unetpp.check(tmp_path / "mixture", progress=False).cases == 2
    assert client.delete(f"/v1/corrections/{newest['name']}").status_code == 204
    assert not voxels.parent.exists() and (folder / oldest["images"][0]).is_file()


def test_images_that_are_folders_are_refused(tmp_path: Path, small_plan: Callable[..., Any]) -> None:
    (tmp_path / "a.zarr").mkdir()
    corrections = CorrectionSet(tmp_path / "corrections")
    case = Case("a", (tmp_path / "a.zarr",))
    none: Any = None
    with pytest.raises(Refused, match="a folder") as refused:
        corrections.save(none, case, none, tmp_path, small_plan().data, "job")
    assert refused.value.status_code == 409


def test_a_header_that_names_its_folder_is_refused(tmp_path: Path) -> None:
    header, voxels = write_header(tmp_path / "a", 0)
    header.write_text(header.read_text().replace("scan.1.raw", str(voxels)))
    with pytest.raises(Refused, match="names the folder"):
        _copy_images(Case("a", (header,)), tmp_path / "images", "a")
    assert not (tmp_path / "images" / "a" / "image").exists()


def test_a_part_of_a_volume_is_corrected(
    make_state: MakeState, open_client: OpenClient, oblique: tuple[Path, Path], tmp_path: Path
) -> None:
    model, path = oblique
    client = open_client(make_state([model], data=None))
    job = predict(client, path)
    box = "1,5,2,9,3,7"
    part, affine = read_view(client, f"/v1/jobs/{job['id']}/view/image?box={box}")
    whole, _ = read_view(client, f"/v1/jobs/{job['id']}/view/image")
    assert np.array_equal(part, whole[1:5, 2:9, 3:7])
    painted = np.where(part > 0, 1, -1)
    body = {"shape": list(part.shape), "affine": affine.tolist(), "runs": runs_of(painted), "unpainted": "unsaid"}
    answer = client.post(f"/v1/jobs/{job['id']}/corrections", json=body)
    assert answer.status_code == 201, answer.text
    values = np.asarray(nibabel.load(tmp_path / "served/corrections/toy" / answer.json()["label"]).dataobj)
    said = np.isin(np.asarray(nibabel.load(path).dataobj), part[part > 0])
    assert np.array_equal(values == 1, said)


def test_bad_strokes_are_refused(client: TestClient) -> None:
    job = predict(client, case=client.get("/v1/cases").json()[0]["id"])
    view, url = job["view"], f"/v1/jobs/{job['id']}/corrections"
    good = {"shape": view["shape"], "affine": view["affine"], "runs": [[0, 5, 1]]}
    moved = [row[:] for row in view["affine"]]
    moved[0][3] += 0.5
    bad = [
        {"runs": [[0, 10**9, 1]]},
        {"runs": [[-1, 5, 1]]},
        {"runs": [[0, 5, 7]]},
        {"runs": [[2**62, 2**62, 1]]},
        {"runs": "all"},
        {"shape": [0, 1, 1]},
        {"shape": [2**20, 2**20, 2**20]},
        {"shape": [41, 32, 1]},
        {"affine": moved},
        {"affine": [[0, 0, 0, 0]] * 4},
        {"size": "9"},
        {"unpainted": "other"},
    ]
    for change in bad:
        answer = client.post(url, json={**good, **change})
        assert answer.status_code in (404, 422), (change, answer.text)
    assert client.post(url, content="[" * 100_000).status_code == 422
    assert client.post(url, json=good).status_code == 201
