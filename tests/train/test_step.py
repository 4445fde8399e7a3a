"""The training step: the loss does not depend on how it runs, and the network is compiled if the plan says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.plans import small_plan
from tests.train.test_trainer import make_plan, make_store, mean_weight
from unetpp.model.build import build_from_plan
from unetpp.plan import TrainPlan
from unetpp.run_folder import CHECKPOINT, LOG, MODEL
from unetpp.runtime.device import memory_format
from unetpp.train.batches import Batch
from unetpp.train.speed import measure_step_seconds
from unetpp.train.step import TrainingStep
from unetpp.train.trainer import FoldTraining

CPU = torch.device("cpu")


def make_step(warn: Callable[[str], None] = lambda message: None, dropout: float = 0.1, **train: Any) -> TrainingStep:
    plan = small_plan(settings={f"train.{name}": value for name, value in train.items()}, dropout=dropout)
    torch.manual_seed(0)
    return TrainingStep(build_from_plan(plan.model), plan.model, plan.train, CPU, warn=warn)


def make_batch(number: int) -> Batch:
    images = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(number))
    return images, (images > 0).long()


def train_steps(step: TrainingStep, count: int = 4) -> list[float]:
    return [step(make_batch(number), number, number / count) for number in range(count)]


def fail_to_compile(*_: Any, **__: Any) -> Any:
    raise torch._dynamo.exc.TorchDynamoException("no compiler here")


def test_dropout_depends_on_the_seed_and_the_number_of_the_step_alone() -> None:
    first, again, other = make_step(), make_step(), make_step(seed=1)
    torch.manual_seed(5)
    assert first(make_batch(0), 7, 0.5) == again(make_batch(0), 7, 0.5) != other(make_batch(0), 7, 0.5)
    assert make_step()(make_batch(0), 8, 0.5) != make_step()(make_batch(0), 7, 0.5)


def test_the_learning_rate_follows_the_schedule_and_the_factors_of_groups() -> None:
    step = make_step(warmup=0.0, learning_rate=0.1, kernel_learning_rate=0.2)
    step(make_batch(0), 0, 0.5)
    assert step.learning_rate == pytest.approx(0.05)
    assert {group["lr"] / group["factor"] for group in step.optimizer.param_groups} == {step.learning_rate}


def test_the_moving_average_follows_the_weights() -> None:
    step = make_step(ema_decay=0.0)
    train_steps(step)
    pairs = zip(step.average.state_dict().values(), step.network.state_dict().values(), strict=True)
    assert all(torch.equal(mean, value) for mean, value in pairs)
    assert not any(weight.requires_grad for weight in step.average.parameters())


@pytest.mark.parametrize(("wanted", "calls"), [(True, 1), (False, 0)])
def test_the_network_is_compiled_once_if_the_plan_says_so(
    wanted: bool, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[dict[str, Any]] = []
    called: list[Tensor] = []

    def compile(network: Any, **options: Any) -> Any:
        requests.append(options)
        return lambda images, heads: called.append(images) or network(images, heads=heads)

    monkeypatch.setattr(torch, "compile", compile)
    compiled = train_steps(make_step(compile=wanted))
    assert requests == [{"dynamic": False}] * calls
    assert len(called) == 4 * calls
    assert compiled == train_steps(make_step())


def test_a_network_that_cannot_be_compiled_is_trained_without_after_one_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(torch, "compile", lambda network, dynamic: fail_to_compile)
    step = make_step(warnings.append, compile=True)
    assert train_steps(step) == train_steps(make_step())
    assert warnings == ["train.compile: TorchDynamoException: no compiler here; training without compiling"]
    assert not torch._dynamo.config.suppress_errors


def test_other_errors_of_a_compiled_network_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out_of_memory(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch, "compile", lambda network, dynamic: run_out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        train_steps(make_step(compile=True))


@pytest.mark.parametrize(("wanted", "activity"), [(True, "compiling the network"), (False, "starting")])
def test_compiling_is_named_before_the_first_step(
    wanted: bool, activity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, dynamic: network)
    plan, seen = make_plan(**{"train.compile": wanted, "train.epochs": 1}), []
    store = make_store(tmp_path)
    FoldTraining(plan, store, tmp_path / "fold_0", device=CPU, validate=mean_weight, show=seen.append).run()
    assert [status.activity for status in seen[:2]] == [activity, "training"]


def test_the_log_tells_that_a_network_is_not_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, dynamic: fail_to_compile)
    plan = make_plan(**{"train.compile": True, "train.epochs": 1})
    FoldTraining(plan, make_store(tmp_path), tmp_path / "fold_0", device=CPU, validate=mean_weight).run()
    assert '"kind": "warning", "message": "train.compile: ' in (tmp_path / "fold_0" / LOG).read_text()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_change_of_memory_format_reaches_weights_and_the_optimizers_state(
    layout: torch.memory_format,
) -> None:
    plain, step = make_step(dropout=0.0), make_step(dropout=0.0)  # masks are drawn in memory order
    for each in (plain, step):
        train_steps(each)
    step.use_memory_format(layout)
    kernel = step.network.get_parameter("nodes.x_0_0.units.0.conv.weight")
    assert step.optimizer.state[kernel]["exp_avg"].stride() == kernel.stride()
    assert train_steps(step) == pytest.approx(train_steps(plain), rel=1e-4)


@pytest.mark.slow
def test_compiled_training_agrees_with_eager_and_its_files_do_not_mention_the_compiler(tmp_path: Path) -> None:
    if not (shutil.which("c++") or shutil.which("g++")):
        pytest.skip("no C++ compiler")
    warnings: list[str] = []
    compiled = train_steps(make_step(warnings.append, dropout=0.0, compile=True))
    assert warnings == []
    assert compiled == pytest.approx(train_steps(make_step(dropout=0.0)), rel=1e-3)
    plan = make_plan(**{"train.compile": True, "train.epochs": 1})
    FoldTraining(plan, make_store(tmp_path), tmp_path / "fold_0", device=CPU, validate=mean_weight).run()
    assert "warning" not in (tmp_path / "fold_0" / LOG).read_text()
    for name in (CHECKPOINT, MODEL):
        assert not any("_orig_mod" in key for key in load_file(tmp_path / "fold_0" / name))
    resumed = FoldTraining(
        make_plan(**{"train.epochs": 1}), make_store(tmp_path), tmp_path / "fold_0", device=CPU, validate=mean_weight
    )
    assert resumed.run(resume=True).reason == "finished"


def test_a_step_is_timed_as_the_trainer_runs_it_but_never_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[TrainPlan, float]] = []
    call = TrainingStep.__call__

    def spy(self: TrainingStep, batch: Batch, number: int, fraction: float) -> float:
        seen.append((self._train, fraction))
        return call(self, batch, number, fraction)

    monkeypatch.setattr(TrainingStep, "__call__", spy)
    plan = small_plan(settings={"train.compile": True, "train.optimizer": "adamw"})
    state = torch.get_rng_state()
    assert 0 < measure_step_seconds(plan.model, plan.train, CPU) < 5
    assert torch.equal(state, torch.get_rng_state())
    assert 2 <= len(seen) <= 4
    assert all((train.optimizer, train.compile, fraction) == ("adamw", False, 0.5) for train, fraction in seen)


def test_images_have_the_memory_format_of_the_network() -> None:
    plan = small_plan(norm="batch")
    step = TrainingStep(build_from_plan(plan.model), plan.model, plan.train, CPU)
    matches: list[bool] = []
    step.network.register_forward_pre_hook(
        lambda _, inputs: matches.append(inputs[0].is_contiguous(memory_format=memory_format(plan.model, CPU)))
    )
    step(make_batch(0), 0, 0.5)
    assert matches == [True]
