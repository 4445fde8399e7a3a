"""Bad input through the command line: the right exit code, one clear message for each problem, no traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.tiny import TINY, Answer, run_cli, set_options, write_png


def assert_refused(answer: Answer, *words: str, code: int = 2) -> None:
    """The command ended as it should, and its message has these words."""
    text = answer.stdout + answer.stderr
    assert answer.code == code, text
    assert "Traceback" not in text
    assert "should not happen" not in text
    for word in words:
        assert word in text, f"{word!r} is not in:\n{text}"


def assert_train_refuses(data: Path, tmp_path: Path, *words: str) -> None:
    """`check` and `train` name the problem; nothing was trained, nothing written."""
    assert_refused(run_cli("check", data), *words)
    assert_refused(run_cli("train", data, "--out", tmp_path / "run", "--epochs", 1), *words)
    assert not (tmp_path / "run").exists()


def set_nifti(path: Path, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
    """Rewrite a NIfTI file with another array and affine."""
    found = nibabel.load(path)
    array, affine = change(np.asarray(found.dataobj), found.affine)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def test_masks_and_images_that_do_not_pair(cells: Path, tmp_path: Path) -> None:
    (cells / "masks" / "cells_03.png").rename(cells / "masks" / "other.png")
    assert_train_refuses(cells, tmp_path, "cells_03", "other")


def test_mask_of_another_size(cells: Path, tmp_path: Path) -> None:
    write_png(cells / "masks" / "cells_03.png", np.zeros((10, 12), np.uint8))
    assert_train_refuses(cells, tmp_path, "cells_03.png", "10", "12", "32", "40")


def test_truncated_image(cells: Path, tmp_path: Path) -> None:
    path = cells / "images" / "cells_03.png"
    path.write_bytes(path.read_bytes()[:200])
    assert_train_refuses(cells, tmp_path, "cells_03.png")


def test_empty_image(cells: Path, tmp_path: Path) -> None:
    (cells / "images" / "cells_03.png").write_bytes(b"")
    assert_train_refuses(cells, tmp_path, "cells_03.png", "empty")


def test_not_an_image(cells: Path, tmp_path: Path) -> None:
    (cells / "images" / "cells_03.png").write_text("This is not an image.")
    assert_train_refuses(cells, tmp_path, "cells_03.png")


def test_truncated_volume(bodies: Path, tmp_path: Path) -> None:
    path = bodies / "images" / "volume_03.nii.gz"
    path.write_bytes(path.read_bytes()[:300])
    assert_train_refuses(bodies, tmp_path, "volume_03.nii.gz")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite(bodies: Path, tmp_path: Path, value: float) -> None:
    def corrupt(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        array = array.astype(np.float32)
        array[2, 3, 4] = value
        return array, affine

    set_nifti(bodies / "images" / "volume_03.nii.gz", corrupt)
    assert_train_refuses(bodies, tmp_path, "volume_03.nii.gz", "NaN or infinite")


def test_one_empty_mask_is_a_note(cells: Path) -> None:
    write_png(cells / "masks" / "cells_03.png", np.zeros((32, 40), np.uint8))
    answer = run_cli("check", cells)
    assert answer.code == 0
    assert "note" in answer.stdout
    assert "cells_03" in answer.stdout


def test_only_empty_masks(cells: Path, tmp_path: Path) -> None:
    for path in (cells / "masks").iterdir():
        write_png(path, np.zeros((32, 40), np.uint8))
    assert_train_refuses(cells, tmp_path, "background")


def test_label_outside_the_declared_classes(bodies: Path, tmp_path: Path) -> None:
    root = tmp_path / "decathlon"
    shutil.copytree(bodies / "images", root / "imagesTr")
    shutil.copytree(bodies / "labels", root / "labelsTr")
    pairs = [
        {"image": f"./imagesTr/{path.name}", "label": f"./labelsTr/{path.name}"}
        for path in sorted((root / "imagesTr").iterdir())
    ]
    (root / "dataset.json").write_text(
        json.dumps(
            {
                "name": "x",
                "modality": {"0": "MRI"},
                "labels": {"0": "background", "1": "bright", "2": "dark"},
                "training": pairs,
                "test": [],
            }
        )
    )
    assert run_cli("check", root).code == 0
    set_nifti(
        root / "labelsTr" / "volume_02.nii.gz",
        lambda array, affine: (np.where(array == 2, 7, array).astype(np.uint8), affine),
    )
    assert_train_refuses(root, tmp_path, "volume_02.nii.gz", "7")


def test_mixed_channel_counts(bodies: Path, tmp_path: Path) -> None:
    set_nifti(bodies / "images" / "volume_02.nii.gz", lambda array, affine: (np.stack([array, array], axis=-1), affine))
    assert_train_refuses(bodies, tmp_path, "volume_02.nii.gz", "2 channels")


def test_volume_as_mask_of_an_image(cells: Path, tmp_path: Path) -> None:
    (cells / "masks" / "cells_03.png").unlink()
    nibabel.save(nibabel.Nifti1Image(np.zeros((40, 32, 4), np.uint8), np.eye(4)), cells / "masks" / "cells_03.nii.gz")
    assert_train_refuses(cells, tmp_path, "cells_03.nii.gz", "3D")


def test_affines_that_differ(bodies: Path, tmp_path: Path) -> None:
    def shift(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        affine = affine.copy()
        affine[:3, 3] += 10
        return array, affine

    set_nifti(bodies / "labels" / "volume_03.nii.gz", shift)
    assert_train_refuses(bodies, tmp_path, "volume_03.nii.gz", "origin")


def test_double_stems(cells: Path, tmp_path: Path) -> None:
    write_png(cells / "images" / "cells_03.bmp", np.zeros((32, 40), np.uint8))
    assert_train_refuses(cells, tmp_path, "cells_03")


def test_unreadable_file(cells: Path, tmp_path: Path, is_root: bool) -> None:
    if is_root:
        pytest.skip("root may read everything")
    path = cells / "images" / "cells_03.png"
    path.chmod(0)
    assert_train_refuses(cells, tmp_path, "cells_03.png", "ermission")
    path.chmod(0o600)


def test_all_problems_come_at_once(cells: Path) -> None:
    (cells / "images" / "cells_01.png").unlink()
    (cells / "images" / "cells_02.png").write_bytes(b"")
    (cells / "images" / "cells_04.png").write_text("no image")
    write_png(cells / "masks" / "cells_05.png", np.zeros((4, 4), np.uint8))
    answer = run_cli("check", cells, "--json")
    assert_refused(answer, "cells_01", "cells_02", "cells_04", "cells_05")
    assert len(answer.json["problems"]) == 4


@pytest.mark.parametrize("name", ["absent", "empty", "file.txt"])
def test_no_data_set(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    assert_train_refuses(tmp_path / name, tmp_path, name)


def test_predict_skips_a_bad_file_and_writes_the_rest(trained: Path, cells: Path, tmp_path: Path) -> None:
    (cells / "images" / "cells_02.png").write_text("no image")
    answer = run_cli("predict", trained, cells / "images", "--out", tmp_path / "out")
    assert_refused(answer, "cells_02.png", "9 images segmented", code=1)
    assert len(list((tmp_path / "out").glob("*.png"))) == 9
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [entry["id"] for entry in record["failed"]] == ["cells_02"]


def test_predict_of_absent_files(trained: Path, tmp_path: Path) -> None:
    assert_refused(
        run_cli("predict", trained, tmp_path / "absent.png", "--out", tmp_path / "out"),
        "absent.png",
        "expected images, or folders of them",
    )


@pytest.mark.parametrize("depth", ["0", "3", "auto", "-1"])
def test_predict_at_a_depth_that_is_not_there(trained: Path, cells: Path, tmp_path: Path, depth: str) -> None:
    for dry_run in ([], ["--dry-run"]):
        assert_refused(
            run_cli("predict", trained, cells / "images", "--out", tmp_path / "out", f"--depth={depth}", *dry_run),
            "depth",
            "[1, 2]",
        )


def test_predict_into_the_folder_of_its_input(trained: Path, cells: Path) -> None:
    before = (cells / "images" / "cells_00.png").read_bytes()
    assert_refused(run_cli("predict", trained, cells / "images", "--out", cells / "images"), "--out")
    assert (cells / "images" / "cells_00.png").read_bytes() == before


def damaged_models(model: Path, folder: Path) -> dict[str, Path]:
    whole = model.read_bytes()
    variants = {
        "truncated": whole[: len(whole) // 2],
        "header": whole[:50],
        "empty": b"",
        "text": b"not a model at all, but long enough to have a header",
        "version": whole.replace(b'"unetpp":"1"', b'"unetpp":"9"'),
    }
    paths = {}
    for name, content in variants.items():
        paths[name] = folder / f"{name}.safetensors"
        paths[name].write_bytes(content)
    return paths


@pytest.mark.parametrize("damage", ["truncated", "header", "empty", "text", "version"])
def test_damaged_model_files(trained: Path, tmp_path: Path, cells: Path, damage: str) -> None:
    path = damaged_models(trained / "fold_0" / "model.safetensors", tmp_path)[damage]
    assert_refused(run_cli("info", path), path.name)
    assert_refused(run_cli("predict", path, cells / "images", "--out", tmp_path / "out"), path.name)
    assert_refused(run_cli("prune", path, "--out", tmp_path / "small.safetensors", "--depth", 1), path.name)
    assert not (tmp_path / "small.safetensors").exists()


def test_a_pickle_is_not_opened(tmp_path: Path, cells: Path) -> None:
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    for name in ("model.safetensors", "model.pt"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        assert_refused(run_cli("predict", tmp_path / name, cells / "images", "--out", tmp_path / "out"), name)
    assert not (tmp_path / "exploded").exists()


def test_a_run_that_is_not_trained(cells: Path, tmp_path: Path) -> None:
    run_cli("plan", cells, "--out", tmp_path / "run", "--epochs", 1)
    told = run_cli("info", tmp_path / "run")
    assert told.code == 0 and "no fold has begun" in told.stdout and "Next: unetpp train" in told.stdout
    for verb in (
        ["predict", tmp_path / "run", cells / "images", "--out", tmp_path / "out"],
        ["prune", tmp_path / "run", "--out", tmp_path / "x.safetensors"],
    ):
        assert_refused(run_cli(*verb), "no fold has begun", "unetpp train")
    assert_refused(run_cli("report", tmp_path / "absent"), "absent")


def test_a_plan_with_an_unknown_key(cells: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_cli("plan", cells, "--out", run, "--epochs", 1)
    values = json.loads((run / "plan.json").read_text())
    values["train"]["bach"] = 4
    (run / "plan.json").write_text(json.dumps(values))
    assert_refused(run_cli("train", cells, "--out", run), "plan.json", "train.bach", "train.batch")
    (run / "plan.json").write_text("{")
    assert_refused(run_cli("train", cells, "--out", run), "plan.json", "not JSON")
    assert not (run / "fold_0").exists()


def test_a_plan_of_other_data(cells: Path, bodies: Path, tmp_path: Path) -> None:
    run_cli("plan", cells, "--out", tmp_path / "run", "--epochs", 1)
    (tmp_path / "run" / "splits.json").unlink()
    assert_refused(run_cli("train", bodies, "--out", tmp_path / "run"), "plan.json", "data.dims")


def test_splits_of_other_data(cells: Path, tmp_path: Path) -> None:
    run_cli("plan", cells, "--out", tmp_path / "run", "--epochs", 1)
    for folder in ("images", "masks"):
        (cells / folder / "cells_03.png").unlink()
    assert_refused(run_cli("train", cells, "--out", tmp_path / "run"), "splits.json", "cells_03")


def test_no_space_left_keeps_what_was_there(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small.safetensors"
    assert run_cli("prune", trained, "--out", small, "--depth", 1).code == 0
    before = small.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert_refused(run_cli("prune", trained, "--out", small, "--depth", 1), "No space left", "Free some space")
    assert small.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["small.safetensors"]


@pytest.mark.parametrize(("verb", "kilobytes"), [("prune", 4), ("train", 32)])
def test_a_file_system_that_refuses_large_files(trained: Path, tmp_path: Path, verb: str, kilobytes: int) -> None:
    """The real thing: the operating system stops the write of a model or a checkpoint in the middle."""
    model = tmp_path / "small.safetensors"
    shutil.copy(trained / "fold_0" / "model.safetensors", model)
    before = model.read_bytes()
    tokens = {
        "prune": ["prune", trained, "--out", model, "--depth", 1],
        "train": [
            "train",
            trained.parent / "data",
            "--out",
            tmp_path / "run",
            "--epochs",
            1,
            "--device",
            "cpu",
            *set_options(TINY),
        ],
    }
    command = [
        "bash",
        "-c",
        f'ulimit -f {kilobytes}; exec "$@"',
        "bash",
        sys.executable,
        "-m",
        "unetpp",
        *map(str, tokens[verb]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert_refused(Answer(done.returncode, done.stdout, done.stderr), "File too large", "Choose another --out")
    assert model.read_bytes() == before
    assert not list(tmp_path.rglob(".unetpp-*")), "a temporary file is left behind"


def test_out_where_nothing_can_be_written(trained: Path, cells: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert_refused(run_cli("predict", trained, cells / "images", "--out", tmp_path / "file" / "out"), "file")
    assert_refused(run_cli("train", cells, "--out", tmp_path / "file", "--epochs", 1), "file", "folder")
    assert (tmp_path / "file").read_text() == "x"


def test_evaluate_of_folders_that_do_not_pair(cells: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert_refused(run_cli("evaluate", tmp_path / "absent", cells / "masks"), "absent")
    assert_refused(run_cli("evaluate", tmp_path / "none", cells / "masks"), "none")


def test_evaluate_scores_the_rest(cells: Path, tmp_path: Path) -> None:
    shutil.copytree(cells / "masks", tmp_path / "predictions")
    (tmp_path / "predictions" / "cells_00.png").unlink()
    (tmp_path / "predictions" / "cells_01.png").write_bytes(b"")
    answer = run_cli("evaluate", tmp_path / "predictions", cells / "masks", "--json")
    assert_refused(answer, "cells_00", "cells_01", code=1)
    assert len(answer.json["cases"]) == 8
    assert answer.json["mean"]["dice"] == 1.0


@pytest.mark.parametrize("options", [[], ["--depth", 1, "--max-drop", 1], ["--depth", 5], ["--max-drop", -1]])
def test_prune_without_a_usable_depth(trained: Path, tmp_path: Path, options: list[object]) -> None:
    assert_refused(
        run_cli("prune", trained, "--out", tmp_path / "small.safetensors", *options),
        "--depth" if options != ["--max-drop", -1] else "--max-drop",
    )


def test_prune_into_a_name_that_is_no_model(trained: Path, tmp_path: Path) -> None:
    assert_refused(run_cli("prune", trained, "--out", tmp_path / "small.onnx", "--depth", 1), "--out", ".safetensors")
