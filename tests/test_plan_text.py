"""plan.json as people and editors see it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plans import small_plan
from unetpp.errors import PlanError
from unetpp.json_files import WIDTH, format_json
from unetpp.plan import Plan
from unetpp.plan_text import make_schema
from unetpp.settings import dotted_names

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=JSON)
def test_json_for_people_is_the_same_json(value: Any) -> None:
    assert json.loads(format_json(value)) == value


def test_lists_are_on_one_line_where_they_fit() -> None:
    assert format_json({"a": [[1, 2], [3]], "b": {}, "c": {"d": "x"}}) == (
        '{\n  "a": [[1, 2], [3]],\n  "b": {},\n  "c": {\n    "d": "x"\n  }\n}'
    )
    lines = format_json({"a": [list(range(40))] * 2}).splitlines()
    assert len(lines) > 80
    assert max(map(len, lines)) <= WIDTH


def test_each_reason_is_above_its_value_and_comes_back() -> None:
    plan = small_plan(dims=3).changed({"train.batch": "3", "train.augment.mirror": "false", "data.labels": "binary"})
    lines = [line.strip() for line in plan.to_json().splitlines()]
    assert lines[lines.index('"// batch": "set by the user",') + 1] == '"batch": 3,'
    assert lines[lines.index('"// mirror": "set by the user",') + 1] == '"mirror": false,'
    assert lines[lines.index('"// labels": "set by the user",') + 1] == '"labels": {'
    again = Plan.from_json(plan.to_json())
    assert (again, again.reasons) == (plan, plan.reasons)


def test_plans_with_and_without_schema_and_with_reasons_apart_are_read() -> None:
    plan = small_plan().changed({"train.batch": "3"})
    values = plan.model_dump(mode="json")
    assert Plan.from_dict(values) == plan
    assert Plan.from_dict({"$schema": "anything", **values}) == plan
    assert Plan.from_json(plan.model_dump_json()) == plan
    values["train"]["// seed"] = "my lucky number"
    assert Plan.from_dict(values).reasons == {**plan.reasons, "train.seed": "my lucky number"}


@pytest.mark.parametrize("reason", [3, None, {}])
def test_a_reason_that_is_no_text_is_named(reason: object) -> None:
    values = small_plan().model_dump(mode="json")
    values["train"]["// seed"] = reason
    with pytest.raises(PlanError, match=r"reasons\.train\.seed: got"):
        Plan.from_dict(values)
    with pytest.raises(PlanError, match="got"):
        Plan.from_dict(["no plan"])


def test_the_schema_explains_every_field_and_takes_the_plans_that_are_written() -> None:
    schema = make_schema(Plan)

    def resolve(part: Any) -> Any:
        return schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part

    for name in dotted_names(Plan):
        place = schema
        for key in name.split("."):
            place = resolve(place["properties"][key])
        assert place["description"], name
    jsonschema = pytest.importorskip("jsonschema")
    values = json.loads(small_plan().changed({"train.batch": "3"}).to_json())
    check = jsonschema.Draft202012Validator(schema)
    assert list(check.iter_errors(values)) == []
    assert list(check.iter_errors({**values, "data": {**values["data"], "labels": "binary:128"}})) == []
    for wrong in ({"train": {**values["train"], "batch": 0}}, {"bach": 1}, {"train": {**values["train"], "bach": 1}}):
        assert len(list(check.iter_errors({**values, **wrong}))) == 1
