"""Results in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unetpp.infer.calibration import describe_low
from unetpp.measured import Calibration, ClassScores, DepthRow, DepthTable, Recommendation, ScoredCase, Scores
from unetpp.model_notes import Metrics, Notes, Rule, Verdict
from unetpp.results import (
    LOW,
    NOTHING,
    WIDTH,
    Adapted,
    Predicted,
    Pruned,
    Run,
    TrainedFold,
    describe_depths,
    describe_scores,
    describe_worst,
)
from unetpp.results.models import _describe_early_exit


def row(**scores: Any) -> DepthRow:
    return DepthRow(**{"dice": 0.9, "iou": 0.8, "hd95_mm": 2.5, "hd95_undefined": 0, "nsd": 0.7, **scores})


def depths(*rows: DepthRow, **fields: Any) -> DepthTable:
    return DepthTable(depths=dict(enumerate(rows, start=1)), **fields)


def test_the_distance_has_its_unit() -> None:
    assert "HD95 pixel" in describe_scores(Metrics(mean=row(), distance_unit="pixel")).splitlines()[0]
    assert "HD95 mm" in describe_depths(depths(row(), row(), distance_unit="mm")).splitlines()[0]


def test_a_class_may_be_called_as_a_line_is() -> None:
    lines = describe_scores(Metrics(mean=row(dice=0.1), classes={"mean": ClassScores(dice=0.2)})).splitlines()
    assert [line.split()[1] for line in lines if line.split()[0] == "mean"] == ["0.1000", "0.2000"]


def test_it_is_told_where_a_distance_leaves_cases_out() -> None:
    """Of a class that is missed altogether there is no distance: the shallower depth looks better than it is."""
    shown = describe_depths(depths(row(hd95_mm=1.0, hd95_undefined=5), row())).splitlines()
    assert "no HD95" in shown[0]
    assert [line.split()[4] for line in shown[1:]] == ["5", "0"]
    assert "no HD95" not in describe_depths(depths(row(), row()))


def test_columns_without_any_number_are_left_out() -> None:
    rows = DepthRow(dice=0.9, parameters=25_538, peak_memory_mb=None), DepthRow(dice=None, parameters=128_434)
    shown = describe_depths(depths(*rows))
    *table, remark = shown.splitlines()
    assert [line.split() for line in table] == [
        ["depth", "Dice", "parameters"],
        ["1", "0.9000", "25,538"],
        ["2", "-", "128,434"],
    ]
    assert remark == "  parameters: of the network pruned to the depth"
    assert "parameters" not in describe_depths(depths(row(), row()))


def test_tables_fit_a_narrow_terminal() -> None:
    full = row(
        dice_lost=0.01,
        latency_ms=1234.5,
        peak_memory_mb=12345.6,
        energy_j=123.4,
        parameters=123_456_789,
        hd95_undefined=1,
    )
    shown = describe_depths(depths(full, full, distance_unit="pixel"))
    assert max(map(len, shown.splitlines())) <= 80
    assert {"Dice", "ms/tile", "parameters"} <= set(shown.split())
    assert "IoU" not in shown
    whole = describe_depths(depths(row(), row(), distance_unit="pixel"))
    assert "IoU" in whole
    assert "surface Dice" in whole
    scores = describe_scores(
        Metrics(mean=row(), classes={"a structure of a name as long as a sentence" * 2: ClassScores(dice=0.9)})
    )
    assert max(map(len, scores.splitlines())) <= 80


def sizes(*values: tuple[float, float], **scores: Any) -> dict[int, DepthRow]:
    """Rows of the sizes 1x8, 2x8, 1x16 and 2x16, of (Dice, milliseconds)."""
    names = [(1, 8), (2, 8), (1, 16), (2, 16)]
    return {
        number: row(dice=dice, latency_ms=ms, depth=depth, channels=channels, **scores)
        for number, ((depth, channels), (dice, ms)) in enumerate(zip(names, values, strict=True), 1)
    }


def test_sizes_are_named_and_those_that_another_one_beats_are_said() -> None:
    full = {"dice_lost": 0.01, "peak_memory_mb": 12345.6, "energy_j": 123.4, "parameters": 123_456_789}
    rows = sizes((0.8, 1), (0.9, 2), (0.85, 3), (0.92, 5), **full)
    recommended = Recommendation(depth=2, reason="good enough")
    shown = describe_depths(DepthTable(depths=rows, recommended=recommended, distance_unit="pixel")).splitlines()
    assert max(map(len, shown)) <= 80
    names = [line.strip().split("  ")[0] for line in shown if line.startswith("  ")]
    assert [name for name in names if "x" in name][:4] == ["small (1x8)", "medium (2x8)", "1x16 *", "large (2x16)"]
    assert "  sizes: small, 0.800 in 1.0 ms; medium, 0.900 in 2.0 ms; large, 0.920 in 5.0 ms" in shown
    assert "  * left out: 1x16, slower and worse than medium (2x8)" in shown
    assert shown[-1] == "  recommended: medium (2x8) (good enough)"


def test_the_dice_of_each_of_several_classes_stands_in_a_line_below_the_depth_table() -> None:
    def table(names: dict[str, float | None], recommended: int | None = None) -> list[str]:
        classes = {name: Scores(dice=dice) for name, dice in names.items()}
        rows = {1: row(classes={name: Scores(dice=0.1) for name in names}), 2: row(classes=classes)}
        chosen = {"recommended": Recommendation(depth=recommended, reason="enough")} if recommended else {}
        shown = describe_depths(DepthTable(depths=rows, **chosen)).splitlines()
        assert max(map(len, shown)) <= 80
        return shown

    two = {"anterior": 0.8714, "posterior": 0.85}
    assert "  Dice at depth 2: anterior 0.871, posterior 0.850" in table(two)
    assert "  Dice at depth 1: anterior 0.100, posterior 0.100" in table(two, recommended=1)
    assert not any("anterior" in line for line in table({"anterior": 0.9, "posterior": None}))
    many = {f"organ {n}": 0.9 - n / 100 for n in range(14)}
    (line,) = (line for line in table(many) if "organ" in line)
    assert line.startswith("  lowest Dice of 14 classes at depth 2: organ 13 0.770, organ 12 0.780")


def test_before_all_cases_are_scored_no_size_is_left_out() -> None:
    rows = sizes((0.8, 1), (0.9, 2), (0.85, 3), (0.92, 5))
    shown = describe_depths(DepthTable(depths=rows, scored=(1, 5)))
    assert "left out" not in shown and "no size is recommended" in shown
    assert "Dice (1 of 5)" in shown.splitlines()[0]
    assert "(" not in describe_depths(DepthTable(depths=rows, scored=(5, 5))).splitlines()[0]


def test_scores_of_some_of_the_cases_say_so_in_their_headings() -> None:
    rows = sizes((0.8, 1), (0.9, 2), (0.85, 3), (0.92, 5), dice_lost=0.1, peak_memory_mb=100.5, parameters=123_456)
    found = DepthTable(depths=rows, scored=(8, 8), surfaces_scored=(7, 8), distance_unit="pixel")
    assert describe_depths(found.merge(DepthTable(surfaces_scored=(8, 8)))).count("of 8") == 0
    shown = describe_depths(found).splitlines()
    assert max(map(len, shown)) <= 80 and any("parameters" in line for line in shown)
    assert [line.count("(7 of 8)") for line in shown[:3]] == [0, 0, 2]
    assert shown[1].split() == ["Dice", "pixel", "Dice", "memory"]


def test_while_a_network_is_trained_its_scores_are_called_so() -> None:
    table = {"depths": {1: row(), 2: row()}, "scored": (1, 8)}
    assert "1 of 8 validation cases scored during training" in describe_depths(Notes(**table, step=10))
    assert "1 of 8 validation cases scored after training" in describe_depths(Notes(**table))


def test_what_comes_next_names_the_recommended_size() -> None:
    rows = sizes((0.8, 1), (0.9, 2), (0.85, 3), (0.92, 5))
    metrics = Metrics(depths=rows, recommended=Recommendation(depth=2, reason="good enough"))
    fold = TrainedFold(0, "finished", 10, 60.0, 0.0, metrics)
    assert Run(Path("RUN"), (fold,), None, 60.0).to_text().endswith("--out predictions --size 2x8")


def test_what_comes_next_names_the_recommended_depth_of_a_single_fold() -> None:
    fold = TrainedFold(
        0,
        "finished",
        10,
        60.0,
        0.0,
        Metrics(depths={1: row(), 2: row()}, recommended=Recommendation(depth=1, reason="good enough")),
    )
    assert Run(Path("RUN"), (fold,), None, 60.0).to_text().endswith("--out predictions --depth 1")
    logged = Run(Path("RUN"), (fold,), None, 60.0, trackers=("tensorboard --logdir RUN/tensorboard",))
    assert "Curves: tensorboard --logdir RUN/tensorboard" in logged.to_text().split("\n")
    several = Run(Path("RUN"), (fold, fold), None, 60.0, Metrics())
    assert several.to_text().endswith("unetpp predict RUN new_images --out predictions")


def test_the_end_of_a_training_says_how_it_stands_and_which_cases_are_worst() -> None:
    cases = [ScoredCase(id=f"c{n}", mean=Scores(dice=n / 10), classes={"a": Scores(dice=0.9)}) for n in range(8)]
    metrics = Metrics(depths={1: row(), 2: row()}, cases=cases, recommended=Recommendation(depth=1, reason="enough"))
    folds = tuple(TrainedFold(n, "finished", 10, 60.0, 0.0, metrics) for n in range(2))
    verdict = Verdict(kind="too short", reason="Too short.", advice="Train longer.", learned=False)
    run = Run(Path("a run"), folds, None, 60.0, metrics, verdict, "unetpp train DATA --resume")
    lines = run.to_text().splitlines()
    assert "all 2 folds, 8 validation cases:" in lines
    place = next(n for n, line in enumerate(lines) if "worst cases" in line)
    assert [line.split() for line in lines[place + 1 : place + 5]] == [[f"c{n}", f"{n / 10:.4f}"] for n in range(4)]
    assert "c4" not in run.to_text()  # half of the cases at most, and those below the mean
    assert lines[-3:] == [
        "Too short. Train longer.",
        "Next: unetpp train DATA --resume",
        "or: unetpp predict 'a run' new_images --out predictions --depth 1",
    ]


def test_of_several_classes_the_worst_is_named() -> None:
    classes = {"a": Scores(dice=0.9), "b": Scores(dice=0.2)}
    cases = [ScoredCase(id=f"c{n}", mean=Scores(dice=0.55 + n / 10), classes=classes) for n in range(2)]
    found = Metrics(cases=cases, classes={"a": ClassScores(), "b": ClassScores()})
    assert describe_worst(found)[0].splitlines()[1].split() == ["c0", "0.5500", "b", "0.2000"]
    assert len(describe_worst(found)[0].splitlines()) == 2  # not both of two
    assert describe_worst(Metrics(cases=cases[:1])) == describe_worst(Metrics(cases=cases[:1] * 4)) == []


def test_a_network_that_stays_whole_is_said_to() -> None:
    text = Pruned(Path("m"), 4, 100, 110, "because", 0.0, is_whole=True).to_text()
    assert text.startswith("Nothing could be pruned: m holds the whole network, 100 parameters.")


def test_a_pruned_network_is_said_to_give_the_output_of_its_depth_and_what_is_known_of_its_training() -> None:
    lines = Pruned(Path("m"), 2, 30, 110, "because", 0.0, verdicts=("too short",)).to_text().split("\n")
    assert lines[0] == "m: 30 parameters, 27% of 110; its output is that of depth 2 in the full network."
    assert lines[2] == "note: too short"


def test_what_early_exit_gains_or_loses_has_a_sign() -> None:
    rules = (
        Rule(doubts=(None, None), dice_lost=0.0, dice_lost_interval=(0.0, 0.0), tiles={1: 0, 2: 0, 4: 8}, time=1.0),
        Rule(doubts=(0.5, 100), dice_lost=-0.1412, dice_lost_interval=(-0.2, 0.01), tiles={1: 2, 2: 6, 4: 0}, time=0.4),
    )
    text = Adapted(Path("m"), rules, {1: 1, 2: 2, 4: 4}, verdicts=("too short",)).to_text()
    assert text.startswith("m: 1 rule for early exit") and "note: too short" in text.split("\n")
    assert "Next: unetpp predict m new_images --out predictions --depth auto" in text
    assert "-0.0000" not in text and "+0.1412" in text and "-0.0100" in text
    assert all(len(line) <= WIDTH for line in text.split("\n") if "unetpp predict" not in line), text


def test_a_fixed_size_is_suggested_where_it_is_as_good_as_early_exit() -> None:
    never = Rule(doubts=(None,), dice_lost=0.0, tiles={1: 0, 2: 8}, time=1.0)
    text = Adapted(Path("m"), (never,), {1: "4x8", 2: "4x16"}, Path("RUN"), fixed=2, why="because").to_text()
    assert text.split("\n") == [
        "m: early exit saves no time on the validation cases.",
        "A fixed size is enough: because.",
        "Next: unetpp predict RUN new_images --out predictions --size 4x16",
    ]


DEFAULT_RULE = "; where 0.3 points may be lost, depth 1 for every tile"


@pytest.mark.parametrize(
    ("worst", "tiles", "text"),
    [
        (
            0.002,
            {1: 8, 2: 0},
            "at worst 0.20 points of Dice lost; where 0.3 points may be lost, depth 1 for every tile",
        ),
        (-0.042, {1: 4, 2: 4}, "at worst 4.20 points of Dice gained"),
    ],
)
def test_rules_of_early_exit_are_summed_up_in_a_sentence(worst: float, tiles: dict[int, int], text: str) -> None:
    never = Rule(doubts=(None,), dice_lost=0.0, tiles={1: 0, 2: 8}, time=1.0)
    rule = Rule(doubts=(100.0,), dice_lost=worst, dice_lost_interval=(worst, worst), tiles=tiles, time=0.5)
    assert _describe_early_exit(Notes(auto=(never, rule))) == f'1 rule (`depth="auto"`), 50% of the time, {text}'


def test_predictions_are_counted_by_image_and_each_is_named_once() -> None:
    out = Path("out")
    files = tuple(out / f"depth_{depth}" / f"{name}.png" for name in "ab" for depth in (1, 2))
    doubtful = {files[0]: LOW, files[1]: LOW, files[3]: NOTHING}
    expected = {path: 0.8 if "depth_1" in str(path) else 0.9 for path in files[:3]}
    error = dict.fromkeys(files, 0.05)
    text = Predicted(
        out, (1, 2), files, (), 2.0, doubtful=doubtful, expected_dice=expected, expected_dice_error=error
    ).to_text()
    assert text.splitlines() == [
        "2 images segmented at 2 depths, in out, in 2.0 s",
        "expected Dice at depth 1: 0.800 on average, 0.800 to 0.800, off by 0.050 on average",
        "expected Dice at depth 2: 0.900 on average, off by 0.050 on average",
        "1 to review, with a lower expected Dice than nine in ten validation cases:",
        "  a.png (depth 1, 2)",
        "1 to review, in which nothing was found:",
        "  b.png (depth 2)",
    ]


def test_a_low_dice_by_few_cases_is_said_to_be_of_few_in_a_line() -> None:
    why = describe_low(Calibration(calibrated_cases=8))
    text = Predicted(Path("out"), (1,), (Path("out/a.png"),), (), 2.0, doubtful={Path("out/a.png"): why}).to_text()
    line = "1 to review, low expected Dice, below all 8 validation cases (by chance 1 in 9):"
    assert line in text.splitlines() and len(line) <= WIDTH


def test_early_exit_says_which_depths_its_tiles_took() -> None:
    found = Predicted(Path("out"), ("auto",), (Path("out/p/a.png"),), (), 2.0, depth_shares={1: 0.75, 3: 0.25})
    assert "depth of the tiles: 75% at 1, 25% at 3" in found.to_text()
    assert found.to_dict()["depth_shares"] == {"1": 0.75, "3": 0.25}


def test_a_file_that_is_named_in_json_is_a_key() -> None:
    found = Predicted(Path("out"), (1,), (Path("out/a.png"),), (), 2.0, doubtful={Path("out/a.png"): LOW})
    assert found.to_dict()["doubtful"] == {"out/a.png": LOW}
