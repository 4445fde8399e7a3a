"""Images of OME-Zarr stores: blocks, channels, time points, planes; and what is broken."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.zarr_images import write_image
from unetpp.errors import DataError
from unetpp.formats.zarr_image import open_zarr_image

pytest.importorskip("zarr", reason="the extra cluster is not installed")
pytest.importorskip("obstore", reason="the extra cluster is not installed")
SIZES = {"t": 2, "c": 3, "z": 5, "y": 20, "x": 24}


def make(place: Path, order: str, version: str = "0.5", dtype: Any = np.uint16, **more: Any) -> np.ndarray:
    shape = tuple(SIZES[name] for name in order)
    array = np.random.default_rng(0).integers(0, 1000, shape).astype(dtype)
    write_image(place, array, order, tuple(min(size, 8) for size in shape), version, **more)
    return array


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("order", ["yx", "cyx", "tczyx", "zyx"])
def test_blocks_are_those_of_the_array(tmp_path: Path, order: str, version: str) -> None:
    array = make(tmp_path / "in.zarr", order, version)
    full = array[tuple(slice(None) if name in order else None for name in "tczyx")]
    image = open_zarr_image(tmp_path / "in.zarr")
    assert [image.size(name) for name in "tczyx"] == list(full.shape)
    channels, time = ((2, 0), 1) if order == "tczyx" else (tuple(range(image.size("c"))), 0)
    source = image.source(channels, time)
    area = (slice(1, 4), slice(3, 17), slice(0, 24))[-len(source.shape[1:]) :]
    expected = full[time][list(channels)]
    block = expected[(slice(None), *area)] if len(area) == 3 else expected[:, 0][(slice(None), *area)]
    assert source.shape == (len(channels), *array.shape[-len(area) :])
    assert np.array_equal(source.read(area), block)
    if "z" in order:
        plane = image.source(channels, time, plane=3)
        assert np.array_equal(plane.read(area[1:]), expected[:, 3][(slice(None), *area[1:])])
        assert plane.geometry.spacing_mm == (0.0005, 0.0005)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 2), min_size=1, max_size=4), st.data())
def test_any_channels_in_any_order(tmp_path: Path, channels: list[int], data: st.DataObject) -> None:
    place = tmp_path / "in.zarr"
    if not place.exists():
        make(place, "cyx")
    array = np.random.default_rng(0).integers(0, 1000, (3, 20, 24)).astype(np.uint16)
    start, stop = sorted((data.draw(st.integers(0, 19)), data.draw(st.integers(1, 20))))
    area = (slice(start, stop + 1), slice(2, 9))
    assert np.array_equal(open_zarr_image(place).source(channels).read(area), array[channels][(slice(None), *area)])


def test_numbers_of_any_byte_order_become_native(tmp_path: Path) -> None:
    make(tmp_path / "in.zarr", "yx", "0.4", dtype=">f4")
    source = open_zarr_image(tmp_path / "in.zarr").source((0,))
    assert source.dtype == source.read((slice(0, 2), slice(0, 2))).dtype == np.dtype("float32")
    assert source.dtype.isnative


def test_an_image_is_told_from_another(tmp_path: Path) -> None:
    make(tmp_path / "a.zarr", "cyx")
    make(tmp_path / "b.zarr", "cyx")
    first = open_zarr_image(tmp_path / "a.zarr").identify()
    assert first == open_zarr_image(tmp_path / "b.zarr").identify()
    import zarr

    zarr.open_array(str(tmp_path / "b.zarr"), path="s0")[1, 10, 12] = 9999
    assert first != open_zarr_image(tmp_path / "b.zarr").identify()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_broken_chunk_is_named(tmp_path: Path, version: str) -> None:
    make(tmp_path / "in.zarr", "zyx", version)
    chunk = tmp_path / "in.zarr" / "s0" / ("c/0/1/2" if version == "0.5" else "0/1/2")
    chunk.write_bytes(b"no chunk at all")
    source = open_zarr_image(tmp_path / "in.zarr").source((0,))
    assert source.read((slice(0, 5), slice(0, 8), slice(0, 24))).shape == (1, 5, 8, 24)
    with pytest.raises(DataError, match=r"0/1/2: got a chunk that cannot be decoded"):
        source.read((slice(0, 5), slice(0, 20), slice(0, 24)))


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(DataError, match="no Zarr group"):
        open_zarr_image(tmp_path / "empty.zarr")
    make(tmp_path / "in.zarr", "zyx")
    with pytest.raises(DataError, match=r"no Zarr group|without the metadata"):
        open_zarr_image(tmp_path / "in.zarr" / "s0")
    (tmp_path / "in.zarr" / "zarr.json").write_text("{")
    with pytest.raises(DataError, match=r"zarr.json: got no JSON object"):
        open_zarr_image(tmp_path / "in.zarr")


def test_arrays_that_do_not_fit_their_axes_are_refused(tmp_path: Path) -> None:
    import zarr

    make(tmp_path / "in.zarr", "zyx")
    zarr.create_array(str(tmp_path / "in.zarr"), name="s1", shape=(4, 4), dtype="uint8", overwrite=True)
    with pytest.raises(DataError, match="an array s1 of 2 axes"):
        open_zarr_image(tmp_path / "in.zarr")


def test_an_image_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    for size, chunk in ((20, 8), (36, 5)):
        array = np.random.default_rng(size).integers(0, 255, (size, size)).astype(np.uint8)
        shutil.rmtree(tmp_path / "in.zarr", ignore_errors=True)
        write_image(tmp_path / "in.zarr", array, "yx", (chunk, chunk))
        found = open_zarr_image(tmp_path / "in.zarr").source((0,))
        assert found.shape == (1, size, size)
        assert np.array_equal(found.read((slice(0, size),) * 2)[0], array)
