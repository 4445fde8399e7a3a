"""Files of every annotation program, and the labels that are drawn from them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tiny import write_png
from unetpp.annotations import draw, is_annotation, read_annotations, yolo
from unetpp.data.case_files import read_case_label
from unetpp.errors import DataError
from unetpp.layouts.cases import find_cases
from unetpp.plan import AS_FILES_SAY

SHAPE = (24, 32)
BOX = [[4, 6], [14, 6], [14, 16], [4, 16]]
EXPECTED = np.zeros(SHAPE, np.uint8)
EXPECTED[6:16, 4:14] = 1
MASK = np.random.default_rng(1).random((7, 5)) < 0.4


def encode(mask: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def coco(segmentation: Any) -> dict[str, Any]:
    images = [{"id": 5, "file_name": "sub/a.png", "height": 24, "width": 32}]
    annotations = [{"image_id": 5, "category_id": 2, "segmentation": segmentation, "bbox": [0, 0, 1, 1]}]
    return {"images": images, "annotations": annotations, "categories": [{"id": 2, "name": "cell"}]}


def labelme(*shapes: dict[str, Any]) -> dict[str, Any]:
    return {"shapes": list(shapes), "imagePath": "a.png", "imageHeight": 24, "imageWidth": 32}


def geojson(*features: tuple[str, Any]) -> dict[str, Any]:
    classified = {"classification": {"name": "cell"}}
    found = [
        {"type": "Feature", "geometry": {"type": kind, "coordinates": points}, "properties": classified}
        for kind, points in features
    ]
    return {"type": "FeatureCollection", "features": found}


def runs(mask: np.ndarray) -> list[int]:
    flat = mask.ravel()
    changes = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(np.int8))).tolist()
    return np.diff([0, *changes, len(flat)]).tolist()


XML = {
    "cvat": '<annotations><image id="0" name="a.png" width="32" height="24">'
    '<polygon label="cell" points="4,6;14,6;14,16;4,16" z_order="0"/><points label="cell" points="1,1"/>'
    "</image></annotations>",
    "scope": '<Annotations><Annotation Name="cell"><Regions><Region><Vertices>'
    + "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in BOX)
    + "</Vertices></Region></Regions></Annotation></Annotations>",
}
TEXTS: dict[str, tuple[str, str]] = {
    "COCO": (".json", json.dumps(coco([np.ravel(BOX).tolist()]))),
    "LabelMe": (".json", json.dumps(labelme({"label": "cell", "points": BOX, "shape_type": "polygon"}))),
    "LabelMe rectangle": (
        ".json", json.dumps(labelme({"label": "cell", "points": [BOX[0], BOX[2]], "shape_type": "rectangle"}))
    ),
    "YOLO": (".txt", "0 " + " ".join(f"{x / 32} {y / 24}" for x, y in BOX)),
    "CVAT": (".xml", XML["cvat"]),
    "ImageScope": (".xml", XML["scope"]),
    "QuPath": (".geojson", json.dumps(geojson(("Polygon", [[*BOX, BOX[0]]])))),
}  # fmt: skip


@pytest.mark.parametrize("kind", TEXTS)
def test_outlines_become_labels(tmp_path: Path, kind: str) -> None:
    suffix, text = TEXTS[kind]
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    write_png(tmp_path / "images" / "a.png", np.zeros(SHAPE, np.uint8))
    (tmp_path / "labels" / f"a{suffix}").write_text(text)
    dataset = find_cases(tmp_path)
    assert (dataset.layout, dataset.classes) == (
        "outlines",
        {0: "background", 1: "class_0" if kind == "YOLO" else "cell"},
    )
    np.testing.assert_array_equal(read_case_label(dataset.cases[0], AS_FILES_SAY).array, EXPECTED[None])


def test_regions_of_imagej_become_labels(tmp_path: Path) -> None:
    import zipfile

    roifile = pytest.importorskip("roifile")
    write_png(tmp_path / "a.png", np.zeros(SHAPE, np.uint8))
    with zipfile.ZipFile(tmp_path / "a_RoiSet.zip", "w") as archive:
        archive.writestr("0001.roi", roifile.ImagejRoi.frompoints(BOX).tobytes())
    dataset = find_cases(tmp_path)
    np.testing.assert_array_equal(read_case_label(dataset.cases[0], AS_FILES_SAY).array, EXPECTED[None])


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def drawn(path: Path, key: str = "") -> np.ndarray:
    found = read_annotations(path)
    return draw(found.images[key], {name: 1 for name in found.names}, SHAPE)


def test_masks_come_out_as_they_went_in(tmp_path: Path) -> None:
    full = np.zeros(SHAPE, bool)
    full[3:10, 2:7] = MASK
    shape = {"label": "a", "points": [[2, 3], [6, 9]], "shape_type": "mask", "mask": encode(MASK)}
    np.testing.assert_array_equal(drawn(write(tmp_path / "l.json", labelme(shape))), full)
    uncompressed = {"size": list(SHAPE), "counts": runs(full.T)}
    np.testing.assert_array_equal(drawn(write(tmp_path / "c.json", coco(uncompressed)), "sub/a.png"), full)
    mask = f'<mask label="a" rle="{",".join(map(str, runs(MASK)))}" left="2" top="3" width="5" height="7"/>'
    text = XML["cvat"].replace('<points label="cell" points="1,1"/>', "")
    text = text.replace(text[text.index("<polygon") : text.index("</image>")], mask)
    np.testing.assert_array_equal(drawn(write(tmp_path / "v.xml", text), "a.png"), full)


def test_compressed_masks_of_coco(tmp_path: Path) -> None:
    compressed = "V3:>00000000000000000Z="  # of pycocotools, for EXPECTED
    counts = {"size": list(SHAPE), "counts": compressed}
    np.testing.assert_array_equal(drawn(write(tmp_path / "c.json", coco(counts)), "sub/a.png"), EXPECTED)


def test_what_has_no_area_is_said(tmp_path: Path) -> None:
    assert read_annotations(write(tmp_path / "a.json", coco(None))).left_out == ("boxes",)
    assert read_annotations(write(tmp_path / "b.xml", XML["cvat"])).left_out == ("points",)
    assert read_annotations(write(tmp_path / "c.txt", "0 0.5 0.5 0.1 0.1")).left_out == ("boxes",)
    assert read_annotations(write(tmp_path / "d.geojson", geojson(("Point", [1, 2])))).left_out == ("Point",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "[" * 100_000),
        ("a.json", '{"a": 1}'),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotations><image name="&b;"/></annotations>'),
        ("a.txt", "a note about these images"),
        ("classes.txt", "0 0.1 0.1 0.2 0.2 0.3 0.3"),
        ("a.zip", "PK"),
    ],
)
def test_other_files_are_no_annotations(tmp_path: Path, name: str, text: str) -> None:
    assert not is_annotation(write(tmp_path / name, text))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", coco([[float("nan")] * 8])),
        ("a.json", coco({"size": [3, 3], "counts": [1, 2]})),
        ("a.json", {"images": 1, "annotations": [], "categories": []}),
        ("a.json", labelme({"label": "a", "points": [[1, 2]], "shape_type": "rectangle"})),
        ("a.json", labelme({"label": "a", "points": [[1, 2], [3, 4]], "shape_type": "mask", "mask": "AAAA"})),
        ("a.txt", "0 7 7 8 8 9 9"),
        ("a.xml", '<annotations><image name="a" width="x" height="2"/></annotations>'),
        ("a.geojson", {"type": "FeatureCollection", "features": [{"geometry": 1}]}),
    ],
)
def test_a_damaged_file_is_one_problem(tmp_path: Path, name: str, content: Any) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match="annotations that cannot be read"):
        read_annotations(path)


@pytest.mark.parametrize(
    "text",
    [
        "names: ['cell', 'debris']",
        "path: x\nnames:\n  0: cell\n  1: debris\n",
        "names:\n- cell\n- debris\nnc: 2",
        "names: [cell, debris]",
        "names: {0: 'cell', 1: 'debris'}",
    ],
)
def test_names_of_yolo(tmp_path: Path, text: str) -> None:
    assert yolo.read_names(write(tmp_path / "data.yaml", text)) == ["cell", "debris"]


def test_yolo_has_splits_and_names(tmp_path: Path) -> None:
    for subset, name in (("train", "a"), ("train", "b"), ("val", "a")):
        for folder in ("images", "labels"):
            (tmp_path / folder / subset).mkdir(parents=True, exist_ok=True)
        write_png(tmp_path / "images" / subset / f"{name}.png", np.zeros(SHAPE, np.uint8))
        write(tmp_path / "labels" / subset / f"{name}.txt", TEXTS["YOLO"][1])
    write(tmp_path / "data.yaml", "names: [cell]")
    dataset = find_cases(tmp_path)
    assert dataset.classes == {0: "background", 1: "cell"}
    assert sorted((case.id, case.split) for case in dataset.cases) == [
        ("b", "train"),
        ("images_train_a", "train"),
        ("images_val_a", "validation"),
    ]


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.zeros(SHAPE[::-1], np.uint8))
    write(tmp_path / "a.json", labelme({"label": "cell", "points": BOX}))
    dataset = find_cases(tmp_path)
    with pytest.raises(DataError, match="outlines on 24 x 32 pixels; expected 32 x 24 pixels"):
        read_case_label(dataset.cases[0], AS_FILES_SAY)


def test_annotations_without_their_image_are_named(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.zeros(SHAPE, np.uint8))
    for name in ("a", "b"):
        write(tmp_path / f"{name}.json", labelme({"label": "cell", "points": BOX}))
    problems = find_cases(tmp_path, tolerant=True).problems
    assert [(Path(problem.where).name, problem.got) for problem in problems] == [("b.json", "no image for it")]


def test_damaged_archives_of_imagej_are_one_problem(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0001.roi", b"Iout" + bytes(60))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"Iout", b"Jout"))  # its checksum is that of other bytes
    with pytest.raises(DataError, match="annotations that cannot be read"):
        read_annotations(path)
    path.write_bytes(whole[:20] + b"\xff" * 20 + whole[40:])
    is_annotation(path)  # raises nothing


def test_inputs_of_users(cases: Path) -> None:
    for name in ("coco-annotations", "labelme-polygons"):
        dataset = find_cases(cases / "2d" / name)
        assert (len(dataset.cases), dataset.classes) == (3, {0: "background", 1: "cell"})
        assert (read_case_label(dataset.cases[0], AS_FILES_SAY).array == 1).sum() == 22 * 22
