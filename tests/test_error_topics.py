"""The page of errors, the table behind it and the errors agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tiny import run_cli
from unetpp import errors
from unetpp.error_topics import TOPICS
from unetpp.errors import DataError, Problem, UnetppError, UsageError

SOURCE = Path(errors.__file__).parent
CLASSES = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, UnetppError)]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_a_section(kind: type[UnetppError]) -> None:
    assert kind.topic in TOPICS


def test_every_topic_in_the_code_has_a_section_and_every_section_is_used() -> None:
    texts = [path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py") if path.name != "error_topics.py"]
    quoted = {name for text in texts for name in re.findall(r'topic(?:: str)? = "([a-z-]+)"|topic="([a-z-]+)"', text)}
    named = {first or second for first, second in quoted}
    assert named <= TOPICS.keys()
    assert all(any(f'"{topic}"' in text for text in texts) for topic in TOPICS)


def test_a_problem_decides_and_the_class_otherwise() -> None:
    assert UsageError("depth", "a", "b").find_topic() == "usage"
    assert DataError(Problem("a", "b", "c", "d")).find_topic() == "data"
    assert DataError([Problem("a", "b", "c", "d"), Problem("a", "b", "c", "d", topic="grid")]).find_topic() == "grid"


def test_the_last_line_names_the_section(tmp_path: Path) -> None:
    answer = run_cli("info", tmp_path / "nothing.safetensors", "--json")
    assert answer.stderr.splitlines()[-1] == "See docs/errors.md#model-file"
    assert answer.json["error"]["topic"] == "model-file"
    assert "errors.md" not in run_cli("predict").stderr
