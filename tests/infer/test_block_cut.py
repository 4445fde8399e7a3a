"""Cuts into chunks and blocks: every voxel in one block, every chunk within one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetpp.infer import block_cut
from unetpp.infer.block_cut import Cut, cut_labels, cut_layers
from unetpp.slabs import slabs


@settings(deadline=None)
@given(st.sampled_from((2, 3)), st.integers(0, 2), st.data())
def test_blocks_cover_everything_once(dims: int, more: int, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 3)] * more, *[st.integers(1, 700)] * dims))
    chunks = data.draw(st.tuples(*[st.integers(1, 2)] * more, *[st.integers(1, 900)] * dims))
    cut = cut_labels(shape, chunks, dims)
    low, high = block_cut.CHUNK[dims]
    for size, chunk, block in zip(shape[more:], cut.chunk[more:], cut.block[more:], strict=True):
        assert min(low, size) <= chunk <= min(high, size)
        assert block % chunk == 0
        assert block <= max(block_cut.BLOCK[dims], chunk)
    assert cut.chunk[:more] == cut.block[:more] == (1,) * more
    for axis, (size, block) in enumerate(zip(shape, cut.block, strict=True)):
        places = [[place if other == axis else 0 for other in range(len(shape))] for place in range(cut.counts[axis])]
        edges = [cut.area(int(np.ravel_multi_index(place, cut.counts)))[axis] for place in places]
        assert [edge.start for edge in edges] == list(range(0, size, block))
        assert edges[-1].stop == size
    assert len(cut) == np.prod(cut.counts)


def test_a_block_of_broken_chunks_is_no_block() -> None:
    with pytest.raises(ValueError, match="multiples of the chunks"):
        Cut((10, 10), (4, 4), (6, 8))
    cut = Cut((10, 10), (4, 4), (8, 8))
    assert cut.holds_whole((4, 8))
    assert not cut.holds_whole((16, 8))


@given(st.integers(1, 200), st.integers(1, 3 * 2**20), st.integers(1, 70))
def test_layers_hold_each_slab_once(rows: int, plane: int, chunk: int) -> None:
    layers = list(cut_layers(slabs((rows, plane)), chunk))
    assert [slab for layer in layers for slab in layer.slabs] == [slab[0] for slab in slabs((rows, plane))]
    assert [layer.number for layer in layers] == list(range(len(layers)))
    assert all(layer.rows.stop - layer.rows.start >= chunk for layer in layers[:-1])
