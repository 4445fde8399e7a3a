"""Pruned model files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests import plans

import unetpp
from unetpp.deploy import prune
from unetpp.deploy.prune import plan_at_size, prune_file
from unetpp.errors import ModelFileError, UsageError, WriteError
from unetpp.model.file import load_model
from unetpp.plan import Plan

DEPTHS = {"1": {"dice": 0.900}, "2": {"dice": 0.909}, "3": {"dice": 0.910}}


@pytest.mark.parametrize("dims", [2, 3])
def test_a_pruned_file_predicts_what_the_full_one_does_at_that_depth(
    dims: int, make_model: Callable[..., Path], small_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    model, out = make_model(small_plan(dims, depth=3)), tmp_path / "small.safetensors"
    result = prune_file(model, out, depth=2)
    full, small = load_model(model)[0], load_model(out)[0]
    image = torch.randn(1, 1, *[21] * dims)
    with torch.inference_mode():
        torch.testing.assert_close(small(image), full(image, depth=2))
    assert result.depth == 2
    assert result.parameters == sum(weight.numel() for weight in small.parameters()) < result.parameters_before
    assert out.stat().st_size < model.stat().st_size


def test_the_plan_is_that_of_the_pruned_network(small_plan: Callable[..., Plan]) -> None:
    plan = plan_at_size(small_plan(depth=3, head_weights=[1.0, 2.0, 3.0]), 2)
    assert (plan.model.depth, plan.predict.depth, plan.train.head_weights) == (2, 2, (1.0, 2.0))
    assert "pruned from depth 3" in plan.reasons["model.depth"]


def test_the_plan_of_a_size_does_not_grow_and_keeps_the_weights_of_its_heads() -> None:
    settings = {"train.growth": (0.5,), "train.head_weights": (1, 2, 3, 4)}
    whole = plans.small_plan(settings=settings, norm="instance", shells=(0.5, 1))
    plan = plan_at_size(whole, 3)
    assert (plan.model.depth, plan.predict.depth, plan.train.head_weights, plan.train.growth) == (1, 1, (3.0,), ())


@pytest.mark.parametrize(("max_drop", "depth"), [(0, 3), (0.05, 3), (0.1, 2), (0.99, 2), (1, 1), (50, 1)])
def test_the_smallest_depth_that_is_good_enough(
    max_drop: float, depth: int, make_model: Callable[..., Path], small_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    model = make_model(small_plan(depth=3), notes={"depths": DEPTHS, "dice": 0.91})
    result = prune_file(model, tmp_path / "small.safetensors", max_drop=max_drop)
    assert result.depth == depth
    notes = load_model(tmp_path / "small.safetensors")[1].notes
    assert notes.to_dict() == {
        "dice": DEPTHS[str(depth)]["dice"],
        "depths": {str(depth): DEPTHS[str(depth)]},
        "pruned_from_depth": 3,
    }


def test_the_final_scores_beside_the_model_go_before_its_notes(
    make_model: Callable[..., Path], small_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    model = make_model(small_plan(depth=3), notes={"depths": DEPTHS})
    (model.parent / "metrics.json").write_text(json.dumps({"depths": {**DEPTHS, "1": {"dice": 0.5}}}))
    assert prune_file(model, tmp_path / "small.safetensors", max_drop=1).depth == 2


def test_what_a_requested_depth_loses_and_saves_is_said(
    make_model: Callable[..., Path], small_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    rows = {depth: {**row, "latency_ms": 4.0 * int(depth)} for depth, row in DEPTHS.items()}
    model = make_model(small_plan(depth=3), notes={"depths": rows})
    reason = prune_file(model, tmp_path / "small.safetensors", depth=1).reason
    expected = "as requested; validation Dice 0.9000, 1.00 points below depth 3; it takes 33% of the time of depth 3"
    assert reason == expected


def test_the_verdict_on_the_full_network_is_said_to_be_that(
    make_model: Callable[..., Path], small_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    verdict = {"kind": "over-fitted", "reason": "Over-fitted since step 9: Dice 0.9 to 0.8.", "advice": "Label more."}
    model, out = (
        make_model(small_plan(depth=3), notes={"depths": DEPTHS, "verdict": verdict}),
        tmp_path / "2.safetensors",
    )
    whole = "the full network, depth 3"
    said = prune_file(model, out, depth=2).verdicts
    assert said == (f"verdict on the training of {whole}: over-fitted since step 9. Label more.",)
    assert f"Of {whole}: over-fitted since step 9: Dice 0.9 to 0.8." in str(unetpp.info(out))


def test_of_a_network_that_has_not_learned_no_depth_is_chosen(
    make_model: Callable[..., Path], small_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    verdict = {"kind": "weak", "reason": "Hardly learned.", "advice": "Look.", "learned": False}
    model, out = (
        make_model(small_plan(depth=3), notes={"depths": DEPTHS, "verdict": verdict}),
        tmp_path / "2.safetensors",
    )
    with pytest.raises(UsageError, match="hardly learned"):
        prune_file(model, out, max_drop=1)
    found = prune_file(model, out, depth=2)
    assert found.reason == "as requested; validation Dice 0.9090, 0.10 points below depth 3"
    assert found.verdicts[0].startswith("the model has hardly learned")


def test_says_what_is_missing(make_model: Callable[..., Path], tmp_path: Path) -> None:
    model, out = make_model(), tmp_path / "small.safetensors"
    for arguments, message in [
        ({}, "got none of them"),
        ({"depth": 1, "max_drop": 1}, "got several of them"),
        ({"depth": 7}, r"got 7; expected one of \[1, 2\]"),
        ({"depth": 0}, r"got 0; expected one of \[1, 2\]"),
        ({"max_drop": -1}, "got -1; expected 0 or more"),
        ({"max_drop": 1}, "without validation scores of every depth"),
    ]:
        with pytest.raises(UsageError, match=message):
            prune_file(model, out, **arguments)
    assert not out.exists()


def test_what_does_not_agree_is_not_left_behind(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "small.safetensors"
    out.write_bytes(b"what was there")

    def save_other_weights(path: Path, weights: dict[str, torch.Tensor], *rest: object) -> None:
        real_save(path, {name: weight + 0.1 for name, weight in weights.items()}, *rest)

    real_save = prune.save_model
    monkeypatch.setattr(prune, "save_model", save_other_weights)
    with pytest.raises(ModelFileError, match="differs by"):
        prune_file(make_model(), out, depth=1)
    assert out.read_bytes() == b"what was there"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".unetpp")] == []


def test_an_unwritable_place_is_a_clear_error(make_model: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="expected to write it"):
        prune_file(make_model(), tmp_path / "file" / "small.safetensors", depth=1)
