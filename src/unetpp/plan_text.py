"""The text of plan.json: each reason above its value, short lists on one line, and a schema for editors.

"train": {
  "// patch": "the typical case of 24 x 48 x 48 fits whole",
  "patch": [24, 48, 48],
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from unetpp.json_files import format_json

SCHEMA_FILE = "plan.schema.json"
"""Name of the schema, beside plan.json; editors complete and explain fields with it."""
_LINK = {"$schema": f"./{SCHEMA_FILE}"}
_MARK = "// "


def write_plan_text(values: dict[str, Any]) -> str:
    """Write a plan, as a dictionary, as the text of plan.json."""
    reasons = values["reasons"]
    rest = {key: value for key, value in values.items() if key != "reasons"}
    return format_json(_LINK | _add_reasons(rest, reasons, "")) + "\n"


def _add_reasons(section: dict[str, Any], reasons: dict[str, str], prefix: str) -> dict[str, Any]:
    commented: dict[str, Any] = {}
    for key, value in section.items():
        name = f"{prefix}{key}"
        if name in reasons:
            commented[_MARK + key] = reasons[name]
        commented[key] = _add_reasons(value, reasons, f"{name}.") if isinstance(value, dict) else value
    return commented


def read_plan_text(values: Any) -> Any:
    """Turn what plan.json holds into a plan as a dictionary: reasons apart, without the name of the schema."""
    if not isinstance(values, dict):
        return values
    found = dict(_find_reasons(values, ""))
    plain = _without_reasons({key: value for key, value in values.items() if key != "$schema"})
    if found:
        given = plain.get("reasons", {})
        plain["reasons"] = {**given, **found} if isinstance(given, dict) else given
    return plain


def _find_reasons(section: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if key.startswith(_MARK):
            yield prefix + key.removeprefix(_MARK), value
        elif isinstance(value, dict):
            yield from _find_reasons(value, f"{prefix}{key}.")


def _without_reasons(section: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_reasons(value) if isinstance(value, dict) else value
        for key, value in section.items()
        if not key.startswith(_MARK)
    }


def make_schema(cls: type[BaseModel]) -> dict[str, Any]:
    """Make the JSON schema of plan.json, with the text of each field.

    Args:
        cls: the class of the plan.
    """
    schema = _without_titles(cls.model_json_schema())
    schema["properties"]["$schema"] = {"type": "string"}
    for section in (schema, *schema["$defs"].values()):
        if "properties" in section:
            section["patternProperties"] = {f"^{_MARK}": {"type": "string", "description": "Reason of a value."}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "plan.json of unetpp", **schema}


def _without_titles(schema: Any) -> Any:
    """Remove the titles that pydantic makes of names, where they say nothing more."""
    if isinstance(schema, list):
        return [_without_titles(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_titles(value) for key, value in schema.items() if not (key == "title" and isinstance(value, str))
    }
