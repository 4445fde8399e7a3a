from __future__ import annotations

import hashlib

import numpy as np
import pytest

from unetpp import slabs
from unetpp.data.foreground import LOCATIONS_PER_CLASS, sample_positions


@pytest.mark.parametrize("ignored", [None, 255])
def test_positions_do_not_depend_on_slabs(ignored: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    label = np.array([0, 1, 2, 255], np.uint8)[rng.choice(4, (40, 50, 30), p=[0.5, 0.3, 0.001, 0.199])]
    monkeypatch.setattr(slabs, "SLAB_VALUES", 7 * 50 * 30)
    rows = sample_positions(label, "a", ignored)
    draw = np.random.default_rng(list(hashlib.sha256(b"a").digest()))
    for index in [0, 1, 2] if ignored else [1, 2, 255]:
        places = np.flatnonzero(label == index if index else label != ignored)
        if len(places) > LOCATIONS_PER_CLASS:
            places = np.sort(draw.choice(places, LOCATIONS_PER_CLASS, replace=False))
        own = rows[rows[:, 0] == index, 1:]
        assert np.array_equal(np.ravel_multi_index(tuple(own.T), label.shape), places)
    assert sorted(set(rows[:, 0])) == ([0, 1, 2] if ignored else [1, 2, 255])


def test_a_label_without_foreground_has_no_positions() -> None:
    assert sample_positions(np.zeros((4, 5), np.uint16), "a", None).shape == (0, 3)
