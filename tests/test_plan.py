from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plans import small_plan
from unetpp.errors import PlanError
from unetpp.plan import AugmentPlan, LabelPlan, Plan, read_plan
from unetpp.settings import ELSEWHERE, dotted_names, parse_settings
from unetpp.words import find_value


def test_a_plan_survives_its_json() -> None:
    plan = small_plan(dims=3, channels=3, classes=4)
    assert Plan.from_json(plan.to_json()) == plan


@given(scale=st.floats(0, 0.99), gamma=st.floats(0, 0.99), rotate=st.floats(0, 180), mirror=st.booleans())
def test_numbers_survive_exactly(scale: float, gamma: float, rotate: float, mirror: bool) -> None:
    augment = AugmentPlan(scale=scale, gamma=gamma, rotate_degrees=rotate, mirror=mirror)
    assert AugmentPlan.model_validate_json(augment.model_dump_json()) == augment


def test_settings_change_values_and_say_so() -> None:
    plan = small_plan().changed(
        {"train.batch": "7", "model.topology": "unet", "train.augment.mirror": "false", "train.patch": "[32, 48]"}
    )
    assert (plan.train.batch, plan.model.topology, plan.train.augment.mirror, plan.train.patch) == (
        7,
        "unet",
        False,
        (32, 48),
    )
    assert plan.reasons["train.batch"] == "set by the user"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train.batchsize": "7"}, "Did you mean train.batch"),
        ({"train.batch": "0"}, "train.batch: got 0"),
        ({"train.batch": "many"}, "train.batch: got 'many'"),
        ({"train.patch": "[16]"}, "train.patch"),
        ({"model.depth": "3"}, "model.widths"),
        ({"model.in_channels": "2"}, "data.channels"),
        ({"data.label_values": "[1, 1]"}, "values that differ"),
        ({"data.classes": '["a", "a"]'}, "names that differ"),
        ({"predict.depth": "9"}, "1 to model.depth 2"),
        ({"model": "{}"}, "unknown key"),
        ({"train.patch": "128"}, "2 numbers"),
        ({"train.patch": "128"}, "got [128]"),
        ({"predict.size": "9x9"}, "got 9x9"),
        ({"train.freeze_encoder": "0.5"}, "got 0.5 and 1;"),
        ({"train.patch": str([1] * 99)}, "1 ... 1"),
        ({"train.batch": "2.5"}, "train.batch: got 2.5"),
        ({"model.depth": "deep"}, "model.depth: got 'deep'"),
        ({"model.strides": "2"}, "model.strides: got 2"),
        ({"train.precision": "bf8"}, "train.precision: got 'bf8'"),
        ({"model.topology": "unet", "predict.depth": "1"}, "the only head"),
        ({"model.deep_supervision": "false", "predict.depth": "1"}, "the only head"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(PlanError, match=message.replace("[", r"\[")):
        small_plan().changed(settings)


def test_unknown_keys_in_a_file_are_refused_with_the_file_named(tmp_path: Path) -> None:
    values = json.loads(small_plan().to_json())
    values["train"]["bacth"] = 3
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(values))
    with pytest.raises(PlanError, match=r"plan.json: train.bacth: got an unknown key.*Did you mean train.batch"):
        read_plan(path)


@pytest.mark.parametrize("text", ["", "[]", "null", "3", "{", '{"version": 7}', '{"version": 1}'])
def test_files_that_are_no_plans_are_refused(text: str) -> None:
    with pytest.raises(PlanError):
        Plan.from_json(text)


def test_every_leaf_has_a_dotted_name() -> None:
    names = dotted_names(Plan)
    assert {"train.augment.scale", "model.widths", "data.spacing_mm", "name"} <= set(names)
    assert "train.augment" not in names


FLOATS = [name for name in dotted_names(Plan) if isinstance(find_value(small_plan().model_dump(), name), float)]


@pytest.mark.parametrize("value", ["Infinity", "NaN", "-Infinity", "1e999", float("inf")])
@pytest.mark.parametrize("name", FLOATS)
def test_numbers_that_json_cannot_hold_are_refused(name: str, value: object) -> None:
    with pytest.raises(PlanError, match=name):
        small_plan().changed({name: value})


@pytest.mark.parametrize(("name", "value"), [("train.seed", 10**20), ("train.seed", 1.5), ("train.batch", 10**12)])
def test_numbers_without_bounds_are_refused(name: str, value: object) -> None:
    with pytest.raises(PlanError, match=name):
        small_plan().changed({name: value})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("classes", LabelPlan()),
        ("binary", LabelPlan(kind="binary")),
        ("binary:0.5", LabelPlan(kind="binary", cut=0.5)),
        ("objects,ignore:255", LabelPlan(kind="objects", ignore=255)),
        ("ignore:-1", LabelPlan(ignore=-1)),
        ("classes,inverted", LabelPlan(inverted=True)),
        ("colors", LabelPlan(kind="colors")),
        (
            "colors:background=#000000, left kidney=#ff0080, ignore:#e0e0c0",
            LabelPlan(
                kind="colors",
                colors=((0, 0, 0), (255, 0, 128)),
                names=("background", "left kidney"),
                ignore=0xE0E0C0,
            ),
        ),
    ],
)
def test_the_meaning_of_labels_is_set_by_a_text(text: str, expected: LabelPlan) -> None:
    assert LabelPlan.model_validate(text) == expected
    assert LabelPlan.model_validate(expected.to_text()) == expected
    (values,) = parse_settings(Plan, {"data.labels": text}).values()
    assert LabelPlan.model_validate(values) == expected
    assert small_plan().changed({"data.labels": text}).data.labels == expected


@pytest.mark.parametrize("text", ["masks", "binary:half", "classes:3", "colors:a=#12", "colors:a=#000000", "ignore:x"])
def test_a_wrong_meaning_of_labels_names_what_is_expected(text: str) -> None:
    with pytest.raises(PlanError, match=r"data\.labels"):
        parse_settings(Plan, {"data.labels": text})


def test_plans_from_before_the_meaning_of_labels_are_read() -> None:
    values = json.loads(small_plan().to_json())
    del values["data"]["labels"]
    values["data"]["instances"] = True
    assert Plan.from_dict(values).data.labels == LabelPlan(kind="objects")
    values["data"]["instances"] = False
    assert Plan.from_dict(values).data.labels == LabelPlan()


@pytest.mark.parametrize(
    ("key", "own"),
    [
        ("classes", "data.classes"),
        ("model.num_classes", "model.out_channels"),
        ("encoder_name", "model.encoder"),
        ("batch_size", "train.batch"),
        ("train.lr", "train.learning_rate"),
        ("spacing", "data.spacing_mm"),
        ("patience", "train.patience"),
    ],
)
def test_the_names_of_other_libraries_are_known(key: str, own: str) -> None:
    with pytest.raises(PlanError, match=rf'"{key}" is `{own}` here'):
        parse_settings(Plan, {key: 1})


def test_every_name_that_is_suggested_exists() -> None:
    assert {own if "." in own else f"model.{own}" for own in ELSEWHERE} <= set(dotted_names(Plan))
    words = [word for others in ELSEWHERE.values() for word in others.split()]
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("data.classes", "background,nucleus", ["background", "nucleus"]),
        ("data.classes", "[background, nucleus]", ["background", "nucleus"]),
        ("data.classes", '["a", "b"]', ["a", "b"]),
        ("train.patch", "64,96", [64, 96]),
        ("train.head_weights", "equal", "equal"),
        ("data.axes", "CYX", "CYX"),
        ("data.channels", "CT", ["CT"]),
        ("train.growth", "0.5", [0.5]),
    ],
)
def test_settings_as_people_write_them(key: str, text: str, value: object) -> None:
    assert parse_settings(Plan, {key: text}) == {key: value}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train.patch", "big", "got 'big'; expected a list, such as a,b"),
        ("train.patch", [16, "a"], "a whole number"),
        ("data.normalization", ["x"], 'such as {"a":1}'),
        ("train.batch", "0", "got 0; expected 1 or more"),
        ("train.learning_rate", "-1", "expected a number above 0"),
        ("train.compile", "maybe", "true or false"),
        ("train.minutes", "soon", "expected a number. Change it."),
    ],
)
def test_what_settings_expect_is_said_in_plain_words(key: str, value: object, words: str) -> None:
    with pytest.raises(PlanError, match=re.escape(words)):
        parse_settings(Plan, {key: value})
