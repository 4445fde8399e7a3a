"""Selection: from trained runs to one folder that predicts with what was chosen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from tests.tiny import TINY, run_cli
from tests.train.test_regions import write_spheres

import unetpp
from unetpp.data.demo import write_demo_data
from unetpp.data.folds import make_splits, read_splits, write_splits
from unetpp.data.parts import split_dataset
from unetpp.deploy.select.calibrating import compute_ece, fit_temperature
from unetpp.deploy.select.candidates import Counted, Key, Tiles, judge_candidates, list_candidates
from unetpp.deploy.select.post_processing import choose_steps, choose_thresholds, count
from unetpp.deploy.select.runs import FoldPredictors, open_runs
from unetpp.deploy.select.scoring import score_candidates
from unetpp.deploy.select.study import CaseStore
from unetpp.errors import ModelFileError, UsageError
from unetpp.infer.selected import SelectedPredictor
from unetpp.layouts.cases import find_cases
from unetpp.measure.quality import evaluate_cases
from unetpp.run_folder import RunFolder
from unetpp.selection import HOLES, LARGEST, SELECTED, SMALLEST, Selection, Step, read_selection
from unetpp.verbs.preparation import recall_reading
from unetpp.verbs.request import read_reading

MORE = TINY | {"model.topology": "unet", "model.widths": [6, 8, 8]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A UNet++ of two folds, of which something is selected, and a plain U-Net of one of them, of the same data."""
    folder = tmp_path_factory.mktemp("select")
    write_demo_data(folder / "data", 2, cases=12, shape=(32, 40))
    splits = make_splits(find_cases(folder / "data").cases, folds=2)
    for run in ("nested", "plain"):
        (folder / run).mkdir()
        write_splits(folder / run / "splits.json", splits)
    unetpp.train(folder / "data", folder / "nested", epochs=2, device="cpu", set=TINY, fold="all", select=True)
    unetpp.train(folder / "data", folder / "plain", epochs=2, device="cpu", set=MORE, fold=0)
    return folder / "nested", folder / "plain"


@pytest.fixture(scope="module")
def chosen(runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was selected of the two; read it only."""
    out = tmp_path_factory.mktemp("chosen") / "out"
    said = run_cli("select", *runs, "--out", out, "--device", "cpu")
    assert said.code == 0, said.stderr
    assert "Next: unetpp predict" in said.stdout and "* 0." in said.stdout
    return out


def test_training_of_all_folds_selects_at_its_end(runs: tuple[Path, Path]) -> None:
    found = read_selection(runs[0] / "selected")
    assert len(found.cases) == 12 and len(found.members[0].files) == 2
    assert {each.name for each in found.candidates} >= {"nested depth 1", "nested depth 2, mirrored"}
    said = run_cli("train", runs[0].parent / "data", "--out", runs[0].parent / "new", "--select")
    assert said.code == 2 and "--fold all" in said.stderr


def rewrite(folder: Path, **changes: object) -> Path:
    """Change select.json, as if it had been chosen so."""
    content = json.loads((folder / SELECTED).read_text(encoding="utf-8"))
    (folder / SELECTED).write_text(json.dumps(content | changes), encoding="utf-8")
    return folder


def test_from_runs_to_a_folder_that_predicts(
    runs: tuple[Path, Path], chosen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read_selection(chosen)
    shared = read_splits(runs[0] / "splits.json")[0].validation
    assert sorted(found.cases) == sorted(shared)
    names = [each.name for each in found.candidates]
    assert len(set(names)) == len(names)
    for part in ("nested depth 1", "nested depth 2", "plain depth 2", "nested depth 2 + plain depth 2"):
        assert {part, f"{part}, mirrored"} <= set(names)
    assert sum(each.best for each in found.candidates) == sum(each.chosen for each in found.candidates) == 1
    assert all(each.ms and each.lost_interval for each in found.candidates)
    page = (chosen / "select.html").read_text(encoding="utf-8")
    assert "nested depth 2 + plain depth 2, mirrored" in page and "What was compared" in page
    moved = shutil.copytree(chosen, tmp_path / "moved")
    said = run_cli("predict", moved, runs[0].parent / "data" / "images", "--out", tmp_path / "out", "--device", "cpu")
    assert said.code == 0, said.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 12
    told = run_cli("info", moved)
    assert told.code == 0 and found.describe_what() in told.stdout
    assert run_cli("info", moved, "--json").json["selection"]["members"]


def test_scores_are_those_of_evaluate(runs: tuple[Path, Path]) -> None:
    opened = open_runs(runs[:1])
    dataset = find_cases(runs[0].parent / "data")
    cases = [case for case in dataset.cases if case.id in opened[0].validated]
    keys = [Key(((0, size),), False) for size in opened[0].sizes.numbers]
    predictors = FoldPredictors(opened, unetpp.load(runs[0], "cpu").device)
    scored = score_candidates(opened, keys, cases, predictors, lambda done, total: None)
    assert [case.id for case in scored.cases] == [case.id for case in cases]
    for case, *counts in zip(cases, *(scored.counts[key] for key in keys), strict=True):
        file = opened[0].files[opened[0].validated[case.id]]
        expected = evaluate_cases(unetpp.load(file, "cpu", "torch"), [case])
        for key, counted in zip(keys, counts, strict=True):
            assert counted.dice() == pytest.approx(expected[key.members[0][1]].mean.dice, abs=1e-6)


def test_a_pair_averages_its_runs_and_loads_weights_once(
    runs: tuple[Path, Path], chosen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = rewrite(make_pair(runs, chosen, tmp_path), tta=True)
    loads: list[Path] = []
    from unetpp.infer import predictor as module

    load = module.load_model
    monkeypatch.setattr(module, "load_model", lambda path: (loads.append(path), load(path))[1])
    selected = unetpp.load(folder, "cpu", "torch")
    images = sorted((runs[0].parent / "data" / "images").iterdir())[:3]
    found = [selected.predict(image, probabilities=True) for image in images]
    assert len(loads) == 2
    singles = [unetpp.load(run / "fold_0" / "model.safetensors", "cpu", "torch") for run in runs]
    for image, prediction in zip(images, found, strict=True):
        parts = [each.predict(image, depth=2, tta=True, probabilities=True).probabilities for each in singles]
        np.testing.assert_allclose(prediction.probabilities, np.mean(parts, axis=0), atol=1e-5)


def test_threshold_temperature_and_steps_take_effect(runs: tuple[Path, Path], chosen: Path, tmp_path: Path) -> None:
    image = sorted((runs[0].parent / "data" / "images").iterdir())[0]
    plain = {"steps": [], "threshold": 0.5, "temperature": {"value": 1.0}}
    folder = rewrite(shutil.copytree(chosen, tmp_path / "plain"), **plain)
    level = float(np.median(unetpp.load(folder, "cpu", "torch").predict(image, probabilities=True).probabilities[1]))
    rewrite(folder, threshold=level)
    before = unetpp.load(folder, "cpu", "torch").predict(image, probabilities=True)
    np.testing.assert_array_equal(before.segmentation, before.probabilities[1] > np.float32(level))
    rewrite(folder, temperature={"value": 2.0})
    hot = unetpp.load(folder, "cpu", "torch").predict(image, probabilities=True)
    np.testing.assert_array_equal(hot.segmentation, before.segmentation)
    assert np.abs(hot.probabilities - 0.5).mean() < np.abs(before.probabilities - 0.5).mean()
    assert hot.confidence != before.confidence
    rewrite(folder, steps=[{"kind": "largest", "classes": [1]}])
    cleaned = unetpp.load(folder, "cpu", "torch").predict(image)
    assert ndimage.label(cleaned, np.ones((3, 3)))[1] == 1
    assert (before.segmentation >= cleaned).all()


def test_files_are_predicted_with_all_of_it(runs: tuple[Path, Path], chosen: Path, tmp_path: Path) -> None:
    folder = rewrite(
        shutil.copytree(chosen, tmp_path / "m"), steps=[{"kind": "smallest", "classes": [1], "voxels": 10000}]
    )
    images = runs[0].parent / "data" / "images"
    assert run_cli("predict", folder, images, "--out", tmp_path / "out", "--device", "cpu").code == 0
    assert not any(np.asarray(Image.open(file)).any() for file in (tmp_path / "out").glob("*.png"))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["--depth", "1"], "which was selected"),
        (["--size", "mean"], "which was selected"),
        (["--depth", "auto"], "which was selected"),
    ],
)
def test_another_size_is_refused(chosen: Path, runs: tuple[Path, Path], tokens: list[str], message: str) -> None:
    wanted = str(3 - read_selection(chosen).members[0].size) if tokens[1] == "1" else tokens[1]
    images = runs[0].parent / "data" / "images"
    said = run_cli("predict", chosen, images, "--out", chosen / "x", tokens[0], wanted)
    assert (said.code, message in said.stderr) == (2, True), said.stderr


def test_a_cost_limits_the_choice(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="which the fastest candidate takes"):
        unetpp.select(runs[1], tmp_path / "out", max_ms=1e-6, device="cpu")
    assert not (tmp_path / "out").exists()
    found = unetpp.select(runs[1], tmp_path / "out", max_ms=1e6, minutes=5, device="cpu").selection
    assert found.max_ms == 1e6 and "at most 1e+06 ms" in found.reason


def test_runs_that_cannot_be_compared_are_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    nested, plain = runs
    other = shutil.copytree(plain, tmp_path / "other")
    (other / "data.txt").write_text(str(tmp_path), encoding="utf-8")
    alone = shutil.copytree(plain, tmp_path / "alone")
    (alone / "fold_0").rename(alone / "fold_none")
    shifted = shutil.copytree(plain, tmp_path / "shifted")
    splits = json.loads((shifted / "splits.json").read_text(encoding="utf-8"))
    (shifted / "splits.json").write_text(json.dumps(splits[::-1]), encoding="utf-8")
    begun = shutil.copytree(plain, tmp_path / "begun")
    (begun / "fold_0" / "metrics.json").unlink()
    for given, message in {
        (nested, tmp_path / "gone"): "where nothing is",
        (nested, nested.parent / "data"): "no run folder",
        (nested, nested): "twice",
        (nested, other): "runs of one data set",
        (nested, alone): "trained on all cases: it has no scores",
        (plain, shifted): "no case that all have validated",
        (nested, begun): "runs that are finished",
    }.items():
        with pytest.raises(UsageError, match=message):
            unetpp.select(given, tmp_path / "out", device="cpu")
    with pytest.raises(UsageError, match="which holds something else"):
        unetpp.select([nested, plain], nested, device="cpu")
    shutil.rmtree(tmp_path / "other")


def test_other_classes_are_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    from unetpp.model.file import load_model, save_model

    other = shutil.copytree(runs[1], tmp_path / "other")
    file = other / "fold_0" / "model.safetensors"
    network, header = load_model(file)
    data = header.plan.data.model_copy(update={"classes": ("background", "other")})
    save_model(file, network.state_dict(), header.plan.model_copy(update={"data": data}), header.notes)
    with pytest.raises(UsageError, match=r"data\.classes"):
        unetpp.select([runs[0], other], tmp_path / "out", device="cpu")


def test_a_selection_is_no_run(chosen: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Name the runs that it was made of"):
        unetpp.select(chosen, tmp_path / "out", device="cpu")
    with pytest.raises(UsageError, match="a folder that `unetpp select` wrote"):
        unetpp.prune(chosen, tmp_path / "small.safetensors", depth=1)
    broken = shutil.copytree(chosen, tmp_path / "broken")
    rewrite(broken, steps=[{"kind": "largest", "classes": [7]}])
    with pytest.raises(ModelFileError, match="post-processing of more than"):
        unetpp.load(broken, "cpu")


def test_an_exported_file_holds_all_of_it(runs: tuple[Path, Path], chosen: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(chosen, tmp_path / "m")
    steps = [{"kind": "smallest", "classes": [1], "voxels": 4}, {"kind": "holes", "classes": [1]}]
    rewrite(folder, steps=steps, threshold=0.45, tta=True, temperature={"value": 1.7})
    told = run_cli("export", folder, "--out", tmp_path / "m.onnx")
    assert told.code == 0, told.stderr
    torch_free, selected = unetpp.load(tmp_path / "m.onnx"), unetpp.load(folder, "cpu", "torch")
    for image in sorted((runs[0].parent / "data" / "images").iterdir())[:2]:
        found, expected = (each.predict(image, probabilities=True) for each in (torch_free, selected))
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=2e-2)
        assert (found.segmentation != expected.segmentation).mean() < 0.05  # bfloat16 near the threshold
    about = run_cli("info", tmp_path / "m.onnx").stdout
    assert "selected:" in about and "fill holes" in about and "temperature 1.7" in about
    assert "fill holes" in (tmp_path / "m.onnx.md").read_text(encoding="utf-8")
    for tokens, message in {
        (tmp_path / "m.pt2",): "post-processing",
        (tmp_path / "m.onnx", "--depth", 1): "Leave it out, or name a run",
    }.items():
        said = run_cli("export", folder, "--out", *tokens)
        assert (said.code, message in said.stderr) == (2, True), said.stderr


def test_a_pair_is_exported_where_both_read_the_same(runs: tuple[Path, Path], chosen: Path, tmp_path: Path) -> None:
    folder = make_pair(runs, chosen, tmp_path)
    assert run_cli("export", folder, "--out", tmp_path / "m.onnx").code == 0
    image = sorted((runs[0].parent / "data" / "images").iterdir())[0]
    found = unetpp.load(tmp_path / "m.onnx").predict(image, probabilities=True).probabilities
    np.testing.assert_allclose(
        found, unetpp.load(folder, "cpu", "torch").predict(image, probabilities=True).probabilities, atol=2e-2
    )
    from unetpp.model.file import load_model, save_model

    file = folder / "model_2" / "fold_0" / "model.safetensors"
    network, header = load_model(file)
    predict = header.plan.predict.model_copy(update={"tile": (16, 16)})
    save_model(file, network.state_dict(), header.plan.model_copy(update={"predict": predict}), header.notes)
    said = run_cli("export", folder, "--out", tmp_path / "other.onnx")
    assert said.code == 2 and "as a file has one input" in said.stderr


def make_pair(runs: tuple[Path, Path], chosen: Path, tmp_path: Path) -> Path:
    """Make a selection of both runs at depth 2, and nothing else."""
    folder = shutil.copytree(chosen, tmp_path / "pair")
    for number, run in enumerate(runs, start=1):
        shutil.copytree(run / "fold_0", folder / f"model_{number}" / "fold_0", dirs_exist_ok=True)
    members = [
        {"run": run.name, "size": 2, "name": "depth 2", "files": [f"model_{number}/fold_0/model.safetensors"]}
        for number, run in enumerate(runs, start=1)
    ]
    return rewrite(folder, members=members, tta=False, steps=[], threshold=0.5, temperature={"value": 1.0})


def test_regions_are_compared_as_they_are_scored_and_predicted_with_all_of_it(tmp_path: Path) -> None:
    data, run, out = write_spheres(tmp_path / "data", 2, cases=6), tmp_path / "run", tmp_path / "out"
    run.mkdir()
    write_splits(run / "splits.json", make_splits(find_cases(data).cases, folds=2))
    settings = TINY | {"data.dims": 2, "train.steps_per_epoch": 20, "train.learning_rate": 0.05}
    unetpp.train(data, run, epochs=1, device="cpu", set=settings, fold="all", select=True)
    found = read_selection(run / "selected")
    (best,) = (each for each in found.candidates if each.chosen)
    assert len(found.candidates) == 4 and best.dice is not None
    assert all(set(each.before) == {"whole", "core", "enhancing"} for each in found.tried)
    page = (run / "selected" / "select.html").read_text(encoding="utf-8")
    assert "enhancing" in page
    opened = open_runs([run])
    cases = split_dataset(find_cases(data), read_reading(recall_reading(RunFolder(run)))).cases
    keys = [Key(((0, size),), False) for size in opened[0].sizes.numbers]
    predictors = FoldPredictors(opened, unetpp.load(run, "cpu").device)
    scored = score_candidates(opened, keys, cases, predictors, lambda done, total: None)
    for case, *counts in zip(scored.cases, *(scored.counts[key] for key in keys), strict=True):
        file = opened[0].files[opened[0].validated[case.id]]
        expected = evaluate_cases(unetpp.load(file, "cpu", "torch"), [case])
        for key, counted in zip(keys, counts, strict=True):
            assert counted.dice() == pytest.approx(expected[key.members[0][1]].mean.dice, abs=1e-6)
    steps = [{"kind": "largest", "classes": [1, 2, 3]}, {"kind": "holes", "classes": [2, 3]}]
    rewrite(run / "selected", steps=steps, threshold=0.5, temperature={"value": 1.5})
    assert run_cli("predict", run / "selected", data / "imagesTr", "--out", out, "--device", "cpu").code == 0
    for path in out.glob("*.nii.gz"):
        values = np.asarray(nibabel.load(path).dataobj)[..., 0]
        assert ndimage.label(values > 0, np.ones((3, 3)))[1] <= 1
        core = np.isin(values, (2, 3))
        assert not (ndimage.binary_fill_holes(core) & (values == 0)).any()
    assert len(list(out.glob("*.nii.gz"))) == 6
    images = sorted((data / "imagesTr").iterdir())[:3]
    folder = rewrite(run / "selected", steps=[], region_thresholds={}, temperature={"value": 1.0}, tta=False)
    middle = [unetpp.load(folder, "cpu", "torch").predict(path) for path in images]
    rewrite(folder, region_thresholds={"whole": 0.2, "core": 0.8})
    said = run_cli("export", folder, "--out", tmp_path / "m.pt2")
    assert said.code == 2 and "with a threshold; expected .onnx or .xml" in said.stderr
    assert run_cli("export", folder, "--out", tmp_path / "m.onnx").code == 0
    for path, before in zip(images, middle, strict=True):
        exported = unetpp.load(tmp_path / "m.onnx").predict(path)
        assert (exported != unetpp.load(folder, "cpu", "torch").predict(path)).mean() < 0.02  # bfloat16 at a threshold
        assert (exported != before).mean() > 0.04


def make_counts(dice: list[float]) -> list[Counted]:
    return [Counted(np.array([round(1000 * each)]), np.array([1000]), np.array([1000])) for each in dice]


def test_the_cheapest_that_is_not_clearly_worse_is_chosen(runs: tuple[Path, Path]) -> None:
    opened = open_runs(runs[:1])
    keys = list_candidates(opened)
    opened[0].latencies.update({1: 1.0, 2: 2.0})
    noise = [0.80, 0.90, 0.85, 0.70, 0.95, 0.88]
    best, near = (
        [each + 0.002 for each in noise],
        [each + delta for each, delta in zip(noise, [0.003, 0, 0.004, 0, 0.003, 0.001], strict=True)],
    )
    worse = [each - 0.005 for each in noise]
    by = {
        Key(((0, 1),), False): near,
        Key(((0, 2),), False): best,
        Key(((0, 1),), True): best,
        Key(((0, 2),), True): best,
    }
    found, chosen, reason = judge_candidates(
        keys, opened, {key: make_counts(by[key]) for key in keys}, [Tiles(1)], None
    )
    assert chosen == Key(((0, 1),), False) and "not clear" in reason
    by[Key(((0, 1),), False)] = worse
    _, chosen, reason = judge_candidates(keys, opened, {key: make_counts(by[key]) for key in keys}, [Tiles(1)], None)
    assert chosen == Key(((0, 2),), False) and "clearly below" in reason
    assert found[0].dice is not None and found[0].ms is not None


def make_store(
    folder: Path,
    pairs: list[tuple[np.ndarray, np.ndarray]],
    classes: int,
    regions: tuple[tuple[int, ...], ...] | None = None,
) -> CaseStore:
    store = CaseStore(folder, classes, regions)
    for number, (levels, reference) in enumerate(pairs):
        store.add(str(number), levels.astype(np.uint8), reference.astype(np.uint8))
    return store


def test_post_processing_is_kept_only_where_no_class_gets_worse(tmp_path: Path) -> None:
    pairs = []
    for _ in range(3):
        truth = np.zeros((40, 40), np.uint8)
        truth[5:20, 5:20], truth[25:30, 25:30], truth[33:38, 33:38] = 1, 2, 2  # class 2 has two objects
        found = truth.copy()
        found[0:3, 30:33], found[10:12, 10:12] = 1, 0  # a speckle, and a hole
        pairs.append((found, truth))
    store = make_store(tmp_path, pairs, 3)
    tried = choose_steps(store, ("a", "b"), lambda done, total: None)
    kept = [each.step for each in tried if each.kept]
    assert {(step.kind, step.classes) for step in kept if step.kind == HOLES} == {(HOLES, (1,))}
    assert all(2 not in step.classes for step in kept if step.kind == LARGEST)
    assert any(step.kind in (LARGEST, SMALLEST) and 1 in step.classes for step in kept)
    for found, truth in (store.read(number) for number in range(3)):
        np.testing.assert_array_equal(found, truth)
    told = next(each for each in tried if each.step == Step(kind=LARGEST, classes=(1, 2)))
    assert not told.kept and told.after["b"] < told.before["b"]


@pytest.mark.parametrize("scored", [((1,), (2,)), ((1, 2), (2,))], ids=["classes", "regions"])
def test_counts_after_a_step_are_those_of_the_cleaned(scored: tuple[tuple[int, ...], ...]) -> None:
    from unetpp.deploy.select.post_processing import _count_after, _find_parts
    from unetpp.labels.cleaning import clean_segmentation

    rng = np.random.default_rng(0)
    found, truth = (rng.choice(3, (30, 30), p=[0.5, 0.3, 0.2]).astype(np.uint8) for _ in range(2))
    for step in (
        Step(kind=LARGEST, classes=(1, 2)),
        Step(kind=SMALLEST, classes=(2,), voxels=3),
        Step(kind=HOLES, classes=(1,)),
        Step(kind=HOLES, classes=(2, 1)),
    ):
        before = count(found, truth, scored)
        after = _count_after(before, _find_parts(found, truth, step, scored), step, scored)
        cleaned = found.copy()
        clean_segmentation(cleaned, [step])
        assert (cleaned != found).any()
        expected = count(cleaned, truth, scored)
        np.testing.assert_array_equal(after.both, expected.both)
        np.testing.assert_array_equal(after.predicted, expected.predicted)


def test_a_threshold_is_kept_only_where_its_gain_is_clear(tmp_path: Path) -> None:
    truth = np.zeros((20, 20), np.uint8)
    truth[5:15, 5:15] = 1
    low = np.where(truth, 7, 2)  # foreground is above 0.4 alone: between the thresholds 0.4 and 0.45
    store = make_store(tmp_path, [(low[None], truth)] * 4, 2)
    (threshold,), gain = choose_thresholds(store)
    assert 0.15 < threshold <= 0.4 and gain == pytest.approx(1.0)
    np.testing.assert_array_equal(store.read(0)[0], truth)
    (tmp_path / "other").mkdir()
    store = make_store(tmp_path / "other", [(np.where(truth, 17, 0)[None], truth)] * 4, 2)
    assert choose_thresholds(store) == ((0.5,), None)
    assert choose_thresholds(make_store(tmp_path / "other", [(truth, truth)], 3)) == ((), None)


def test_each_region_has_its_threshold_unless_another_gets_worse(tmp_path: Path) -> None:
    regions = ((1, 2), (2,))  # a core in a whole
    truth = np.zeros((20, 20), np.uint8)
    truth[4:16, 4:16], truth[8:12, 8:12] = 1, 2
    whole, core = np.where(truth > 0, 6, 1), np.where(truth == 2, 12, 7 * (truth == 1))
    core[8, 8:12] = 8  # a row of the core is below 0.5, and above what is around it
    store = make_store(tmp_path, [(np.stack([whole, core]), truth)] * 4, 3, regions)
    thresholds, gain = choose_thresholds(store)
    assert 0.15 <= thresholds[0] < 0.4 and thresholds[1] == 0.45 and gain is not None and gain > 0
    np.testing.assert_array_equal(store.read(0)[0], truth)
    store.clean(Step(kind=LARGEST, classes=(1, 2)))
    np.testing.assert_array_equal(store.read(0)[0], truth)
    # a lower threshold of the core would find all of it, and as much around the whole
    whole, core = np.where(truth > 0, 17, 0), np.where(truth == 2, 6, 0)
    core[(truth == 2) & (np.arange(20) % 2 == 0)] = 17
    core[0, :] = 6
    (tmp_path / "other").mkdir()
    store = make_store(tmp_path / "other", [(np.stack([whole, core]), truth)] * 4, 3, regions)
    assert choose_thresholds(store) == ((0.5, 0.5), None)


def test_a_temperature_brings_confidence_near_accuracy() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 4000, 3))
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    truth = np.array([[rng.choice(3, p=each) for each in case] for case in chances])
    sure = np.exp(3 * logits) / np.exp(3 * logits).sum(-1, keepdims=True)
    found = fit_temperature(list(sure.astype(np.float32)), list(truth))
    assert found.value == pytest.approx(3.0, rel=0.1)
    assert found.ece_before == pytest.approx(compute_ece(sure.reshape(-1, 3), truth.ravel()), rel=1e-4)
    assert found.ece_after < 0.3 * found.ece_before and found.nll_after < found.nll_before
    right = fit_temperature(list(chances.astype(np.float32)), list(truth))
    assert right.value == pytest.approx(1.0, abs=0.1)
    assert fit_temperature([], []).value == 1.0


def test_the_selected_predictor_is_public() -> None:
    assert unetpp.SelectedPredictor is SelectedPredictor and Selection.model_fields
