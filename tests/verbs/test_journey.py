"""The journey end to end on tiny data: plan, train, stop, resume, predict, evaluate, report, prune."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, get_type_hints

import nibabel
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from tests.processes import Command
from tests.tiny import TINY, TINY_3D, run_cli, set_options

import unetpp
from unetpp.data.demo import write_demo_data
from unetpp.errors import Interrupted, ModelFileError, PlanError, UsageError
from unetpp.files import hold_lock
from unetpp.model.header import read_header, read_safetensors_header
from unetpp.model.weight_count import count_parameters
from unetpp.plan import read_plan
from unetpp.progress import Silence
from unetpp.report.html import render
from unetpp.report.run_record import read_run
from unetpp.train.trainer import FoldTraining
from unetpp.verbs import preparation
from unetpp.verbs.train import TrainOptions
from unetpp.words import write_command


def weights_agree(first: Path, second: Path) -> bool:
    a, b = load_file(first), load_file(second)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_a_run_holds_what_it_promises(trained: Path) -> None:
    assert {"plan.json", "fingerprint.json", "splits.json", "report.html", "fold_0"} <= {
        path.name for path in trained.iterdir()
    }
    assert {"model.safetensors", "last.ckpt", "log.jsonl", "metrics.json"} <= {
        path.name for path in (trained / "fold_0").iterdir()
    }


def test_metrics_cover_every_depth_and_case(trained: Path) -> None:
    metrics = json.loads((trained / "fold_0" / "metrics.json").read_text())
    validation = json.loads((trained / "splits.json").read_text())[0]["validation"]
    assert set(metrics["depths"]) == {"1", "2"}
    for row in metrics["depths"].values():
        assert 0 <= row["dice"] <= 1
        assert row["latency_ms"] > 0
        assert row["parameters"] > 0
    assert 0 <= metrics["mean_of_heads"]["dice"] <= 1
    assert metrics["mean_of_heads"]["dice_lost"] == pytest.approx(
        metrics["depths"]["2"]["dice"] - metrics["mean_of_heads"]["dice"]
    )
    assert metrics["mean_of_heads"]["latency_ms"] > metrics["depths"]["1"]["latency_ms"] / 2
    assert [case["id"] for case in metrics["cases"]] == validation
    assert metrics["mean"]["dice"] == pytest.approx(np.mean([case["mean"]["dice"] for case in metrics["cases"]]))
    assert metrics["depths"]["1"]["parameters"] < metrics["depths"]["2"]["parameters"]


def test_the_model_file_tells_its_scores(trained: Path) -> None:
    header = read_header(trained / "fold_0" / "model.safetensors")
    metrics = json.loads((trained / "fold_0" / "metrics.json").read_text())
    assert header.notes.to_dict()["depths"] == metrics["depths"]
    assert header.notes.unetpp == unetpp.__version__


def test_the_log_has_start_training_validation_and_end(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "fold_0" / "log.jsonl").read_text().splitlines()]
    assert {"start", "train", "validation", "end"} <= {line["kind"] for line in lines}


def test_predictor_takes_arrays(trained: Path) -> None:
    predictor = unetpp.load(trained, device="cpu")
    segmentation = predictor.predict(np.zeros((21, 45), np.uint8))
    assert segmentation.shape == (21, 45)
    assert set(np.unique(segmentation)) <= {0, 1}


def test_predict_evaluate_agree_with_the_run(trained: Path, tmp_path: Path) -> None:
    """Files predicted from the command line score what training reported, at every depth."""
    data = trained.parent / "data"
    validation = json.loads((trained / "splits.json").read_text())[0]["validation"]
    images = [data / "images" / f"{case}.png" for case in validation]
    for case in validation:
        (tmp_path / "masks").mkdir(exist_ok=True)
        shutil.copy(data / "masks" / f"{case}.png", tmp_path / "masks")
    assert (
        run_cli("predict", trained, *images, "--out", tmp_path / "out", "--depth", "all", "--backend", "torch").code
        == 0
    )
    answer = run_cli("evaluate", tmp_path / "out", tmp_path / "masks", "--out", tmp_path / "scores.json", "--json")
    metrics = json.loads((trained / "fold_0" / "metrics.json").read_text())
    assert answer.code == 0
    assert json.loads((tmp_path / "scores.json").read_text())["mean"] == answer.json["mean"]
    for depth in ("1", "2"):
        assert answer.json["depths"][depth]["dice"] == pytest.approx(metrics["depths"][depth]["dice"])


def test_prediction_has_the_values_and_the_size_of_the_masks(trained: Path, tmp_path: Path) -> None:
    image = trained.parent / "data" / "images" / "cells_00.png"
    answer = run_cli("predict", trained, image, "--out", tmp_path, "--json")
    found = np.asarray(Image.open(answer.json["files"][0]))
    assert found.shape == np.asarray(Image.open(image)).shape
    assert set(np.unique(found)) <= {0, 255}


def test_a_run_that_is_not_measured_predicts_and_says_so(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "fold_0", tmp_path / "run" / "fold_0")
    image = trained.parent / "data" / "images" / "cells_00.png"
    said = "fold 0 has no scores"
    assert said not in run_cli("predict", tmp_path / "run", image, "--out", tmp_path / "out").stdout
    (tmp_path / "run" / "fold_0" / "metrics.json").unlink()
    assert said in " ".join(run_cli("predict", tmp_path / "run", image, "--out", tmp_path / "out").stdout.split())


def test_maps_are_written_where_asked_for(trained: Path, tmp_path: Path) -> None:
    image = trained.parent / "data" / "images" / "cells_00.png"
    assert (
        run_cli(
            "predict", trained, image, "--out", tmp_path, "--probabilities", "--uncertainty", "disagreement", "--tta"
        ).code
        == 0
    )
    assert (tmp_path / "uncertainty" / "cells_00.tif").exists()
    assert list((tmp_path / "probabilities").iterdir())


def test_predict_dry_run_lists_and_writes_nothing(trained: Path, tmp_path: Path) -> None:
    answer = run_cli("predict", trained, trained.parent / "data", "--out", tmp_path / "out", "--dry-run")
    assert answer.code == 0
    assert "10 images" in answer.stdout
    assert not (tmp_path / "out").exists()


def test_a_prediction_reads_the_header_of_a_model_once(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def count(path: Path) -> Any:
        read.append(path)
        return read_safetensors_header(path)

    monkeypatch.setattr("unetpp.model.header.read_safetensors_header", count)
    unetpp.predict(trained, next((trained.parent / "data/images").iterdir()), tmp_path / "out", device="cpu")
    assert read == [trained / "fold_0/model.safetensors"]


def test_prune_gives_what_depth_gives(trained: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.safetensors"
    answer = run_cli("prune", trained, "--out", small, "--depth", 1, "--json")
    assert answer.code == 0
    assert answer.json["parameters"] < answer.json["parameters_before"]
    image = np.random.default_rng(0).integers(0, 255, (40, 33), np.uint8)
    expected = unetpp.load(trained, device="cpu").predict(image, depth=1)
    assert np.array_equal(unetpp.load(small, device="cpu").predict(image), expected)


def test_prune_by_how_much_may_be_lost(trained: Path, tmp_path: Path) -> None:
    answer = run_cli("prune", trained, "--out", tmp_path / "small.safetensors", "--max-drop", 100, "--json")
    assert answer.code == 2 and "hardly learned" in answer.stderr  # nothing is chosen by scores that say nothing


@pytest.mark.parametrize("verb", ["info", "predict", "prune", "export", "adapt"])
def test_verbs_take_a_model_of_the_hub(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    downloaded = []
    monkeypatch.setattr("unetpp.infer.hub_file.download", lambda name: downloaded.append(name) or trained)
    rest = {
        "info": [],
        "predict": [trained.parent / "data", "--out", tmp_path / "out", "--dry-run"],
        "prune": ["--out", tmp_path / "small.safetensors", "--depth", 1],
        "export": ["--out", tmp_path / "model.unknown"],
        "adapt": ["--device", "gpu"],
    }
    answer = run_cli(verb, "hf://owner/name", *rest[verb])
    assert downloaded == ["owner/name"]
    assert answer.code == (0 if verb in ("info", "predict", "prune") else 2)


def test_report_is_one_file(trained: Path) -> None:
    answer = run_cli("report", trained)
    html = (trained / "report.html").read_text()
    assert answer.code == 0
    assert str(trained / "report.html") in answer.stdout
    assert "<html" in html
    assert 'src="http' not in html


def test_info_of_a_run(trained: Path) -> None:
    values = run_cli("info", trained, "--json").json
    assert values["plan"]["data"]["classes"] == ["background", "foreground"]
    assert set(values["notes"]["depths"]) == {"1", "2"}


def test_a_run_with_shells_names_its_sizes(cells: Path, tmp_path: Path) -> None:
    run, shells = tmp_path / "run", {"model.shells": [0.5, 1], "model.norm": "instance", "predict.depth": 4}
    trained = unetpp.train(cells, run, epochs=2, device="cpu", set=TINY | shells)
    metrics = json.loads((run / "fold_0" / "metrics.json").read_text())
    sizes = [(row["depth"], row["channels"]) for row in metrics["depths"].values()]
    assert sizes == [(1, 2), (2, 2), (1, 4), (2, 4)]
    page, text = (run / "report.html").read_text(), trained.to_text()
    for name in ("1x2", "2x2", "1x4", "2x4"):
        assert name in text and name in unetpp.info(run).to_text() and name in page
    assert "widths [4, 8, 8] in shells [2, 4], instance norm" in unetpp.info(run).to_text()
    assert "Quality and cost of every size" in page and "size 2x4" in page
    assert not re.search("(?i)at every depth|depth 4|predict --depth", page)
    assert "unetpp predict --size mean" in page and "pruned to the size" in text
    table = text.partition("  costs: ")[0].splitlines()
    assert max(map(len, table[1:])) <= 80


def test_a_trained_run_is_not_overwritten(trained: Path) -> None:
    before = (trained / "fold_0" / "model.safetensors").read_bytes()
    for verb in ("train", "plan"):
        answer = run_cli(verb, trained.parent / "data", "--out", trained, "--epochs", 1)
        assert answer.code == 2
        assert "--resume" in answer.stderr
    assert (trained / "fold_0" / "model.safetensors").read_bytes() == before


def test_a_fold_is_trained_by_one_process(cells: Path, tmp_path: Path) -> None:
    with hold_lock(tmp_path / "run" / "fold_0" / ".lock") as held:
        assert held
        for resume in (False, True):
            with pytest.raises(UsageError, match="a fold that is being trained"):
                unetpp.train(cells, tmp_path / "run", epochs=1, device="cpu", set=TINY, resume=resume)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_a_fold_that_is_being_trained_is_not_called_trained(cells: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "fold_0"
    with hold_lock(folder / ".lock"):
        (folder / "last.ckpt").touch()
        with pytest.raises(UsageError, match="a fold that is being trained"):
            unetpp.train(cells, tmp_path / "run", epochs=1, device="cpu", set=TINY)


def test_ctrl_c_before_training_says_that_nothing_was_written(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "make_plan", stop)
    with pytest.raises(Interrupted, match="before training began; nothing was written"):
        unetpp.train(cells, tmp_path / "run", epochs=1, device="cpu", set=TINY)


def test_an_interrupted_training_says_how_it_is_continued(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(FoldTraining, "_validate_if_due", stop)
    command = write_command("train", cells, "--out", tmp_path / "run", "--fold", 1, "--resume")
    with pytest.raises(Interrupted, match=f"saved. Continue: {re.escape(command)}"):
        unetpp.train(cells, tmp_path / "run", epochs=1, fold=1, device="cpu", set=TINY)


def test_of_two_jobs_the_second_says_that_it_waits_for_the_plan(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, waits = tmp_path / "run" / ".lock", threading.Event()

    def plan() -> None:
        with hold_lock(lock):
            waits.wait(60)

    def hear(_: object, text: str) -> None:
        if text.startswith("Waiting for another job"):
            waits.set()

    monkeypatch.setattr(Silence, "note", hear)
    other = threading.Thread(target=plan)
    other.start()
    while not lock.exists():
        time.sleep(0.01)
    unetpp.train(cells, lock.parent, epochs=1, device="cpu", set=TINY, progress=Silence())
    assert waits.is_set()
    other.join()


def test_resuming_a_finished_run_changes_nothing(trained: Path) -> None:
    before = (trained / "fold_0" / "model.safetensors").read_bytes()
    run = unetpp.train(trained.parent / "data", trained, epochs=2, device="cpu", resume=True)
    assert run.folds[0].reason == "finished"
    assert (trained / "fold_0" / "model.safetensors").read_bytes() == before


def test_a_model_that_lost_its_checkpoint_is_not_trained_over(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = (run / "fold_0" / "model.safetensors").read_bytes()
    (run / "fold_0" / "last.ckpt").unlink()
    found = unetpp.train(trained.parent / "data", run, device="cpu", resume=True).folds[0]
    assert (found.reason, found.metrics.to_dict()) == (
        "finished",
        json.loads((run / "fold_0" / "metrics.json").read_text()),
    )
    (run / "fold_0" / "metrics.json").unlink()
    with pytest.raises(UsageError, match=r"got a model without last\.ckpt and metrics\.json"):
        unetpp.train(trained.parent / "data", run, device="cpu", resume=True)
    assert (run / "fold_0" / "model.safetensors").read_bytes() == before


def test_a_length_may_come_by_set(cells: Path, tmp_path: Path) -> None:
    planned = unetpp.plan(cells, tmp_path / "run", device="cpu", set=TINY | {"train.minutes": "0.5"}, dry_run=True)
    assert planned.plan.train.minutes == 0.5
    assert "given" in planned.plan.reasons["train.minutes"]
    with pytest.raises(UsageError, match="got both"):
        unetpp.plan(cells, tmp_path / "run", device="cpu", minutes=1, set={"train.epochs": 3}, dry_run=True)
    with pytest.raises(PlanError, match=r"train\.minutes"):
        unetpp.plan(cells, tmp_path / "run", device="cpu", set={"train.minutes": "long"}, dry_run=True)


def test_a_dry_run_of_all_folds_counts_all_of_them(cells: Path, tmp_path: Path) -> None:
    planned = unetpp.train(cells, tmp_path / "run", minutes=1, fold="all", device="cpu", set=TINY, dry_run=True)
    assert planned.train_minutes == pytest.approx(1)
    assert planned.folds == 5
    assert "Training: 5 folds of 0.2 minutes" in planned.to_text()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", [{"epochs": 3}, {"minutes": 1.0}, {"seed": 7}, {"set": {"train.batch": 1}}])
def test_resuming_with_another_plan_is_refused(trained: Path, option: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="fold 0 was trained"):
        unetpp.train(trained.parent / "data", trained, device="cpu", resume=True, **option)


@pytest.mark.parametrize("key", ["predict.depth", "predict.size"])
def test_another_size_for_all_predictions_of_a_trained_run_is_refused_with_what_to_do(trained: Path, key: str) -> None:
    with pytest.raises(UsageError, match=rf"{key}: got 1; .* Give `depth` or `size` to `unetpp predict` each time"):
        unetpp.train(trained.parent / "data", trained, device="cpu", resume=True, set={key: 1})


def test_a_plan_that_was_edited_after_the_training_changes_neither_predictions_nor_the_report(
    trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    plan, image = read_plan(run / "plan.json"), trained.parent / "data" / "images" / "cells_00.png"
    said = unetpp.predict(run, image, tmp_path / "out", device="cpu")
    assert not any("plan.json" in each for each in said.notes)
    (run / "plan.json").write_text(plan.changed({"predict.depth": 1}).to_json())
    said = unetpp.predict(run, image, tmp_path / "out", device="cpu")
    assert said.depths == (2,)
    assert any("plan.json has another predict.depth than the model, which keeps its own" in each for each in said.notes)
    assert read_run(run).plan.predict.depth == 2
    (run / "fold_0" / "metrics.json").unlink()
    with pytest.raises(ModelFileError, match=r"differs in predict\.depth; .* Give `depth` or `size`"):
        unetpp.train(trained.parent / "data", run, device="cpu", resume=True)


def test_parameters_are_those_of_the_whole_network_or_of_a_depth_and_it_is_said_which(trained: Path) -> None:
    found, row = unetpp.info(trained), unetpp.info(trained).notes
    whole = f"{found.parameters:,} parameters with all heads"
    assert found.parameters == count_parameters(found.plan.model) == row.mean_of_heads.parameters
    assert row.depths[2].parameters < found.parameters
    assert f"{whole}, " in found.to_text() and "parameters: of the network pruned to the depth" in found.to_text()
    assert f"{whole}</p>" in render(read_run(trained))[0]


def test_an_edited_plan_is_used(cells: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    unetpp.plan(cells, run, epochs=1, device="cpu", set=TINY)
    values = json.loads((run / "plan.json").read_text())
    values["model"]["widths"] = [6, 8, 10]
    (run / "plan.json").write_text(json.dumps(values))
    unetpp.train(cells, run, device="cpu")
    assert read_header(run / "fold_0" / "model.safetensors").plan.model.widths == (6, 8, 10)


def test_an_edited_split_is_used(cells: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    unetpp.plan(cells, run, epochs=1, device="cpu", set=TINY)
    split = {"train": [f"cells_{n:02d}" for n in range(7)], "validation": ["cells_07", "cells_09"]}
    (run / "splits.json").write_text(json.dumps([split]))
    trained = unetpp.train(cells, run, device="cpu")
    assert [case.id for case in trained.folds[0].metrics.cases] == split["validation"]


def test_same_seed_same_weights_and_another_seed_others(cells: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        unetpp.train(cells, tmp_path / name, epochs=1, seed=seed, device="cpu", set=TINY)
    models = [tmp_path / name / "fold_0" / "model.safetensors" for name in "abc"]
    assert weights_agree(models[0], models[1])
    assert not weights_agree(models[0], models[2])
    assert len({(tmp_path / name / "splits.json").read_text() for name in "abc"}) == 1


def test_minutes_are_kept(cells: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    run = unetpp.train(cells, tmp_path / "run", minutes=0.3, device="cpu", set=TINY)
    assert run.folds[0].steps > 3
    assert time.monotonic() - started < 60 * 0.3 + 12


def test_all_folds_answer_together(cells: Path, tmp_path: Path) -> None:
    for case in range(3, 10):
        for folder in ("images", "masks"):
            (cells / folder / f"cells_{case:02d}.png").unlink()
    run = unetpp.train(cells, tmp_path / "run", epochs=1, fold="all", device="cpu", set=TINY)
    assert len(run.folds) == 3
    assert len(unetpp.load(tmp_path / "run", device="cpu").networks) == 3
    assert sorted(case.id for fold in run.folds for case in fold.metrics.cases) == [
        "cells_00",
        "cells_01",
        "cells_02",
    ]
    assert run_cli("prune", tmp_path / "run", "--out", tmp_path / "x.safetensors", "--depth", 1).code == 2


def test_volumes_keep_their_grid(bodies: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    unetpp.train(bodies, run, epochs=1, device="cpu", set=TINY_3D)
    image = bodies / "images" / "volume_00.nii.gz"
    answer = run_cli("predict", run, image, "--out", tmp_path / "out", "--json")
    assert answer.code == 0
    source, found = nibabel.load(image), nibabel.load(answer.json["files"][0])
    assert found.shape == source.shape
    assert np.array_equal(found.affine, source.affine)
    assert set(np.unique(np.asarray(found.dataobj))) <= {0, 1, 2}


LONGER = TINY | {"train.steps_per_epoch": 60, "train.checkpoint_minutes": 0.001}


def start_training(cells: Path, run: Path, *more: str) -> Command:
    return Command("train", cells, "--out", run, "--epochs", 2, "--device", "cpu", *more, *set_options(LONGER))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped, its data in `data/`."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    write_demo_data(folder / "data", 2, cases=10, shape=(32, 40))
    unetpp.train(folder / "data", folder / "run", epochs=2, device="cpu", set=LONGER)
    return folder / "run"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_stopped_run_resumes_to_the_same_weights(uninterrupted: Path, tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    process = start_training(uninterrupted.parent / "data", run)
    wait_for(run / "fold_0" / "last.ckpt", process)
    process.send_signal(number)
    _, stderr = process.communicate()
    assert "Traceback" not in stderr
    assert process.returncode == (1 if number != signal.SIGKILL else -signal.SIGKILL)
    assert number == signal.SIGKILL or "--resume" in stderr
    assert not (run / "fold_0" / "metrics.json").exists(), "training had ended before it was stopped"
    unetpp.train(uninterrupted.parent / "data", run, device="cpu", resume=True)
    assert weights_agree(uninterrupted / "fold_0" / "model.safetensors", run / "fold_0" / "model.safetensors")


def wait_for(path: Path, process: Command) -> None:
    for _ in range(6000):
        if path.exists() or process.poll() is not None:
            return
        time.sleep(0.05)


def test_loading_imports_no_training_code(trained: Path) -> None:
    """A model loads without any training code."""
    names = "[name for name in sys.modules if f'{name}.'.startswith('unetpp.train.')]"
    code = f"import sys, unetpp; unetpp.load({str(trained)!r}, device='cpu'); print({names})"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_demo_data_is_the_same_for_a_seed(tmp_path: Path) -> None:
    for dims, name in ((2, "images/cells_00.png"), (3, "labels/volume_00.nii.gz")):
        first, second, other = (
            write_demo_data(tmp_path / f"{dims}{run}", dims, cases=1, shape=(8, 12, 12)[3 - dims :], seed=seed)
            for run, seed in (("a", 0), ("b", 0), ("c", 1))
        )
        if dims == 2:
            assert (first / name).read_bytes() == (second / name).read_bytes() != (other / name).read_bytes()
        else:
            arrays = [np.asarray(nibabel.load(folder / name).dataobj) for folder in (first, second, other)]
            assert np.array_equal(arrays[0], arrays[1])
            assert not np.array_equal(arrays[0], arrays[2])


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_demo(tmp_path: Path, dims: int) -> None:
    run = tmp_path / "run"
    answer = run_cli("demo", "--dims", dims, "--minutes", 0.4, "--out", run)
    assert answer.code == 0, answer.stderr
    assert (run / "report.html").exists()
    assert "unetpp prune" in answer.stdout
    unseen = json.loads((run / "splits.json").read_text())[0]["validation"]
    assert {path.name.split(".")[0] for path in (run / "predictions").iterdir()} == {*unseen, "predictions"}


def test_the_overloads_of_train_take_every_argument() -> None:
    named = {"data", "out", "dry_run", "part", *get_type_hints(TrainOptions)}
    assert named == set(inspect.signature(unetpp.train).parameters)


def test_what_nobody_labeled_and_what_is_no_number_from_the_folder_to_the_segmentation(
    bodies: Path, tmp_path: Path
) -> None:
    """nnU-Net's ignore label and NaN around the body: the plan knows both, so that later verbs need no setting."""
    for folder, name in (("imagesTr", "images"), ("labelsTr", "labels")):
        (bodies / name).rename(bodies / folder)
        for path in (bodies / folder).iterdir():
            found = nibabel.load(path)
            array = np.asanyarray(found.dataobj).astype(np.float32 if name == "images" else np.uint8)
            array[:, :3] = np.nan if name == "images" else 3
            nibabel.save(nibabel.Nifti1Image(array, found.affine), path)
    labels = {"background": 0, "bright": 1, "dark": 2, "ignore": 3}
    (bodies / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MRI"}, "labels": labels}))
    run = tmp_path / "run"
    assert any("NaN" in problem.got for problem in unetpp.check(bodies).problems)
    unetpp.plan(bodies, run, epochs=1, device="cpu", set=TINY_3D | {"data.fill": 0})
    trained = unetpp.train(bodies, run, device="cpu")
    assert read_header(run / "fold_0" / "model.safetensors").plan.data.fill == 0
    assert (run / "report.html").is_file()
    unetpp.predict(run, bodies / "imagesTr", out=tmp_path / "out", device="cpu")
    for path in (tmp_path / "out").glob("*.nii.gz"):
        assert set(np.unique(np.asanyarray(nibabel.load(path).dataobj))) <= {0, 1, 2}
    scored = unetpp.evaluate(tmp_path / "out", bodies / "labelsTr")  # by predictions.json; a folder declares nothing
    expected = {case.id: case.mean.dice for case in trained.folds[0].metrics.cases}
    assert {case.id: case.mean.dice for case in scored.metrics.cases if case.id in expected} == pytest.approx(expected)
    exported = unetpp.export(run, tmp_path / "model.onnx")
    assert unetpp.load(exported.out).data.fill == 0


def test_data_sets_of_nnunet_as_users_bring_them(cases: Path, tmp_path: Path) -> None:
    root = cases / "3d" / "nnunet-regions-and-ignore"
    assert not unetpp.check(root / "regions").problems
    ignored = unetpp.check(root / "ignore")
    assert not ignored.problems
    assert any("nobody labeled" in note for note in ignored.notes)
    settings = TINY_3D | {"train.patch": [8, 16, 16]}
    regions = unetpp.plan(root / "regions", tmp_path / "regions", epochs=1, device="cpu", set=settings, dry_run=True)
    found = {region.name: region.values for region in regions.plan.data.regions or ()}
    assert found == {"whole": (1, 2), "core": (2,)}
    planned = unetpp.plan(root / "nonorm", tmp_path / "run", epochs=1, device="cpu", set=settings, dry_run=True)
    (normalization,) = planned.plan.data.normalization
    assert (normalization.per_case, normalization.mean, normalization.std) == (False, 0, 1)


def test_the_run_folder_is_named_after_the_data(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plan is trained on, a trained run is left alone, other folds join it, and the newest is resumed."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no runs/cells"):
        unetpp.train(cells, resume=True)
    assert unetpp.plan(cells, epochs=1, device="cpu", set=TINY).run == Path("runs/cells")
    assert capsys.readouterr().err.startswith("Run folder: runs/cells\n")
    planned = unetpp.train(cells, epochs=1, device="cpu", dry_run=True)
    assert planned.run == Path("runs/cells")
    (tmp_path / "runs/cells/fold_0").mkdir()
    (tmp_path / "runs/cells/fold_0/model.safetensors").touch()
    folders = {
        fold: unetpp.train(cells, epochs=1, device="cpu", fold=fold, set=TINY, dry_run=True).run.name
        for fold in (0, 1, "all")
    }
    assert folders == {0: "cells_2", 1: "cells", "all": "cells_2"}
    assert unetpp.plan(cells, epochs=1, device="cpu", set=TINY).run == Path("runs/cells_2")
    resumed = unetpp.train(cells, device="cpu", resume=True, dry_run=True, progress=False)
    assert resumed.run == Path("runs/cells_2")


def test_a_training_begins_with_four_lines_and_when_resumed_without(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (cells, tmp_path / "run")
    unetpp.train(*words, epochs=1, device="cpu", set=TINY)
    begun = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert [word for word in begun if word in ("Data", "Network", "Training", "Ends")] == [
        "Data",
        "Network",
        "Training",
        "Ends",
    ]
    unetpp.train(*words, device="cpu", resume=True)
    assert "Data:" not in capsys.readouterr().err


def test_a_size_that_is_not_there_is_refused_without_torch(trained: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from unetpp import cli; sys.exit(cli.run(sys.argv[1:]))"
    for words in (("predict", trained, tmp_path), ("prune", trained)):
        tokens = [*words, "--out", tmp_path / "out.safetensors", "--depth", "7"]
        said = subprocess.run([sys.executable, "-c", code, *map(str, tokens)], capture_output=True, text=True)
        assert said.returncode == 2 and re.search(r"--depth: got '?7'?; expected .*one of \[1, 2\]", said.stderr)


def test_info_has_the_verdict_where_train_has_it(trained: Path) -> None:
    found = unetpp.info(trained).to_dict()
    assert found["verdict"]["kind"] == "too short" and found["verdict"] == found["notes"]["verdict"]
