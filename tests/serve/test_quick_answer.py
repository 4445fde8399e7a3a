"""A stroke on an object suggests the rest of that object, in its place, and no other one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from starlette.testclient import TestClient
from tests.serve.conftest import MakeState, predict

from unetpp.infer.loading import load
from unetpp.serve.problems import Refused
from unetpp.serve.quick_answer import find_box, keep_touched, learn, require_network
from unetpp.serve.state import ServerState
from unetpp.serve.strokes import Correction, find_runs


@given(arrays(np.int16, (3, 4, 2), elements=st.integers(-1, 2)))
def test_runs_are_drawn_as_they_were(classes: np.ndarray) -> None:
    strokes = Correction(shape=classes.shape, affine=np.eye(4).tolist(), runs=find_runs(classes))
    drawn, _ = strokes.draw(3, "image")
    assert np.array_equal(drawn, classes)


def draw_discs() -> tuple[np.ndarray, np.ndarray]:
    """Two discs, and noise: of the second half as large."""
    rows, columns = np.mgrid[:60, :90]
    first, second = (np.hypot(rows - 30, columns - place) < radius for place, radius in ((22, 12), (66, 12)))
    return first, second


def test_a_stroke_suggests_its_object_alone() -> None:
    first, second = draw_discs()
    noise = np.random.default_rng(0).normal(0, 0.1, first.shape)
    features = torch.from_numpy(np.stack([first | second, np.zeros(first.shape)]) + noise).float()
    strokes = np.full(first.shape, -1, np.int16)
    strokes[29:32, 15:30] = 1
    before = np.where(strokes >= 0, strokes, 0)
    probabilities = learn(features, strokes, before, 2)
    assert probabilities.shape == (2, 60, 90) and np.allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    found = keep_touched(probabilities, strokes, before)
    assert not (found[second] == 1).any() and not (found[~first] == 1).any(), "another object, or none"
    assert (found[first & (strokes < 0)] == 1).mean() > 0.6, "most of this one"
    assert (found[strokes >= 0] == -1).all(), "strokes stay as they are"


def test_what_is_far_from_a_stroke_stays() -> None:
    strokes = np.full((20, 200), -1, np.int16)
    strokes[10, 10:14] = 1
    everywhere = np.stack([np.zeros(strokes.shape), np.ones(strokes.shape)])
    found = keep_touched(everywhere, strokes, np.zeros(strokes.shape, int))
    assert (found[:, 15] == 1).any() and (found[:, 30:] == -1).all()
    nothing = keep_touched(everywhere, np.full(strokes.shape, -1, np.int16), np.zeros(strokes.shape, int))
    assert (nothing == -1).all()


@pytest.mark.parametrize(
    ("shape", "middle", "box"),
    [((100, 600), (50, 590), ((0, 100), (344, 600))), ((70, 70, 20), (0, 35, 5), ((0, 64), (3, 67), (0, 20)))],
)
def test_the_part_around_a_stroke_lies_within_the_image(
    shape: tuple[int, ...], middle: tuple[int, ...], box: tuple[tuple[int, int], ...]
) -> None:
    assert find_box(shape, middle) == tuple(slice(*part) for part in box)


def ask(client: TestClient, job: dict[str, Any], painted: np.ndarray, **values: Any) -> Any:
    view = job["view"]
    around = [int(np.median(places)) for places in np.nonzero(painted >= 0)]
    body = {"shape": list(painted.shape), "affine": view["affine"], "runs": find_runs(painted), "around": around}
    return client.post(f"/v1/jobs/{job['id']}/suggestion", json={**body, **values})


def draw(suggestion: dict[str, Any], shape: list[int]) -> np.ndarray:
    """Draw a suggestion on the grid of the page."""
    box = tuple(slice(*part) for part in suggestion["box"])
    size = [part.stop - part.start for part in box]
    strokes = Correction(shape=tuple(size), affine=np.eye(4).tolist(), runs=suggestion["runs"])
    found = np.full(shape, -1, np.int16)
    found[box] = strokes.draw(9, "suggestion")[0]
    return found


def test_the_server_answers_a_stroke(client: TestClient, tmp_path: Path) -> None:
    first, _ = draw_discs()
    Image.fromarray((200 * first).astype(np.uint8)).save(tmp_path / "disc.png")
    job = predict(client, tmp_path / "disc.png")
    painted = np.full(job["view"]["shape"], -1, np.int16)
    painted[15:30, 28:31, 0] = 1
    answer = ask(client, job, painted)
    assert answer.status_code == 200, answer.text
    found, suggestion = draw(answer.json(), job["view"]["shape"]), answer.json()
    assert suggestion["size"] == "1" and suggestion["voxels"] == (found >= 0).sum() and suggestion["seconds"] < 60
    disc = first[::-1].T[..., None]  # y points up
    shown = nibabel.Nifti1Image.from_bytes(client.get(f"/v1/jobs/{job['id']}/view/labels").content).dataobj
    missed = disc & (np.asarray(shown) == 0) & (painted < 0)
    assert not missed.any() or (found[missed] == 1).mean() > 0.5
    assert (found[~disc] == 1).mean() < 0.02, "no more than at its rim"
    for change in ({"around": [1, 2]}, {"around": [10**400, 0, 0]}, {"runs": [[0, 10**9, 1]]}, {"size": "9"}):
        assert ask(client, job, painted, **change).status_code in (404, 422)
    assert ask(client, job, painted, around=[10**6, -5, 0]).json()["voxels"] >= 0


def test_a_suggestion_lies_on_an_oblique_flipped_volume(
    make_state: MakeState,
    open_client: Callable[[ServerState], TestClient],
    make_model: Callable[..., Path],
    small_plan: Callable[..., Any],
    tmp_path: Path,
) -> None:
    voxels = np.random.default_rng(0).normal(size=(17, 24, 21)).astype(np.float32)
    voxels[3:10, 12:21, 4:11] += 30
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.array([[0, 0.2, -1.9], [-1.1, 0.1, 0], [0.1, -1.4, 0.2]]), (12, -40, 7)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "oblique.nii.gz")
    client = open_client(make_state([make_model(small_plan(dims=3))], data=None))
    job = predict(client, tmp_path / "oblique.nii.gz")
    base = f"/v1/jobs/{job['id']}/view"
    image, shown = (
        np.asarray(nibabel.Nifti1Image.from_bytes(client.get(f"{base}/{what}").content).dataobj)
        for what in ("image", "labels")
    )
    bright = image > 15
    index = 1 - int(np.median(shown[bright]))  # another class than most of it has
    middle = [int(np.median(places)) for places in np.nonzero(bright)]
    painted = np.full(image.shape, -1, np.int16)
    painted[middle[0] - 1 : middle[0] + 2, middle[1] - 1 : middle[1] + 2, middle[2]] = index
    answer = ask(client, job, painted)
    assert answer.status_code == 200, answer.text
    found = draw(answer.json(), list(image.shape))
    assert (found >= 0).sum() > 20 and bright[found >= 0].mean() > 0.95, "what is suggested is what is bright"


def test_models_that_cannot_answer_say_so(trained: Path, make_model: Callable[..., Path]) -> None:
    predictor = load(trained, "cpu", "torch")
    assert require_network(predictor, 2) is predictor
    with pytest.raises(Refused, match="plane by plane") as refused:
        require_network(predictor, 3)
    assert refused.value.status_code == 409
    other: Any = object()
    with pytest.raises(Refused, match="exported"):
        require_network(other, 2)
