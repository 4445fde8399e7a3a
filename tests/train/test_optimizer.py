"""Groups of the optimizer and freezing of the encoder follow the plan, also after an interruption."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.plans import small_plan
from tests.train.test_trainer import make_store, mean_weight, same
from unetpp.errors import Interrupted
from unetpp.model.build import build_from_plan
from unetpp.model.file import load_model
from unetpp.plan import Plan
from unetpp.run_folder import CHECKPOINT, MODEL
from unetpp.train.optimizer import freeze_encoder, make_optimizer
from unetpp.train.trainer import FoldTraining


@pytest.fixture
def needs_timm() -> None:
    try:
        import timm  # noqa: F401
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of another build of torch
        pytest.skip(f"timm: {error}")


NEEDS_TIMM = pytest.mark.usefixtures("needs_timm")


def with_encoder(**train: Any) -> Plan:
    settings = {
        "train.epochs": 2,
        "train.steps_per_epoch": 2,
        "train.validations": 2,
        "train.patch": [8, 8],
        "train.checkpoint_minutes": 1e-9,
    }
    return small_plan(
        settings=settings | {f"train.{name}": value for name, value in train.items()},
        encoder="test_resnet",
        widths=None,
        depth=2,
        first_width=4,
    )


def test_heads_of_many_classes_are_not_updated_by_muon() -> None:
    plan = small_plan(classes=9, settings={"train.optimizer": "muon"}, widths=(8, 16, 16))
    network = build_from_plan(plan.model)
    kernels = {
        id(weight)
        for group in make_optimizer(network, plan.train).param_groups
        if group["orthogonal"]
        for weight in group["params"]
    }
    assert kernels
    assert not any(id(weight) in kernels for weight in network.heads.parameters())


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_muon_updates_kernels_between_features_and_vectors_are_not_decayed(optimizer: str) -> None:
    plan = small_plan(settings={"train.optimizer": optimizer, "train.kernel_learning_rate": 0.03}, widths=(8, 16, 16))
    network = build_from_plan(plan.model)
    by_name = dict(network.named_parameters())
    matrices, vectors, *kernels = make_optimizer(network, plan.train).param_groups
    grouped = [id(weight) for group in (matrices, vectors, *kernels) for weight in group["params"]]
    assert sorted(grouped) == sorted(map(id, network.parameters()))
    assert all(weight.ndim == 1 for weight in vectors["params"])
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (plan.train.weight_decay, 0.0)
    others = {name for name, weight in by_name.items() if any(weight is other for other in matrices["params"])}
    outer = {
        "nodes.x_0_0.units.0.conv.weight",
        "nodes.x_0_0.shortcut.conv.weight",
        "heads.1.weight",
        "heads.2.weight",
    }  # they read the image, or compute logits
    if optimizer == "muon":
        assert others == outer
        assert plan.train.learning_rate * kernels[0]["factor"] == pytest.approx(0.03)
    else:
        assert kernels == []
        assert others == {name for name, weight in by_name.items() if weight.ndim > 1}
    freeze_encoder(network, True)
    assert all(weight.requires_grad for weight in network.parameters())


@NEEDS_TIMM
def test_every_weight_is_in_one_group_and_the_encoder_has_its_own_factor() -> None:
    plan = with_encoder(encoder_learning_rate=0.1)
    network = build_from_plan(plan.model)
    groups = make_optimizer(network, plan.train).param_groups
    grouped = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(grouped) == sorted(id(weight) for weight in network.parameters())
    slow = {id(weight) for group in groups if group["factor"] == 0.1 for weight in group["params"]}
    assert slow == {id(weight) for weight in network.encoder.parameters()}


def record_states(plan: Plan, folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Copy the network before training and after each step."""
    seen: list[dict[str, Tensor]] = []

    def copy(network: nn.Module) -> None:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})

    after_step = FoldTraining._after_step

    def spy(self: FoldTraining, step: int, loss: float) -> str:
        copy(self.network)
        return after_step(self, step, loss)

    training = FoldTraining(plan, make_store(store), folder, device=torch.device("cpu"), validate=mean_weight)
    copy(training.network)
    with monkeypatch.context() as patch:
        patch.setattr(FoldTraining, "_after_step", spy)
        training.run()
    return seen


def find_changes(before: dict[str, Tensor], after: dict[str, Tensor], encoder: bool) -> list[bool]:
    return [not torch.equal(before[name], after[name]) for name in before if name.startswith("encoder.") == encoder]


@NEEDS_TIMM
@pytest.mark.parametrize(("fraction", "frozen_steps"), [(0.0, 0), (0.5, 2), (1.0, 4)])
def test_the_encoder_is_frozen_for_its_fraction_of_the_schedule_statistics_included(
    tmp_path: Path, fraction: float, frozen_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = record_states(with_encoder(freeze_encoder=fraction, warmup=0), tmp_path / "fold_0", tmp_path, monkeypatch)
    for step, (before, after) in enumerate(itertools.pairwise(seen)):
        assert any(find_changes(before, after, encoder=True)) == (step >= frozen_steps)
        assert all(find_changes(before, after, encoder=False))
    if fraction == 1:  # the moving average of frozen weights is these weights
        saved = load_model(tmp_path / "fold_0" / MODEL)[0].state_dict()
        assert not any(find_changes(seen[0], saved, encoder=True))


@NEEDS_TIMM
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_an_interruption_while_the_encoder_is_frozen_or_later_changes_nothing(
    tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = with_encoder(freeze_encoder=0.5, encoder_learning_rate=0.3), make_store(tmp_path)

    def train(name: str, resume: bool = False) -> None:
        FoldTraining(plan, store, tmp_path / name, device=torch.device("cpu"), validate=mean_weight).run(resume)

    train("whole")
    after_step = FoldTraining._after_step

    def stop_after(self: FoldTraining, done: int, loss: float) -> str:
        if done == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return after_step(self, done, loss)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(FoldTraining, "_after_step", stop_after)
        train("stopped")
    train("stopped", resume=True)
    assert same(tmp_path / "whole" / CHECKPOINT, tmp_path / "stopped" / CHECKPOINT)
    assert same(tmp_path / "whole" / MODEL, tmp_path / "stopped" / MODEL)
