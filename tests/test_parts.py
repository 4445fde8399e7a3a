from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpp.errors import UsageError
from unetpp.parts import Part


@given(units=st.lists(st.integers()), count=st.integers(1, 9))
def test_shares_of_all_parts_meet_in_all_units(units: list[int], count: int) -> None:
    shares = [Part(index, count).choose(units) for index in range(1, count + 1)]
    assert sorted(unit for share in shares for unit in share) == sorted(units)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_text_and_back() -> None:
    assert Part.parse("2/8") == Part(2, 8)
    assert str(Part.parse("02/8")) == "2/8"
    assert Part.parse(None).is_whole and Part.parse("1/1").is_whole


@pytest.mark.parametrize(
    "text", ["", "0/8", "9/8", "2", "2/", "2/8/3", "-1/8", "1/0", "a/b", "1.0/2", "٢/٨", "1/10000000000"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"part: got .*such as 2/8"):
        Part.parse(text)
