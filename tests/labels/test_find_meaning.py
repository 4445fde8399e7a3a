"""What the values of label files mean: every kind that users have, and any mask through any way of saving it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from unetpp.errors import DataError
from unetpp.labels.classes import ignored_index
from unetpp.labels.counts import count_classes
from unetpp.labels.encoding import cut_at_half, encode_label
from unetpp.labels.facts import measure_label
from unetpp.labels.find_meaning import find_meaning
from unetpp.labels.meaning import Declared, Meaning
from unetpp.plan import LabelPlan
from unetpp.volume import Geometry, Segment, Volume

SHAPE = (48, 64)


def volume(array: np.ndarray, suffix: str = ".png", **seen: object) -> Volume:
    """Make the label of a 2D array, of colors (Y, X, 3), or of channels that come first."""
    channels = np.moveaxis(array, -1, 0) if array.ndim == 3 and array.shape[-1] == 3 else array[None]
    return Volume(channels, Geometry(suffix), **seen)  # type: ignore[arg-type]


def blobs(seed: int, count: int = 3) -> np.ndarray:
    """Make discs, numbered from 1; later ones cover earlier ones."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(SHAPE)
    found = np.zeros(SHAPE, np.uint8)
    for number in range(1, count + 1):
        y, x, radius = rng.uniform(8, 40), rng.uniform(8, 56), rng.uniform(5, 8)
        found[np.hypot(rows - y, columns - x) < radius] = number
    return found


def apart(count: int, seed: int) -> np.ndarray:
    """Make `count` squares of 5 x 5 that do not touch, numbered in a random order."""
    places = [(row, column) for row in range(2, 42, 9) for column in range(2, 58, 9)]
    rng = np.random.default_rng(seed)
    found = np.zeros(SHAPE, np.uint16)
    for number, place in enumerate(rng.permutation(len(places))[:count], start=1):
        row, column = places[place]
        found[row : row + 5, column : column + 5] = number
    return found


def masks() -> list[np.ndarray]:
    return [blobs(seed) > 0 for seed in range(4)]


def decide(labels: Sequence[Volume], ending: str = ".png", medical: bool = False, **known: object) -> Meaning:
    files = {f"{number}{ending}": measure_label(label, medical) for number, label in enumerate(labels)}
    found = find_meaning(files, Declared("data", **known))  # type: ignore[arg-type]
    if not found.problems:
        for label, (name, facts) in zip(labels, files.items(), strict=True):
            indices = encode_label(label, found.classes, found.plan, name)
            counted = np.bincount(indices[indices < 250].reshape(-1), minlength=len(found.classes.names))
            assert count_classes(facts, found) == counted.tolist()
    return found


def encode(labels: Sequence[Volume], found: Meaning) -> list[np.ndarray]:
    assert not found.problems, found.problems
    return [encode_label(label, found.classes, found.plan, "file") for label in labels]


def only_problem(found: Meaning) -> str:
    (problem,) = found.problems
    return str(problem)


def jpeg(mask: np.ndarray, quality: int = 75) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def webp(mask: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert("RGB").save(stream, "WEBP", quality=70)
    return np.asarray(Image.open(stream))


def halve(mask: np.ndarray) -> np.ndarray:
    return np.rint(255 * mask.reshape(SHAPE[0] // 2, 2, SHAPE[1] // 2, 2).mean(axis=(1, 3))).astype(np.uint8)


def resize(mask: np.ndarray, factor: float) -> np.ndarray:
    size = (round(SHAPE[1] * factor), round(SHAPE[0] * factor))
    return np.asarray(Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR))


def assert_same_within_outline(found: np.ndarray, mask: np.ndarray, width: int = 2) -> None:
    if found.shape != mask.shape:
        mask = np.asarray(Image.fromarray(mask).resize(found.shape[::-1], Image.Resampling.NEAREST))
    inside, outside = ndimage.binary_erosion(mask, iterations=width), ndimage.binary_dilation(mask, iterations=width)
    assert found[inside].all() and not found[~outside].any()


BLACK_WHITE = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
WAYS: dict[str, Callable[[np.ndarray, int], Volume]] = {
    "clean": lambda mask, number: volume(mask.astype(np.uint8) * 255),
    "jpeg": lambda mask, number: volume(jpeg(mask, 40 + 15 * (number % 5))),
    "webp": lambda mask, number: volume(webp(mask)),
    "halved": lambda mask, number: volume(halve(mask)),
    "resized": lambda mask, number: volume(resize(mask, 0.8)),
    "enlarged": lambda mask, number: volume(resize(mask, 2.3)),
    "16 bits": lambda mask, number: volume(mask.astype(np.uint16) * 65535),
    "fractions": lambda mask, number: volume(halve(mask).astype(np.float32) / 255),
    "palette, white last": lambda mask, number: volume(mask.astype(np.uint8), palette=BLACK_WHITE),
    "palette, white first": lambda mask, number: volume((~mask).astype(np.uint8), palette=BLACK_WHITE[::-1]),
    "transparent": lambda mask, number: volume(
        np.full((*SHAPE, 3), 255, np.uint8), alpha=np.where(mask, 255, 0).astype(np.uint8)
    ),
    "drawn in black": lambda mask, number: volume(
        np.zeros(SHAPE, np.uint8), alpha=np.where(mask, 255, 0).astype(np.uint8)
    ),
    "red on black": lambda mask, number: volume(mask[..., None] * np.array([255, 0, 0], np.uint8)),
    "white is 0": lambda mask, number: volume(np.where(mask, 0, 255).astype(np.uint8), is_inverted=True),
    "254": lambda mask, number: volume(mask.astype(np.uint8) * 254),
    "0 and 1": lambda mask, number: volume(mask.astype(np.uint8)),
}
MIXED = ["clean", "jpeg", "16 bits", "254", "0 and 1", "transparent", "white is 0", "fractions", "halved"]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), way=st.sampled_from([*WAYS]), other=st.sampled_from(MIXED), share=st.integers(0, 2))
def test_any_mask_comes_out_as_that_mask_or_is_refused(seed: int, way: str, other: str, share: int) -> None:
    """`share` of the four files are saved in the other way."""
    drawn = [blobs(seed + number) > 0 for number in range(4)]
    ways = [other if number < share and way in MIXED else way for number in range(4)]
    labels = [WAYS[name](mask, number) for number, (name, mask) in enumerate(zip(ways, drawn, strict=True))]
    found = decide(labels)
    if share == 0 and way != "webp":  # whose noise reaches further than that of JPEG
        assert not found.problems, found.problems
    if not found.problems:
        assert found.classes.names == ("background", "foreground")
        for indices, mask in zip(encode(labels, found), drawn, strict=True):
            assert_same_within_outline(indices > 0, mask)


@pytest.mark.parametrize(
    ("way", "line"),
    [
        ("jpeg", "binary, cut at 128: gray values between 0 and 255 along outlines in 4 of 4 files"),
        ("fractions", "binary, cut at 0.5: gray values between 0 and 1 along outlines in 4 of 4 files"),
        ("transparent", "background 0, foreground 255; the transparency is the mask in 4 of 4 files"),
        ("white is 0", "background 0, foreground 255; inverted where the header says that 0 is white (4 of 4 files)"),
        ("palette, white first", "binary, cut at 128: palettes of black and white, by brightness"),
    ],
)
def test_the_meaning_and_its_reason_are_one_line(way: str, line: str) -> None:
    assert decide([WAYS[way](mask, 0) for mask in masks()]).line == line


def test_jpeg_is_named() -> None:
    assert decide([volume(jpeg(mask)) for mask in masks()], ".jpg").line.endswith("(JPEG)")


def test_numbers_of_quality_100_are_no_classes() -> None:
    labels = []
    for mask in masks():
        noisy = np.where(mask, 255, 0).astype(np.uint8)
        edge = ndimage.binary_dilation(mask) & ~mask
        rim = mask & ~ndimage.binary_erosion(mask)
        noisy[edge & (np.indices(SHAPE).sum(axis=0) % 3 == 0)] = 1
        noisy[rim & (np.indices(SHAPE).sum(axis=0) % 3 == 0)] = 254
        labels.append(volume(noisy))
    found = decide(labels)
    assert (found.plan.kind, found.plan.cut) == ("binary", 128)
    np.testing.assert_array_equal(np.stack(encode(labels, found)), masks())


@pytest.mark.parametrize("values", [(0, 255, 65535), (0, 1, 255), (0, 254, 255)])
def test_masks_of_several_ranges_have_one_foreground(values: tuple[int, ...]) -> None:
    labels = [volume(mask * np.uint16(values[1 + number % 2])) for number, mask in enumerate(masks())]
    found = decide(labels)
    np.testing.assert_array_equal(np.stack(encode(labels, found)), masks())
    assert all(str(value) in found.line for value in values[1:])


def test_soft_masks_of_several_ranges_are_cut_at_half_of_each() -> None:
    labels = [volume(halve(mask)) for mask in masks()]
    labels[0] = replace(labels[0], array=labels[0].array.astype(np.uint16) * 257)
    found = decide(labels)
    assert (found.plan.cut, found.problems) == (None, [])
    for indices, mask in zip(encode(labels, found), masks(), strict=True):
        assert_same_within_outline(indices > 0, mask)


def test_thin_vessels_that_were_resized_are_a_mask() -> None:
    labels = []
    for number in range(4):
        rows, columns = np.indices((200, 240))
        vessel = np.abs((rows - 40 * number - columns / (2 + number)) % 47) < 3
        image = Image.fromarray(np.where(vessel, 255, 0).astype(np.uint8))
        labels.append(volume(np.asarray(image.resize((170, 140), Image.Resampling.BILINEAR))))
    assert decide(labels).plan.kind == "binary"


def test_areas_of_128_are_a_class() -> None:
    labels = [volume(np.array([0, 128, 255], np.uint8)[blobs(seed, 2)]) for seed in range(4)]
    found = decide(labels)
    assert (found.classes.values, found.plan.kind) == ((0, 128, 255), "classes")


def test_a_border_of_128_around_each_object_is_asked_for() -> None:
    labels = []
    for mask in masks():
        label = np.where(mask, 255, 0).astype(np.uint8)
        label[ndimage.binary_dilation(mask, np.ones((3, 3))) & ~mask] = 128
        labels.append(volume(label))
    assert 'data.labels="classes"' in only_problem(decide(labels))


def test_photographs_are_no_masks() -> None:
    ramp = np.add.outer(np.arange(48) * 2, np.arange(64) * 2).astype(np.uint8)
    assert "different label values" in only_problem(decide([volume(np.roll(ramp, 5 * k, 1)) for k in range(4)]))


def test_255_beside_classes_is_unknown() -> None:
    labels = []
    for seed in range(4):
        label = blobs(seed)
        label[ndimage.binary_dilation(label > 0) & (label == 0)] = 255
        labels.append(volume(label))
    found = decide(labels)
    assert (found.plan.ignore, found.classes.values) == (255, (0, 1, 2, 3))
    assert "255 is unknown" in found.line
    np.testing.assert_array_equal(encode(labels, found)[0] == ignored_index(4), labels[0].array[0] == 255)


def test_255_beside_some_of_many_classes_is_asked_for_unless_the_palette_says_so() -> None:
    labels = [volume(np.array([0, 5, 18, 255], np.uint8)[blobs(seed)]) for seed in range(4)]
    assert 'data.labels="classes,ignore:255"' in only_problem(decide(labels))
    palette = np.random.default_rng(0).integers(0, 255, (256, 3), dtype=np.uint8)
    palette[0], palette[255] = 0, (224, 224, 192)
    found = decide([replace(label, palette=palette) for label in labels])
    assert (found.plan.ignore, found.classes.values) == (255, (0, 5, 18))
    assert decide(labels, plan=LabelPlan(ignore=255)).classes.values == (0, 5, 18)
    assert decide(labels, plan=LabelPlan()).classes.values == (0, 5, 18, 255)


def test_a_far_unknown_beside_thin_structures_is_no_noise() -> None:
    labels = []
    for number in range(4):
        label = np.zeros((80, 80), np.uint8)
        label[:, :12] = 255
        label[range(20, 60), range(30, 70)] = 1
        labels.append(volume(np.roll(label, number, axis=0)))
    assert decide(labels).plan == LabelPlan(ignore=255)


def test_numbers_of_objects_are_recognized() -> None:
    labels = [volume(apart(count, count)) for count in (4, 6, 9, 12)]
    found = decide(labels)
    assert found.line == "objects: each value is one connected piece in 4 of 4 files; all of them are foreground"
    assert found.classes.values == (0, 255)
    np.testing.assert_array_equal(encode(labels, found)[0], labels[0].array[0] > 0)


def test_objects_that_may_be_classes_are_asked_for() -> None:
    labels = [volume(apart(5, seed)) for seed in range(4)]
    assert 'data.labels="objects"' in only_problem(decide(labels))
    assert decide(labels, plan=LabelPlan(kind="objects")).classes.values == (0, 255)
    assert decide(labels, plan=LabelPlan()).classes.values == (0, 1, 2, 3, 4, 5)
    assert decide(labels, medical=True).classes.values == (0, 1, 2, 3, 4, 5)


def test_organs_of_one_piece_each_are_classes() -> None:
    labels = [volume(np.roll(apart(6, 0), seed % 2, axis=1)) for seed in range(4)]
    assert decide(labels).classes.values == (0, 1, 2, 3, 4, 5, 6)


RED_GREEN = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)


def test_colors_are_classes() -> None:
    labels = [volume(RED_GREEN[blobs(seed, 2)]) for seed in range(4)]
    found = decide(labels)
    assert found.classes.names == ("background", "green", "red")
    assert found.plan.colors == ((0, 0, 0), (0, 255, 0), (255, 0, 0))
    np.testing.assert_array_equal(encode(labels, found)[0], np.array([0, 2, 1])[blobs(0, 2)])


def test_the_number_in_the_red_channel_is_the_class() -> None:
    labels = [volume(blobs(seed)[..., None] * np.array([1, 0, 0], np.uint8)) for seed in range(4)]
    found = decide(labels)
    assert (found.classes.names[1], found.classes.values) == ("class_1", (0, 1, 2, 3))


def test_colors_without_a_background_are_asked_for() -> None:
    viridis = np.array([[68, 1, 84], [253, 231, 36]], np.uint8)
    labels = [volume(viridis[np.minimum(blobs(seed), 1)]) for seed in range(4)]
    assert "colors:background=#440154,class_1=#fde724" in only_problem(decide(labels))
    table = LabelPlan.model_validate("colors:background=#440154,tumor=#fde724")
    found = decide(labels, plan=table)
    assert found.classes.names == ("background", "tumor")
    np.testing.assert_array_equal(encode(labels, found)[0], blobs(0) > 0)


def test_colors_near_those_of_a_table_count_as_them_with_a_note() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 9, (4, *SHAPE, 3))
    labels = [volume(np.abs(RED_GREEN[blobs(k, 2)].astype(int) - noise[k]).astype(np.uint8)) for k in range(4)]
    assert "most of them rare" in only_problem(decide(labels)) or "colors" in only_problem(decide(labels))
    found = decide(labels, plan=LabelPlan.model_validate("colors:none=#000000,a=#ff0000,b=#00ff00"))
    assert "the nearest one counts" in found.notes[0]
    np.testing.assert_array_equal(encode(labels, found)[1], blobs(1, 2))


def test_palettes_whose_order_differs_are_compared_by_color() -> None:
    orders = [np.array([0, 1, 2]), np.array([0, 2, 1]), np.array([1, 0, 2]), np.array([2, 1, 0])]
    labels = [
        volume(order[blobs(seed, 2)].astype(np.uint8), palette=RED_GREEN[np.argsort(order)])
        for seed, order in enumerate(orders)
    ]
    found = decide(labels)
    assert found.classes.names == ("background", "green", "red")
    for seed, indices in enumerate(encode(labels, found)):
        np.testing.assert_array_equal(indices, np.array([0, 2, 1])[blobs(seed, 2)])


def test_equal_palettes_keep_their_numbers() -> None:
    labels = [volume(blobs(seed, 2), palette=RED_GREEN) for seed in range(4)]
    found = decide(labels)
    assert (found.plan.kind, found.classes.values) == ("classes", (0, 1, 2))


def test_numbers_among_colors_are_refused() -> None:
    labels = [volume(RED_GREEN[blobs(seed, 2)]) for seed in range(3)] + [volume(blobs(3, 2))]
    assert "numbers among colors in 1 of 4 files" in only_problem(decide(labels))


def test_a_mask_drawn_in_several_colors_on_a_transparent_layer() -> None:
    drawn = [blobs(seed, 2) for seed in range(4)]
    palette = np.array([[90, 90, 90], [255, 0, 0], [0, 255, 0]], np.uint8)
    labels = [volume(palette[each], alpha=np.where(each, 255, 0).astype(np.uint8)) for each in drawn]
    found = decide(labels)
    assert found.classes.names == ("background", "green", "red")


def test_the_tag_of_imagej_does_not_invert() -> None:
    labels = [volume(np.where(mask, 255, 0).astype(np.uint8), is_inverted=k > 1) for k, mask in enumerate(masks())]
    found = decide(labels)
    np.testing.assert_array_equal(np.stack(encode(labels, found)), masks())
    assert "as stored where the header says that 0 is white (2 of 4 files)" in found.line
    labels[3] = replace(labels[3], array=255 - labels[3].array)
    assert 'data.labels="classes,inverted"' in only_problem(decide(labels))


def test_channels_are_classes() -> None:
    drawn = [blobs(seed, 2) for seed in range(4)]
    labels = [Volume(np.stack([each == 1, each == 2]).astype(np.uint8), Geometry(".nii")) for each in drawn]
    found = decide(labels, medical=True)
    assert (found.plan.kind, found.classes.names) == ("channels", ("background", "class_1", "class_2"))
    np.testing.assert_array_equal(encode(labels, found), drawn)
    whole = [Volume(np.stack([each == k for k in range(3)]).astype(np.float32), Geometry(".nii")) for each in drawn]
    found = decide(whole, medical=True)
    assert found.classes.names == ("background", "class_1", "class_2")
    np.testing.assert_array_equal(encode(whole, found), drawn)
    labels[1].array[:] = 1
    assert "one channel for each class, without overlap" in only_problem(decide(labels, medical=True))


def test_segments_go_by_their_names() -> None:
    names = ("left", "right")
    drawn = [blobs(seed, 2) for seed in range(4)]
    labels = []
    for number, each in enumerate(drawn):
        order = np.array([0, 1, 2]) if number % 2 else np.array([0, 7, 3])
        segments = tuple(Segment(name, int(order[k + 1])) for k, name in enumerate(names))
        labels.append(Volume(order[each][None], Geometry(".nrrd"), segments=segments))
    found = decide(labels, medical=True)
    assert found.classes.names == ("background", "left", "right")
    np.testing.assert_array_equal(encode(labels, found), drawn)
    labels[0] = replace(labels[0], segments=labels[0].segments[:1])
    assert "values that no segment has" in only_problem(decide(labels, medical=True))


def test_segments_that_are_declared_keep_the_declared_order() -> None:
    """One file for each class: the layout knows the classes, of which a case may lack some."""
    segments = (Segment("spleen", 1), Segment("liver", 2))
    facts = measure_label(volume(blobs(0, 2), segments=segments))
    found = find_meaning({"a": facts}, Declared("set", classes={0: "background", 1: "liver", 2: "spleen", 3: "heart"}))
    assert (found.problems, found.classes.names) == ([], ("background", "liver", "spleen", "heart"))
    indices = encode_label(volume(blobs(0, 2), segments=segments), found.classes, found.plan, "a")
    np.testing.assert_array_equal(indices, np.array([0, 2, 1])[blobs(0, 2)])


def test_overlapping_segments_are_noted() -> None:
    layers = np.zeros((2, *SHAPE), np.uint8)
    layers[0, :20], layers[1, 10:30] = 1, 1
    label = Volume(layers, Geometry(".nrrd"), segments=(Segment("a", 1), Segment("b", 1, layer=1)))
    facts = {"0.nrrd": measure_label(label, True)}
    found = find_meaning(facts, Declared("data"))
    assert "0.nrrd: segments overlap" in found.notes[0]
    assert np.unique(encode([label], found)[0], return_counts=True)[1].tolist() == [18 * 64, 10 * 64, 20 * 64]


def test_values_rounded_by_a_scale_are_whole() -> None:
    labels = [volume(blobs(seed) * np.float64(1.0000153)) for seed in range(4)]
    found = decide(labels)
    assert found.classes.values == (0, 1, 2, 3)
    np.testing.assert_array_equal(encode(labels, found)[2], blobs(2))


@pytest.mark.parametrize("kind", [np.int64, np.uint64, np.float32, np.int16, np.uint16])
def test_classes_of_any_type_and_any_number(kind: type) -> None:
    values = np.array([0, 7, 300, 1000])
    labels = [volume(values[blobs(seed)].astype(kind)) for seed in range(4)]
    found = decide(labels)
    assert found.classes.values == (0, 7, 300, 1000)
    np.testing.assert_array_equal(encode(labels, found)[0], blobs(0))


def test_values_below_0_and_nan_are_refused() -> None:
    labels = [volume(blobs(seed).astype(np.int16) - (seed == 1)) for seed in range(4)]
    assert "the label value -1" in only_problem(decide(labels))
    assert decide(labels, plan=LabelPlan(ignore=-1)).plan.ignore == -1
    labels = [volume(np.where(blobs(seed) > 0, np.nan, 0)) for seed in range(2)]
    assert all("NaN" in problem.got for problem in decide(labels).problems)
    with pytest.raises(DataError, match="not whole numbers"):
        encode_label(labels[0], decide([volume(blobs(0))]).classes, LabelPlan(), "a.tif")


def test_labels_that_count_from_1_are_noted() -> None:
    found = decide([volume(blobs(seed, 2) + np.uint8(1)) for seed in range(4)])
    assert "no label has the value 0 (background)" in found.notes[0]
    assert 'data.labels="classes,ignore:3"' in found.notes[0]


def test_a_label_that_is_all_foreground_is_noted_as_one_that_is_all_background() -> None:
    labels = [volume(mask.astype(np.uint8) * 255) for mask in masks()]
    labels[0].array[:], labels[1].array[:] = 0, 255
    notes = decide(labels).notes
    assert notes[0] == "0.png: nothing but background in the label"
    assert notes[1].startswith("1.png: nothing but one foreground class in the label")


def test_declared_classes_win_and_files_are_checked() -> None:
    labels = [volume(blobs(seed, 2)) for seed in range(4)]
    found = decide(labels, classes={0: "none", 1: "a", 2: "b"})
    assert found.classes.names == ("none", "a", "b")
    found = decide(labels, classes={0: "none", 1: "a"})
    assert len(found.problems) == 4 and "the value 2" in found.problems[0].got
    found = decide(labels, classes={0: "none", 1: "a"}, ignore=2)
    assert (found.problems, found.plan.ignore) == ([], 2)


@settings(deadline=None, max_examples=20)
@given(
    values=st.lists(st.integers(0, 63), min_size=3, max_size=6, unique=True),
    names=st.integers(0, 1000),
    ignore=st.none() | st.integers(100, 65535),
)
def test_classes_come_back_whatever_their_numbers(values: list[int], names: int, ignore: int | None) -> None:
    table = np.array([0, *(value for value in sorted(values) if value)], np.uint16)
    labels = [volume(table[np.minimum(blobs(names + seed, 5), len(table) - 1)]) for seed in range(4)]
    if ignore is not None:
        labels[0].array[0, 40:] = ignore
    found = decide(labels, plan=LabelPlan(ignore=ignore))
    indices = encode(labels, found)
    back = found.classes.decode(np.where(indices[0] == 255, 0, indices[0]))
    np.testing.assert_array_equal(back, np.where(labels[0].array[0] == (ignore or 70000), 0, labels[0].array[0]))


def test_a_part_of_a_mask_is_cut_at_half_of_its_own_range() -> None:
    for value in (1, 7, 255, 65535):
        part = volume(np.where(blobs(1) > 0, value, 0).astype(np.uint16))
        np.testing.assert_array_equal(cut_at_half(part), blobs(1) > 0)
    assert not cut_at_half(volume(np.zeros(SHAPE, np.uint8))).any()


@pytest.mark.parametrize("levels", [(0, 127, 255), (0, 85, 170, 255)])
def test_gray_values_between_classes_are_asked_for(levels: tuple[int, ...]) -> None:
    labels = []
    for seed in range(4):
        clean = Image.fromarray(np.array(levels, np.uint8)[np.minimum(blobs(seed, 3), len(levels) - 1)])
        labels.append(volume(np.asarray(clean.resize((40, 30), Image.Resampling.BOX))))
    assert "along outlines" in only_problem(decide(labels)) or "different label values" in only_problem(decide(labels))


def test_thin_classes_are_classes() -> None:
    labels = []
    for number in range(4):
        label = np.array([0, 200], np.uint8)[np.minimum(blobs(number), 1)]
        label[number + 3, 5:50] = 100
        labels.append(volume(label))
    assert decide(labels).classes.values == (0, 100, 200)


def test_inverted_numbers_of_16_bits() -> None:
    labels = [volume(np.uint16(65535) - mask.astype(np.uint16), is_inverted=True) for mask in masks()]
    found = decide(labels)
    np.testing.assert_array_equal(np.stack(encode(labels, found)), masks())


def soft_colors(seed: int) -> np.ndarray:
    """Draw areas of red and green on black with soft edges."""
    sharp = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)[np.kron(blobs(seed, 2), np.ones((2, 2), int))]
    return np.asarray(Image.fromarray(sharp).resize(SHAPE[::-1], Image.Resampling.BOX))


def test_soft_edges_of_colors_are_no_classes() -> None:
    labels = [volume(soft_colors(seed)) for seed in range(4)]
    found = decide(labels)
    assert found.classes.names == ("background", "green", "red")
    assert "along outlines; the nearest one counts" in found.notes[0]
    for label, indices in zip(labels, encode(labels, found), strict=True):
        assert (indices[label.array[0] == 255] == 2).all() and (indices[label.array.max(axis=0) == 0] == 0).all()


def test_compressed_colors_are_asked_with_a_table_of_areas() -> None:
    labels = []
    for seed in range(4):
        stream = io.BytesIO()
        Image.fromarray(np.kron(soft_colors(seed), np.ones((4, 4, 1), np.uint8))).save(stream, "JPEG")
        labels.append(volume(np.asarray(Image.open(stream))))
    problem = only_problem(decide(labels, ".jpg"))
    assert problem.count("class_") == 2 and "data.labels" in problem


def test_interpolated_classes_are_asked() -> None:
    sharp = [3 * (blobs(seed) > 0) - (blobs(seed + 9) > 0) * (blobs(seed) > 0) for seed in range(4)]
    small = [np.asarray(Image.fromarray(each.astype(np.uint8)).resize((96, 72), 2)) for each in sharp]
    assert "resizing with interpolation" in only_problem(decide([volume(each) for each in small]))
    assert len(decide([volume(each.astype(np.uint8)) for each in sharp]).classes.names) == 3
    drawn = [2 * blobs(seed, 1) - (blobs(seed, 1) - ndimage.binary_erosion(blobs(seed, 1))) for seed in range(4)]
    assert len(decide([volume(each.astype(np.uint8)) for each in drawn]).classes.names) == 3


def test_classes_in_jpeg_are_asked() -> None:
    assert "JPEG" in only_problem(decide([volume(blobs(seed)) for seed in range(3)], ".jpg"))


@pytest.mark.parametrize("top", [99, 250, 254])
def test_a_number_far_from_classes_in_order_is_asked(top: int) -> None:
    labels = [volume(np.where(blobs(seed + 9, 1) > 0, top, blobs(seed))) for seed in range(3)]
    assert f"ignore:{top}" in only_problem(decide(labels))
    assert decide(labels, plan=LabelPlan(ignore=top)).classes.ignore == top


def test_scattered_classes_on_unlabeled_ground_are_asked() -> None:
    rng = np.random.default_rng(3)
    labels = [volume(np.where(rng.random(SHAPE) < 0.97, 255, blobs(seed, 2)).astype(np.uint8)) for seed in range(3)]
    assert "ignore:255" in only_problem(decide(labels))


def test_two_values_without_zero_are_asked() -> None:
    labels = [volume(np.where(mask, 255, 1).astype(np.uint8)) for mask in masks()]
    assert "binary:128" in only_problem(decide(labels))
    found = decide(labels, plan=LabelPlan(kind="binary", cut=128))
    for mask, indices in zip(masks(), encode(labels, found), strict=True):
        np.testing.assert_array_equal(indices, mask)


def test_strong_compression_of_few_pixels_is_a_mask() -> None:
    mask = np.zeros((64, 64), bool)
    mask[20:27, 30:38] = True
    found = decide([volume(jpeg(mask))], ".jpg")
    assert found.plan.kind == "binary" and not found.problems


def test_objects_in_two_pieces_and_random_numbers_are_asked() -> None:
    cut = [apart(30, seed) for seed in range(3)]
    for each in cut:
        each[:, 22:24] = 0
        each[13:15] = 0
    assert "most of them" in only_problem(decide([volume(each) for each in cut]))
    numbers = np.random.default_rng(0).permutation(60000)[:13].astype(np.uint16)
    numbers[0] = 0
    assert "objects" in only_problem(decide([volume(numbers[apart(12, 0)])]))


def test_a_palette_that_gives_two_numbers_one_color_is_asked() -> None:
    palette = np.array([[0, 0, 0], [255, 0, 0], [255, 0, 0]], np.uint8)
    labels = [volume(blobs(seed, 2), palette=palette) for seed in range(3)]
    assert "one color" in only_problem(decide(labels))
    assert len(decide(labels, plan=LabelPlan()).classes.names) == 3
    assert len(decide(labels, plan=LabelPlan(kind="colors")).classes.names) == 2


def test_transparency_of_one_class_of_a_palette_says_nothing() -> None:
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    some = [blobs(seed, 2) for seed in range(3)]
    labels = [volume(each, palette=palette, alpha=np.where(each == 1, 0, 255).astype(np.uint8)) for each in some]
    for each, indices in zip(some, encode(labels, decide(labels)), strict=True):
        np.testing.assert_array_equal(indices, each)
