"""Rules of early exit: fitted on the validation cases of a run, stored in the model file, chosen by their loss."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tiny import TINY, call_learned, run_cli

import unetpp
from unetpp.data.demo import write_demo_data
from unetpp.deploy.adapt import LOSSES, Fitted, Observations, adapt_file, choose_limits, find_fixed
from unetpp.deploy.exit_costs import ExitCosts, time_exits
from unetpp.deploy.prune import plan_at_size
from unetpp.errors import UsageError
from unetpp.infer.early_exit import choose_rule
from unetpp.infer.predictor import Predictor
from unetpp.measure.stored_cases import find_stored_split
from unetpp.measured import DepthRow, DepthTable
from unetpp.model.build import build_from_plan
from unetpp.model.file import load_model, save_model
from unetpp.model_notes import Notes, Rule, Verdict
from unetpp.plan import ModelPlan
from unetpp.size_names import SizeNames


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With enough validation cases."""
    folder = tmp_path_factory.mktemp("adapt")
    write_demo_data(folder / "data", 2, cases=15, shape=(32, 40))
    unetpp.train(folder / "data", folder / "run", epochs=2, device="cpu", set=TINY)
    call_learned(folder / "run" / "fold_0" / "model.safetensors")
    return folder / "run"


def test_from_a_run_to_a_prediction_with_a_depth_for_each_tile(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    before, _ = load_model(folder / "fold_0" / "model.safetensors")
    said = run_cli("adapt", folder, "--backend", "torch")
    assert said.code == 0
    after, header = load_model(folder / "fold_0" / "model.safetensors")
    assert all(
        bool((mine == theirs).all())
        for mine, theirs in zip(before.state_dict().values(), after.state_dict().values(), strict=True)
    )
    rules = header.notes.auto
    assert 1 <= len(rules) <= 1 + len(LOSSES)
    assert (rules[0].doubts, rules[0].dice_lost, rules[0].time) == ((None,), 0.0, 1.0)
    assert ("Dice change" if len(rules) > 1 else "saves no time") in said.stdout
    found = run_cli("info", folder / "fold_0" / "model.safetensors").stdout
    assert "early exit: " in found and (f"{len(rules) - 1} rule" if len(rules) > 1 else "saves no time") in found
    assert all(rule.time < 1 for rule in rules[1:])
    assert all(len(rule.doubts) == len(rule.tiles) - 1 for rule in rules)
    images = run.parent / "data" / "images"
    wanted = 100 * max(rule.dice_lost_interval[1] for rule in rules) + 1
    said = run_cli("predict", folder, images, "--out", tmp_path / "auto", "--depth", "auto", "--max-drop", wanted)
    assert said.code == 0
    record = json.loads((tmp_path / "auto" / "predictions.json").read_text())
    assert record["depth"] == "auto" and "depth of the tiles: " in said.stdout
    assert all(sum(entry["depth_shares"].values()) == pytest.approx(1) for entry in record["cases"].values())
    assert len(list((tmp_path / "auto").glob("*.png"))) == 15


def test_a_rule_that_never_stops_is_full_depth_and_one_that_always_does_the_first(run: Path) -> None:
    image = np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32)
    for doubts, depth in (([-1.0], None), ([None], None), ([1e9], 1)):
        predictor = unetpp.load(run, device="cpu", backend="torch")
        predictor.rules = (Rule(doubts=doubts, dice_lost=0.0, dice_lost_interval=(0, 0), time=1.0),)
        np.testing.assert_array_equal(predictor.predict(image, depth="auto"), predictor.predict(image, depth=depth))


def test_a_network_with_shells_grows_through_its_sizes(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    file = folder / "fold_0" / "model.safetensors"
    plan = load_model(file)[1].plan
    fields = {"shells": (0.5, 1), "widths": (8, 8, 16), "norm": "instance"}
    model = ModelPlan(**{**plan.model.model_dump(), **fields})
    torch.manual_seed(0)
    save_model(file, build_from_plan(model).state_dict(), plan.model_copy(update={"model": model}))
    (rules, shares), _ = adapt_file(file, device="cpu", backend="torch")
    assert list(shares) == [1, 2, 4] and shares[4] == 1
    assert all(list(rule.tiles) == [1, 2, 4] and len(rule.doubts) == 2 for rule in rules)
    image = np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32)
    for doubts, size in (([None, None], "2x8"), ([-1.0, -1.0], "2x8"), ([None, 1e9], "2x4"), ([1e9, None], "1x4")):
        predictor = unetpp.load(file, device="cpu", backend="torch")
        predictor.rules = (Rule(doubts=doubts, dice_lost=0.0, dice_lost_interval=(0, 0), time=1.0),)
        np.testing.assert_array_equal(predictor.predict(image, depth="auto"), predictor.predict(image, size=size))


def test_limits_are_found_for_each_depth_by_what_cases_lose_there() -> None:
    """In half of the cases the first head is as good as any, and certain; the others need the third head, although the
    second is certain."""
    easy = np.arange(40) % 2 == 0
    lost = np.where(easy[:, None], 0.0, [[0.2, 0.004, 0.0]])
    doubts = np.where(easy[:, None], [[0.02, 0.01]], [[0.3, 0.01]])
    rules = choose_limits(Observations(np.arange(40), doubts, lost), np.asarray([1.0, 2.0, 4.0]))
    careful, bold = rules[0], rules[-1]
    assert (
        careful[0] is not None and 0.02 <= careful[0] < 0.3 and careful[1] is None
    )  # easy cases stop at once, the others go to the end
    assert (
        bold[0] is not None and 0.02 <= bold[0] < 0.3 and bold[1] is not None
    )  # 0.002 lost: the others stop at the second


def test_what_loses_nothing_is_always_among_the_rules() -> None:
    rng = np.random.default_rng(0)
    hopeless = Observations(np.repeat(np.arange(10), 3), rng.random((30, 1)), np.tile([[0.5, 0.0]], (10, 1)))
    assert choose_limits(hopeless, np.asarray([1.0, 2.0])) == [[None]]


def rule(lost: float, most: float, time: float) -> Rule:
    return Rule(doubts=[most], dice_lost=lost, dice_lost_interval=(-most, most), time=time)


def test_the_fastest_rule_that_may_not_lose_too_much_is_chosen() -> None:
    rules = [rule(0.0, 0.001, 0.9), rule(0.001, 0.003, 0.5), rule(0.002, 0.004, 0.6), rule(0.01, 0.02, 0.3)]
    assert choose_rule(rules, 0.4, "m", SizeNames.of_depths((1, 2))).time == 0.5
    assert choose_rule(rules, 0.1, "m", SizeNames.of_depths((1, 2))).time == 0.9
    assert choose_rule(rules, 5, "m", SizeNames.of_depths((1, 2))).time == 0.3
    with pytest.raises(
        UsageError, match=r"max_drop: got 0\.05 .* at least 0\.10.* or choose a `depth`, one of \[1, 2\]"
    ):
        choose_rule(rules, 0.05, "m", SizeNames.of_depths((1, 2)))
    for setting in ("depth", "size"):
        with pytest.raises(UsageError, match=f"{setting}: got auto.* Run `unetpp adapt m` once, which finds for each"):
            choose_rule([], 1, "m", SizeNames.of_depths((1, 2)), setting)


def make_rule(time: float, *tiles: int, most: float = 0.001) -> Rule:
    limits = [None if not any(tiles[:-1]) else 0.5] * (len(tiles) - 1)
    counts = dict(enumerate(tiles, start=1))
    return Rule(doubts=limits, dice_lost=0.0, dice_lost_interval=(0.0, most), tiles=counts, time=time)


def test_a_fixed_size_is_as_good_where_early_exit_saves_nothing_against_it() -> None:
    sizes, never = SizeNames.of_depths((1, 2, 3)), make_rule(1.0, 0, 0, 9)
    table, mixed = DepthTable(), make_rule(0.6, 5, 0, 4)

    def find(rule: Rule, recommended: int | None = None, table: DepthTable = table, **options: float) -> object:
        shares = {1: 1 / 3, 2: 2 / 3, 3: 1.0}
        return find_fixed(Fitted([never, rule], shares), sizes, table, recommended, **options)

    assert find(mixed) is None
    assert find(mixed, 2) is None  # 67 % of the time
    assert find(mixed, 1) == (
        1,
        'where 0.3 points of Dice may be lost, `depth="auto"` takes 60% of the time of depth 3, depth 1 alone 33%; '
        "depth 1 is recommended",
    )
    lost = 'where 0.3 points of Dice may be lost, `depth="auto"` takes depth'
    assert find(make_rule(0.6, 0, 9, 0)) == (2, f"{lost} 2 for every tile")
    bold = make_rule(0.6, 5, 0, 4, most=0.01)  # loses more than predictions allow by themselves
    assert find(bold) == (3, f"{lost} 3 for every tile")
    assert find(bold, max_drop=2) is None


def test_a_size_that_another_one_beats_is_not_suggested() -> None:
    sizes, never = SizeNames.of_depths((1, 2, 3)), make_rule(1.0, 0, 0, 9)
    shares = {1: 1 / 3, 2: 2 / 3, 3: 1.0}
    table = DepthTable(depths={depth: DepthRow(dice=dice) for depth, dice in ((1, 0.5), (2, 0.812), (3, 0.702))})
    for rule in (never, make_rule(0.6, 5, 0, 4)):
        assert find_fixed(Fitted([never, rule], shares), sizes, table, None) == (
            2,
            'depth 2 for every tile has a validation Dice of 0.812, `depth="auto"` of 0.702',
        )
    close = DepthTable(depths={depth: DepthRow(dice=dice) for depth, dice in ((1, 0.5), (2, 0.703), (3, 0.702))})
    assert find_fixed(Fitted([never, never], shares), sizes, close, None) == (
        2,
        'where 0.3 points of Dice may be lost, `depth="auto"` takes depth 3 for every tile; depth 2 has the best Dice',
    )


def test_more_tiles_at_a_larger_depth_take_longer() -> None:
    """Times are those of single tiles, combined: they rise with the depths that the tiles take."""
    costs = ExitCosts({(1,): 1.1, (1, 3): 4.2, (2,): 2.1, (2, 3): 4.3}, {1: 1.0, 2: 2.0, 3: 4.0})
    assert costs.shares() == {1: 0.25, 2: 0.5, 3: 1.0}
    assert costs.share((1, 3), {1: 5, 2: 0, 3: 5}) == pytest.approx((1.1 + 4.2) / 2 / 4)
    times = [costs.share((2, 3), {1: 0, 2: 10 - count, 3: count}) for count in range(11)]
    assert times == sorted(times) and times[-1] == pytest.approx(4.3 / 4)


def test_every_path_is_timed_and_what_paths_share_is_one_time(run: Path) -> None:
    predictor = unetpp.load(run, device="cpu", backend="torch")
    assert isinstance(predictor, Predictor)
    _, cases = find_stored_split(run / "fold_0" / "model.safetensors", predictor.plan.data)
    costs = time_exits(predictor, cases[0], [(1, 2), (1,), (2,)], repeats=2)
    assert set(costs.steps) == {(1,), (1, 2), (2,)} and set(costs.alone) == {1, 2}
    assert costs.steps[1,] < costs.steps[1, 2]


def test_rules_of_a_network_that_has_hardly_learned_are_refused(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    file = folder / "fold_0" / "model.safetensors"
    network, header = load_model(file)
    verdict = Verdict(kind="too short", reason="Too short.", advice="Train longer.", more_minutes=30, learned=False)
    save_model(file, network.state_dict(), header.plan, header.notes.merge(Notes(verdict=verdict)))
    command = f"unetpp train {run.parent / 'data'} --out {folder} --resume --minutes +30"
    for tokens, rest in (
        (("adapt", folder), " first."),
        (("prune", folder, "--out", tmp_path / "small.safetensors", "--max-drop", 1), ", or choose with --depth."),
    ):
        said = run_cli(*tokens)
        assert said.code == 2 and "a network that has hardly learned" in said.stderr
        assert f"Run `{command}`{rest}" in said.stderr
    assert not load_model(file)[1].notes.auto


def test_what_cannot_be_fitted_is_refused(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "model.safetensors"
    shutil.copy(run / "fold_0" / "model.safetensors", alone)
    with pytest.raises(UsageError, match="got 0 validation cases in the run folder; expected 3 or more"):
        adapt_file(alone)
    network, header = load_model(alone)
    save_model(alone, network.prune(1).state_dict(), plan_at_size(header.plan, 1))
    with pytest.raises(UsageError, match=r"got a network with one head.* it has depth 1 alone"):
        adapt_file(alone)


def test_a_run_of_too_few_cases_is_named_as_it_was_typed_with_the_depths_to_choose_from(
    trained: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    call_learned(folder / "fold_0" / "model.safetensors")
    said = run_cli("adapt", folder)
    assert said.code == 2
    assert f"unetpp: {folder}: got 2 validation cases in the run folder" in said.stderr
    assert "or give `unetpp predict` a --depth, one of [1, 2].\n" in said.stderr
