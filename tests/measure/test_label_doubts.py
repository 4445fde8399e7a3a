"""Labels that contradict a network which is sure are found, and nothing else."""

from __future__ import annotations

from unetpp.measure.label_doubts import MOST, find_label_doubts
from unetpp.measured import ScoredCase, Scores


def scored(id: str, dice: float | None, expected: float | None) -> tuple[int, ScoredCase]:
    return 0, ScoredCase(id=id, mean=Scores(dice=dice), expected_dice=expected)


def test_a_swapped_label_is_found_first() -> None:
    cases = [scored(str(number), 0.9 - number / 100, 0.9) for number in range(8)]
    cases += [scored("worse", 0.4, 0.85), scored("swapped", 0.1, 0.93), scored("hard", 0.3, 0.35)]
    found = find_label_doubts([*cases, scored("empty", None, 0.9), scored("unknown", 0.1, None)])
    assert [each.id for each in found] == ["swapped", "worse"]
    assert found[0].gap > found[1].gap


def test_where_little_can_be_expected_little_is_suspected() -> None:
    cases = [scored(str(number), 0.5 + (0.2 if number % 2 else -0.2), 0.5) for number in range(10)]
    assert find_label_doubts(cases) == [] and find_label_doubts([]) == []
    assert (
        len(find_label_doubts([scored(str(number), 0.0, 0.9 if number % 3 else 0.01) for number in range(90)])) <= MOST
    )
