"""A network grows from the inside: its inner shells are trained first and alone, and nothing of them is lost."""

from __future__ import annotations

import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.plans import small_plan
from tests.train.test_trainer import SETTINGS, Scores, make_store, mean_weight, same
from unetpp.errors import Interrupted, ModelFileError, PlanError
from unetpp.measure.validation import DepthValidation
from unetpp.metrics.scores import Validation
from unetpp.model.build import build_from_plan
from unetpp.model.file import load_model
from unetpp.model_notes import Training
from unetpp.plan import Plan
from unetpp.run_folder import CHECKPOINT, LOG, MODEL
from unetpp.train import speed, trainer
from unetpp.train.checkpoint import TrainingState, save_checkpoint
from unetpp.train.growth import Growth
from unetpp.train.step import TrainingStep
from unetpp.train.trainer import Extension, FoldTraining, Status

CPU = torch.device("cpu")


def growing_plan(**settings: Any) -> Plan:
    """A plan of 12 steps, validated after 4, 8 and 12, whose second shell joins after 6."""
    return small_plan(
        settings={**SETTINGS, "train.growth": (0.5,), **settings}, norm="batch", dropout=0.1, shells=(0.5, 1)
    )


def make_training(folder: Path, name: str, plan: Plan, validate: Any = mean_weight, **options: Any) -> FoldTraining:
    return FoldTraining(plan, make_store(folder), folder / name, device=CPU, validate=validate, **options)


def read_lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def score_heads(network: Any) -> Validation:
    """Score every size of a network by its weights."""
    return Validation(dict.fromkeys(network.head_depths, mean_weight(network).dice))


def run_all(network: Any) -> dict[int, Tensor]:
    with torch.no_grad():
        image = torch.linspace(-1, 1, 12 * 20).reshape(1, 1, 12, 20).sin()
        outputs = network(image.to(next(network.parameters()).dtype), heads=True)
    return dict(zip(*outputs, strict=True))


def test_sizes_are_kept_from_phase_to_phase_and_new_ones_repeat_those_further_in() -> None:
    plan = small_plan(norm="instance", widths=(8, 12, 16), shells=(0.25, 0.5, 1))
    plan = plan.changed({"train.growth": (0.3, 0.6)})
    growth, whole = Growth(plan.model, plan.train), build_from_plan(plan.model).double().eval()
    assert [growth.find_phase(fraction) for fraction in (0, 0.29, 0.3, 0.5, 0.6, 1)] == [0, 0, 1, 1, 2, 2]
    assert growth.cut(whole, 2) is whole
    networks = [growth.cut(whole, phase) for phase in range(3)]
    for network, phase in zip(networks, range(3), strict=True):
        fields = growth.plan_phase(phase).model_dump()
        assert (network.shells, len(fields["shells"])) == (phase + 1, phase + 1)
        assert fields["widths"] == (2 * 2**phase, 3 * 2**phase, 4 * 2**phase)
    untouched = {name: value.clone() for name, value in whole.state_dict().items()}
    inner = run_all(networks[0])
    for make in (lambda: growth.complete(networks[0], whole), lambda: growth.grow(networks[0], whole, 2)):
        assert all(torch.equal(value, untouched[name]) for name, value in whole.state_dict().items())
        found = run_all(make())
        assert list(found) == [1, 2, 3, 4, 5, 6]
        for number, logits in found.items():
            assert torch.allclose(logits, inner[(number - 1) % 2 + 1], atol=1e-6)
    assert growth.complete(whole, whole) is whole
    assert growth.complete_scores({1: 0.1, 2: 0.2}, 0) == dict(zip(range(1, 7), [0.1, 0.2] * 3, strict=True))
    scores = {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}
    assert growth.complete_scores(scores, 1) == {**scores, 5: 0.3, 6: 0.4}


def test_the_work_of_a_phase_is_that_of_its_network() -> None:
    plan = growing_plan()
    growth = Growth(plan.model, plan.train)
    done = [growth.count_work(fraction / 10) for fraction in range(11)]
    assert (done[0], done[-1]) == (0, pytest.approx(1))
    rates = [after - before for before, after in itertools.pairwise(done)]
    assert rates[:5] == pytest.approx([rates[0]] * 5) and rates[5:] == pytest.approx([rates[-1]] * 5)
    assert 0.2 < rates[0] / rates[-1] < 0.5
    assert Growth(plan.model, plan.train.model_copy(update={"growth": ()})).count_work(0.3) == 0.3


def test_the_inner_shell_is_trained_alone_and_the_model_file_is_always_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "LOG_EVERY_S", -1.0)
    plan, seen, shown = growing_plan(), [], []

    def validate(network: Any) -> Validation:
        if seen:  # the file of the validation before
            early, header = load_model(tmp_path / "fold_0" / MODEL)
            found = run_all(early)
            for number, logits in seen[-1].items():
                assert torch.allclose(found[number], logits, atol=1e-5)
            if len(seen) == 1:
                assert torch.allclose(found[4], found[2], atol=1e-5) and torch.allclose(found[3], found[1], atol=1e-5)
                assert header.notes.depths[4] == header.notes.depths[2]
            assert list(header.notes.depths) == [1, 2, 3, 4]
        seen.append(run_all(network))
        return score_heads(network)

    training = make_training(tmp_path, "fold_0", plan, validate, show=shown.append)
    kernels = [weight.clone() for weight in training.network.parameters()]
    assert (training.step.network.shells, training.run().steps) == (1, 12)
    assert [list(each) for each in seen] == [[1, 2], [1, 2, 3, 4], [1, 2, 3, 4]]
    [grown] = read_lines(tmp_path / "fold_0", "growth")
    assert {**grown, "elapsed_s": 0} == {
        "kind": "growth",
        "step": 6,
        "phase": 1,
        "shells": 2,
        "sizes": [1, 2, 3, 4],
        "elapsed_s": 0,
    }
    assert training.step.network is training.network
    assert all(not torch.equal(a, b) for a, b in zip(kernels, training.network.parameters(), strict=True) if a.any())
    assert {each.part for each in shown if each.step < 6} == {"inner 2x2"} and shown[-1].part == ""
    check_time_left([each for each in shown if each.seconds_left is not None and each.activity == "training"])


def check_time_left(shown: list[Status]) -> None:
    """Steps to come take longer than those so far, which the time left knows."""
    inner = [each for each in shown if 0 < each.fraction < 0.5]
    assert inner
    for each in inner:
        assert each.seconds_left is not None
        spent_s = each.step / each.images_per_second * 2  # of patches, two in a step
        assert each.seconds_left > 1.3 * spent_s * (1 / each.fraction - 1)


def stop_after(step: int, patch: pytest.MonkeyPatch) -> None:
    after_step = FoldTraining._after_step

    def stop(self: FoldTraining, done: int, loss: float) -> str:
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return after_step(self, done, loss)

    patch.setattr(FoldTraining, "_after_step", stop)


def test_an_interruption_before_at_or_after_a_change_and_resuming_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = growing_plan(**{"train.growth_warmup": 0.25})
    torch.manual_seed(9)
    start = build_from_plan(plan.model).state_dict()  # given at the start alone, as the folds of a run do
    make_training(tmp_path, "whole", plan, score_heads, weights=start).run()
    for step in (3, 6, 7):
        name = f"stopped_{step}"
        with monkeypatch.context() as patch, pytest.raises(Interrupted, match=f"after step {step};"):
            stop_after(step, patch)
            make_training(tmp_path, name, plan, score_heads, weights=start).run()
        make_training(tmp_path, name, plan, score_heads).run(resume=True)
        for file in (CHECKPOINT, MODEL):
            assert same(tmp_path / "whole" / file, tmp_path / name / file)
        assert [line["step"] for line in read_lines(tmp_path / name, "growth")] == [6]


@pytest.mark.parametrize(
    ("settings", "shells", "name"),
    [
        ({"train.growth": (0.75,)}, (0.5, 1), r"train\.growth"),
        ({"train.growth": ()}, (0.5, 1), r"train\.growth"),
        ({"train.growth": ()}, (1,), r"model\.shells, train\.growth"),
    ],
)
def test_other_shells_or_another_growth_are_refused_on_resume(
    tmp_path: Path, settings: dict[str, Any], shells: tuple[float, ...], name: str
) -> None:
    begun = make_training(tmp_path, "fold_0", growing_plan())
    save_checkpoint(begun.folder / CHECKPOINT, begun.plan, begun.state, begun.step, begun.network)
    other = small_plan(settings={**SETTINGS, **settings}, norm="batch", dropout=0.1, shells=shells)
    with pytest.raises(ModelFileError, match=rf"a plan that differs in {name}; .*`out`"):
        make_training(tmp_path, "fold_0", other).run(resume=True)
    damaged = TrainingState(phase=2)
    save_checkpoint(begun.folder / CHECKPOINT, begun.plan, damaged, begun.step, begun.network)
    with pytest.raises(ModelFileError, match="a position in the schedule that cannot be used"):
        make_training(tmp_path, "fold_0", begun.plan).run(resume=True)


def test_a_change_begins_a_new_choice_of_the_best_weights_and_patience_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[int] = []
    monkeypatch.setattr(torch, "compile", lambda network, dynamic: compiled.append(network.shells) or network)
    plan = growing_plan(**{"train.validations": 6, "train.patience": 2, "train.compile": True})
    scores = (0.9, 0.5, 0.4, 0.2, 0.3, 0.1)  # after 2, 4, ... steps, of which two lost patience before the change
    done = make_training(tmp_path, "fold_0", plan, Scores(*scores)).run()
    assert (done.reason, done.steps, done.best_dice, done.best_step) == ("finished", 12, 0.3, 10)
    assert load_model(tmp_path / "fold_0" / MODEL)[1].notes.step == 10
    assert compiled == [1, 2]  # each network by itself


def extend(tmp_path: Path, plan: Plan) -> Training:
    return make_training(tmp_path, "fold_0", plan, score_heads).run(resume=True, more=Extension(epochs=2))


def test_an_extension_trains_the_whole_at_its_own_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "LOG_EVERY_S", -1.0)
    plan = growing_plan(**{"train.growth_warmup": 0.25, "train.warmup": 0})
    make_training(tmp_path, "fold_0", plan, score_heads).run()
    assert extend(tmp_path, plan).steps == 20
    assert len(read_lines(tmp_path / "fold_0", "growth")) == 1
    rates = [line["learning_rate"] for line in read_lines(tmp_path / "fold_0", "train")]
    curve = [Growth(plan.model, plan.train).compute_rise(0.5, step / 12) for step in range(12)]
    assert curve[6:] == pytest.approx([0, 1 / 3, 2 / 3, 1, 1, 1])
    plain = [plan.train.learning_rate * 0.5 * (1 + torch.tensor(torch.pi * s / 12).cos().item()) for s in range(12)]
    assert rates[:6] == pytest.approx(plain[:6], rel=1e-4)
    assert rates[6:12] == pytest.approx([a * b for a, b in zip(curve[6:], plain[6:], strict=True)], rel=1e-4)
    assert all(before > after > 0 for before, after in itertools.pairwise(rates[12:]))


def test_a_budget_that_ends_before_the_change_leaves_a_whole_model(tmp_path: Path) -> None:
    plan, sizes = growing_plan(**{"train.minutes": 1, "train.growth": (0.99999,)}), []

    def validate(network: Any) -> Validation:
        sizes.append(network.head_depths)
        return score_heads(network)

    done = make_training(tmp_path, "fold_0", plan, validate, budget_s=0.3).run()
    assert (done.reason, sizes[-1]) == ("finished", (1, 2, 3, 4))
    assert len(run_all(load_model(tmp_path / "fold_0" / MODEL)[0])) == 4


def test_a_validation_scores_the_sizes_of_the_phase_and_times_those_of_the_whole(tmp_path: Path) -> None:
    plan = growing_plan()
    validation = DepthValidation(make_store(tmp_path), plan, CPU)
    whole = build_from_plan(plan.model).eval()
    validation.tile_s = 7.0
    assert list(validation(whole.prune(2, keep_heads=True).eval()).depths) == [1, 2]
    assert validation.tile_s == 7.0
    assert list(validation(whole).depths) == [1, 2, 3, 4]
    assert validation.tile_s < 7.0


def test_the_moving_average_counts_the_steps_of_its_phase() -> None:
    plan = small_plan()
    step = TrainingStep(build_from_plan(plan.model), plan.model, plan.train, CPU, first=50)
    before = [weight.clone() for weight in step.average.parameters()]
    images = torch.randn(2, 1, 16, 16)
    step((images, (images > 0).long()), 50, 0.3)
    moved = zip(before, step.average.parameters(), step.network.parameters(), strict=True)
    assert all(torch.allclose(average, start.lerp(weight, 1 - 2 / 11), atol=1e-6) for start, average, weight in moved)


def test_weights_of_heads_are_those_of_the_sizes_so_far() -> None:
    plan = growing_plan(**{"train.head_weights": (1, 2, 3, 4)})
    whole = build_from_plan(plan.model)
    for network, weights in ((whole.prune(2, keep_heads=True), (1, 2)), (whole, (1, 2, 3, 4))):
        step = TrainingStep(network, plan.model, plan.train, CPU)
        assert step.loss.head_weights == weights


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train.growth": (1.5,)}, "rising fractions of the schedule, above 0 and below 1"),
        ({"train.growth": (0.5, 0.5)}, "rising fractions"),
        ({"train.growth": (0.0,)}, "rising fractions"),
        ({"train.growth": (0.3, 0.6)}, r"1 fraction, one for each of model\.shells but the inner one"),
        ({"train.growth": (0.95,)}, r"a step of 12 \(train\.epochs\) for the whole network"),
        ({"train.head_weights": (1, 2)}, '"equal" or 4 numbers'),
    ],
)
def test_a_growth_that_does_not_fit_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=f"{next(iter(settings))}.*{message}"):
        growing_plan(**settings)


def test_a_network_of_one_shell_does_not_grow() -> None:
    with pytest.raises(PlanError, match=r"train\.growth: .*none, because model\.shells has one"):
        small_plan(settings={"train.growth": (0.5,)})


@pytest.mark.parametrize(("minutes", "seconds"), [(None, 3.0), (20.0, 2.5)])
def test_the_time_of_a_step_is_its_mean_over_the_phases(
    minutes: float | None, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = growing_plan(**{"train.growth": (0.25,), "train.minutes": minutes})
    times = {1: 1.5, 2: 3.5 if minutes is None else 3.0}
    monkeypatch.setattr(speed, "measure_step_seconds", lambda model, *_: times[len(model.shells)])
    expected = 1 / (0.25 / 1.5 + 0.75 / 3.0) if minutes else seconds
    assert speed.measure_mean_step_seconds(plan.model, plan.train, CPU) == pytest.approx(expected)
    misfit = plan.train.model_copy(update={"growth": (0.2, 0.4)})
    assert speed.measure_mean_step_seconds(plan.model, misfit, CPU) == times[2]
