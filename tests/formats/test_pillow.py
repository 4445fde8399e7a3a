from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.data.images import RGB
from unetpp.formats import pillow
from unetpp.formats.sources import ArraySource
from unetpp.volume import Geometry


@given(st.integers(0, 6), st.integers(0, 12), st.integers(0, 9), st.integers(0, 12))
def test_any_block_is_what_numpy_cuts(top: int, bottom: int, left: int, right: int) -> None:
    slices = (slice(top, max(top, bottom)), slice(left, max(left, right)))
    whole = RGB.transpose(2, 0, 1)
    for source in (ArraySource(whole, Geometry()), pillow.PillowSource(Image.fromarray(RGB), Geometry())):
        np.testing.assert_array_equal(source.read(slices), whole[(slice(None), *slices)])
