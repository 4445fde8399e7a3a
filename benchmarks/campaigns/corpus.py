"""Small sound files of every kind that is read, and the reader of each."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.campaigns.outcome import require
from benchmarks.campaigns.stage import Stage
from PIL import Image

BOX = [[4, 6], [14, 6], [14, 16], [4, 16]]
Reader = Callable[[Path], object]


@dataclass(frozen=True)
class Target:
    """A reader with the files that are changed for it."""

    name: str
    samples: tuple[Path, ...]
    """Sound files; each is changed where it lies, with what lies beside it."""
    read: Reader
    is_slow: bool = False
    """Whether an input takes more than some 0.1 s."""


def list_targets(stage: Stage, long: bool) -> Iterator[Target]:
    """Write the corpus below the folder of a stage, and list the targets."""
    folder = stage.folder / "corpus"
    yield from _list_images(folder / "images")
    yield from _list_annotations(folder / "annotations")
    yield from _list_records(stage, folder)
    yield from _list_models(stage, folder, long)


def _list_images(folder: Path) -> Iterator[Target]:
    folder.mkdir(parents=True)
    samples: dict[str, list[Path]] = {}
    for kind in (_write_pictures, _write_tiffs, _write_arrays, _write_nifti, _write_itk):
        with suppress(ImportError, OSError):  # an optional package, or a codec that Pillow was built without
            for path in kind(folder):
                name = "".join(path.suffixes)
                samples.setdefault(name, []).append(path)
    for suffix, paths in samples.items():
        yield Target(f"image {suffix}", tuple(paths), _read_image)


def _read_image(path: Path) -> None:
    from unetpp.formats.readers import open_image, read_grid, read_label

    source = open_image(path)
    source.read(tuple(slice(0, min(size, 64)) for size in source.shape[1:]))
    read_grid(path)
    read_label(path)


def _write_pictures(folder: Path) -> Iterator[Path]:
    generator = np.random.default_rng(0)
    gray = Image.fromarray(generator.integers(0, 255, (24, 32), np.uint8))
    color = Image.fromarray(generator.integers(0, 255, (24, 32, 3), np.uint8))
    deep = Image.fromarray(generator.integers(0, 2**16, (24, 32), np.uint16))
    modes = {"gray": gray, "color": color, "palette": color.quantize(16), "bits": gray.convert("1"), "deep": deep}
    modes |= {"alpha": color.convert("RGBA"), "float": gray.convert("F")}
    allowed = {
        ".png": "gray color palette bits deep alpha",
        ".jpg": "gray color",
        ".bmp": "gray color palette bits",
        ".gif": "gray palette",
        ".webp": "color alpha",
        ".jp2": "gray color deep",
        ".pgm": "gray deep",
        ".ppm": "color",
        ".pbm": "bits",
        ".pfm": "float",
        ".avif": "color",
    }
    for suffix, names in allowed.items():
        for name in names.split():
            path = folder / f"{name}{suffix}"
            with suppress(OSError, KeyError, ValueError):
                modes[name].save(path)
                yield path
    with suppress(ImportError):
        from pillow_heif import from_pillow

        from_pillow(color).save(folder / "color.heic")
        yield folder / "color.heic"


def _write_tiffs(folder: Path) -> Iterator[Path]:
    import tifffile

    generator = np.random.default_rng(0)
    array = generator.integers(0, 2**16, (3, 40, 48), np.uint16)
    variants: dict[str, dict[str, Any]] = {
        "plain": {},
        "tiled": {"tile": (16, 16), "compression": "zlib", "predictor": 2},
        "lzw": {"compression": "lzw", "rowsperstrip": 7},
        "big": {"bigtiff": True},
        "color": {"photometric": "rgb", "planarconfig": "separate"},
        "imagej": {"imagej": True, "metadata": {"spacing": 2.0, "unit": "um", "axes": "ZYX"}},
    }
    for name, options in variants.items():
        path = folder / f"{name}.tif"
        tifffile.imwrite(path, array, **options)
        yield path
    path = folder / "volume.ome.tif"
    tifffile.imwrite(path, array, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeZ": 2.0})
    yield path


def _write_arrays(folder: Path) -> Iterator[Path]:
    array = np.random.default_rng(0).random((12, 16, 3)).astype(np.float32)
    np.save(folder / "array.npy", array)
    np.savez_compressed(folder / "array.npz", image=array)
    yield from (folder / "array.npy", folder / "array.npz")


def _write_nifti(folder: Path) -> Iterator[Path]:
    import nibabel

    array = np.random.default_rng(0).integers(0, 100, (9, 10, 6)).astype(np.int16)
    affine = np.diag([1.0, 1.5, 3.0, 1.0])
    for suffix in (".nii", ".nii.gz"):
        nibabel.save(nibabel.Nifti1Image(array, affine), folder / f"volume{suffix}")
        yield folder / f"volume{suffix}"
    nibabel.save(nibabel.Nifti2Image(array, affine), folder / "second.nii")
    yield folder / "second.nii"
    nibabel.save(nibabel.Nifti1Pair(array, affine), folder / "pair.hdr")
    yield folder / "pair.hdr"
    for suffix in (".mgh", ".mgz"):
        nibabel.save(nibabel.MGHImage(array, affine), folder / f"volume{suffix}")
        yield folder / f"volume{suffix}"


def _write_itk(folder: Path) -> Iterator[Path]:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.random.default_rng(0).integers(0, 100, (6, 10, 9)).astype(np.int16))
    image.SetSpacing((1.0, 1.5, 3.0))
    for name, compressed in (("a.nrrd", False), ("b.nrrd", True), ("a.mha", False), ("b.mha", True), ("c.mhd", False)):
        SimpleITK.WriteImage(image, str(folder / name), compressed)
        yield folder / name
    SimpleITK.WriteImage(image, str(folder / "d.nhdr"), False)
    yield folder / "d.nhdr"


def _list_annotations(folder: Path) -> Iterator[Target]:
    folder.mkdir(parents=True)
    flat = [number for point in BOX for number in point]
    shapes = [{"label": "cell", "points": BOX, "shape_type": "polygon"}]
    shapes.append({"label": "cell", "points": [BOX[0], BOX[2]], "shape_type": "rectangle"})
    entry = {"image_id": 5, "category_id": 2, "bbox": [0, 0, 1, 1]}
    runs = {"size": [24, 32], "counts": [100, 20, 648]}
    compressed = {"size": [24, 32], "counts": "V3:>00000000000000000Z="}
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[*BOX, BOX[0]]]}}
    feature["properties"] = {"classification": {"name": "cell"}}
    polygon = '<polygon label="cell" points="4,6;14,6;14,16;4,16" z_order="0"/>'
    mask = '<mask label="a" rle="3,5,27" left="2" top="3" width="5" height="7"/>'
    vertices = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in BOX)
    texts = {
        "coco.json": {
            "images": [{"id": 5, "file_name": "a.png", "height": 24, "width": 32}],
            "annotations": [{**entry, "segmentation": each} for each in ([flat], runs, compressed)],
            "categories": [{"id": 2, "name": "cell"}],
        },
        "labelme.json": {"shapes": shapes, "imagePath": "a.png", "imageHeight": 24, "imageWidth": 32},
        "qupath.geojson": {"type": "FeatureCollection", "features": [feature]},
        "yolo.txt": "0 " + " ".join(f"{x / 32} {y / 24}" for x, y in BOX) + "\n1 0.1 0.1 0.2 0.1 0.2 0.2\n",
        "cvat.xml": '<annotations><image id="0" name="a.png" width="32" height="24">'
        f"{polygon}{mask}</image></annotations>",
        "scope.xml": f'<Annotations><Annotation Name="cell"><Regions><Region><Vertices>{vertices}'
        "</Vertices></Region></Regions></Annotation></Annotations>",
    }
    for name, content in texts.items():
        path = folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        yield Target(f"outlines {name}", (path,), _read_annotations)
    with suppress(ImportError):
        from roifile import ImagejRoi

        with zipfile.ZipFile(folder / "imagej.zip", "w") as archive:
            archive.writestr("0001.roi", ImagejRoi.frompoints(BOX).tobytes())
        (folder / "imagej.roi").write_bytes(ImagejRoi.frompoints(BOX).tobytes())
        yield Target("outlines imagej", (folder / "imagej.zip", folder / "imagej.roi"), _read_annotations)


def _read_annotations(path: Path) -> None:
    from unetpp.annotations import draw, is_annotation, read_annotations

    is_annotation(path)
    found = read_annotations(path)
    for outlines in found.images.values():
        draw(outlines, {name: number for number, name in enumerate(found.names, 1)}, (24, 32))


def _list_records(stage: Stage, folder: Path) -> Iterator[Target]:
    """List JSON files of a run, of a prediction and of a data set, and tables."""
    import unetpp
    from unetpp.data.folds import read_splits
    from unetpp.plan import read_plan

    run = Path(shutil.copytree(stage.original / "run", folder / "run"))
    yield Target("plan.json", (run / "plan.json",), read_plan)
    yield Target("splits.json", (run / "splits.json",), read_splits)
    for name in ("metrics.json", "log.jsonl", "views/*.npz"):
        other = Path(shutil.copytree(stage.original / "run", folder / name.partition("/")[0]))
        damaged = next((other / "fold_0").glob(name))
        yield Target(name, (damaged,), lambda _, run=other: unetpp.report(run), is_slow=True)
    written = Path(shutil.copytree(stage.original / "predictions", folder / "predictions"))
    masks = stage.original / "data" / "masks"
    yield Target("predictions.json", (written / "predictions.json",), lambda path: unetpp.evaluate(path.parent, masks))
    declared = Path(shutil.copytree(stage.original / "data" / "images", folder / "decathlon" / "imagesTr")).parent
    shutil.copytree(masks, declared / "labelsTr")
    names = sorted(path.name for path in masks.iterdir())
    content = {
        "name": "x",
        "channel_names": {"0": "gray"},
        "labels": {"background": 0, "one": 1, "two": 2},
        "numTraining": len(names),
        "file_ending": ".png",
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
        "test": [],
    }
    (declared / "dataset.json").write_text(json.dumps(content))
    yield Target("dataset.json", (declared / "dataset.json",), lambda path: unetpp.check(path.parent))
    table = Path(shutil.copytree(stage.original / "data", folder / "table")) / "cases.csv"
    lines = [f"images/{name},masks/{name},p{number},train" for number, name in enumerate(names)]
    table.write_text("\n".join(["image,label,group,split", *lines, ""]))
    yield Target("table", (table,), unetpp.check)
    listed = table.with_name("list.txt")
    listed.write_text("".join(f"images/{name}\n" for name in names))
    yield Target("list of images", (listed,), _read_list)


def _read_list(path: Path) -> None:
    from unetpp.layouts.inputs import find_images

    find_images([path])


def _list_models(stage: Stage, folder: Path, long: bool) -> Iterator[Target]:
    """List model files, checkpoints, those of other libraries and exported files."""
    import unetpp

    image = np.random.default_rng(0).random((32, 40)).astype(np.float32)

    def predict(path: Path) -> None:
        unetpp.info(path)
        unetpp.load(path, device="cpu", backend="torch").predict(image)

    models = folder / "models"
    (models / "fold_0").mkdir(parents=True)
    run = stage.original / "run"
    shutil.copy(run / "fold_0" / "model.safetensors", models / "model.safetensors")
    yield Target("model file", (models / "model.safetensors",), predict)
    shutil.copy(run / "fold_0" / "last.ckpt", models / "last.ckpt")
    yield Target("checkpoint", (models / "last.ckpt",), lambda path: _load_checkpoint(path, run / "plan.json"))
    yield Target("foreign checkpoint", tuple(_write_foreign(models)), _import)
    if long:
        for name in ("small.onnx", "small.xml"):
            require(["export", str(run), "--depth", "1", "--out", str(models / name)])
        exported = (models / "small.onnx", models / "small.xml", models / "small.bin")
        yield Target("exported .onnx", exported[:1], lambda path: _run_exported(path, image))
        yield Target("exported .xml", exported[1:], lambda path: _run_exported(path.with_suffix(".xml"), image))


def _load_checkpoint(path: Path, plan_path: Path) -> None:
    import torch

    from unetpp.model.build import build_from_plan
    from unetpp.plan import read_plan
    from unetpp.train.checkpoint import load_checkpoint, read_training_state
    from unetpp.train.step import TrainingStep

    plan = read_plan(plan_path)
    read_training_state(path)
    load_checkpoint(path, plan, TrainingStep(build_from_plan(plan.model), plan.model, plan.train, torch.device("cpu")))


def _write_foreign(folder: Path) -> Iterator[Path]:
    import torch
    from safetensors.torch import save

    generator = torch.Generator().manual_seed(0)
    weights = {f"conv{i}_{j}.conv1.weight": torch.rand(4, 3, 3, 3, generator=generator) for i in (0, 1) for j in (0, 1)}
    for name, legacy in (("new.pth", False), ("old.pth", True)):
        stream = io.BytesIO()
        torch.save({"state_dict": weights, "epoch": 3}, stream, _use_new_zipfile_serialization=not legacy)
        (folder / name).write_bytes(stream.getvalue())
        yield folder / name
    (folder / "other.safetensors").write_bytes(save(weights))
    yield folder / "other.safetensors"


def _import(path: Path) -> None:
    from unetpp.peers.checkpoint import read_checkpoint

    read_checkpoint(path)


def _run_exported(path: Path, image: np.ndarray) -> None:
    import unetpp

    unetpp.load(path).predict(image)
