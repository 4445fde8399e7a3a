"""Prediction from store to store: the labels are those of the whole image, whatever stops it in between."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import toy_plan
from tests.zarr_images import write_image

from unetpp.cluster.engine import HereEngine
from unetpp.errors import DataError, UsageError
from unetpp.infer import block_cut
from unetpp.infer.block_marks import Marks
from unetpp.infer.block_tasks import PredictBlock
from unetpp.infer.loading import load
from unetpp.infer.options import PredictOptions
from unetpp.infer.remote import RemoteModel
from unetpp.infer.zarr_prediction import Request, predict_store
from unetpp.parts import Part
from unetpp.plan import Plan
from unetpp.progress import Silence
from unetpp.results import PredictedBlocks
from unetpp.selection import Member, Selection, Step

zarr = pytest.importorskip("zarr", reason="the extra cluster is not installed")
pytest.importorskip("obstore", reason="the extra cluster is not installed")
MakeModel = Callable[..., Path]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_cut, "CHUNK", {2: (8, 16), 3: (8, 16)})
    monkeypatch.setattr(block_cut, "BLOCK", {2: 32, 3: 16})


def make_array(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)


def per_case(plan: Plan) -> Plan:
    return plan.changed({"data.normalization": [{"per_case": True}], "predict.batch": 3})


def predict(model: Path, image: Path, out: Path, **more: Any) -> PredictedBlocks:
    options = more.pop("options", PredictOptions())
    known = RemoteModel(str(model), "cpu", "torch")
    engine = more.pop("engine", None)
    return predict_store(Request(known, str(image), str(out), options, **more), known.load(), engine)


def read(out: Path, name: str = "segmentation", level: int = 0) -> np.ndarray:
    return np.asarray(zarr.open_array(str(out), path=f"labels/{name}/{level}", mode="r"))


def read_all(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("dims", "order", "shape", "version"),
    [(2, "tcyx", (2, 1, 45, 50), "0.4"), (3, "czyx", (1, 13, 26, 30), "0.5"), (2, "zyx", (3, 40, 45), "0.5")],
)
def test_labels_equal_those_of_the_whole(
    make_model: MakeModel, tmp_path: Path, dims: int, order: str, shape: tuple[int, ...], version: str
) -> None:
    model, array = make_model(per_case(toy_plan(dims, num_classes=3))), make_array(shape)
    write_image(tmp_path / "in.zarr", array, order, tuple(min(size, 8) for size in shape), version, levels=3)
    done = predict(model, tmp_path / "in.zarr", tmp_path / "out.zarr")
    assert (done.exit_code, done.complete, done.done) == (0, True, done.blocks)
    assert done.blocks > 1
    images = array.reshape(-1, *shape[-dims:])
    whole = np.stack([load(model, "cpu", "torch").predict(image) for image in images])
    found = read(tmp_path / "out.zarr")
    assert np.array_equal(found.reshape(whole.shape), whole)
    assert len(np.unique(found)) == 3
    for level in (1, 2):
        before, after = read(tmp_path / "out.zarr", level=level - 1), read(tmp_path / "out.zarr", level=level)
        assert after.shape[-2:] == tuple(-(-size // 2**level) for size in shape[-2:])
        chosen = [
            ((np.arange(new) + 0.5) * (old / new)).astype(int)
            for old, new in zip(before.shape, after.shape, strict=True)
        ]
        assert np.array_equal(after, before[np.ix_(*chosen)])
    assert not (tmp_path / "out.zarr" / ".unetpp").exists()


def test_all_sizes_mirrored_copies_and_folds(make_model: MakeModel, tmp_path: Path) -> None:
    make_model(per_case(toy_plan(2)))
    run = tmp_path / "fold_0"
    (tmp_path / "fold_1").mkdir()
    (tmp_path / "fold_1" / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    array = make_array((40, 45))
    write_image(tmp_path / "in.zarr", array, "yx", (16, 16))
    done = predict(tmp_path, tmp_path / "in.zarr", tmp_path / "out.zarr", options=PredictOptions("all", tta=True))
    assert done.labels == ("depth_1", "depth_2")
    expected = load(tmp_path, "cpu", "torch").predict(array, depth="all", tta=True)
    for depth in (1, 2):
        assert np.array_equal(read(tmp_path / "out.zarr", f"depth_{depth}"), expected[depth])


def test_labels_lie_beside_their_image(make_model: MakeModel, tmp_path: Path) -> None:
    model, array = make_model(), make_array((1, 40, 45))
    write_image(tmp_path / "in.zarr", array, "cyx", (1, 16, 16))
    before = read_all(tmp_path / "in.zarr")
    predict(model, tmp_path / "in.zarr", tmp_path / "in.zarr")
    after = read_all(tmp_path / "in.zarr")
    assert {name: after[name] for name in before} == before
    attributes = dict(zarr.open_group(str(tmp_path / "in.zarr" / "labels" / "segmentation"), mode="r").attrs)
    assert attributes["ome"]["image-label"]["source"] == {"image": "../../"}


class Stopping(HereEngine):
    """Dies after some units, as if the process were killed."""

    def __init__(self, units: int) -> None:
        self.left = units

    def run(self, task: Any, units: Any, *, name: str, alone: bool = False) -> Iterator[Any]:  # type: ignore[override]
        for outcome in super().run(task, units, name=name, alone=alone):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield outcome


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    write_image(tmp_path / "in.zarr", make_array((1, 13, 26, 30)), "czyx", (1, 8, 8, 8))
    return tmp_path / "in.zarr"


def test_a_killed_run_goes_on_at_the_missing_blocks(make_model: MakeModel, volume: Path, tmp_path: Path) -> None:
    model = make_model(per_case(toy_plan(3)))
    predict(model, volume, tmp_path / "whole.zarr")
    for units in (0, 2, 4):
        out = tmp_path / f"{units}.zarr"
        with pytest.raises(KeyboardInterrupt):
            predict(model, volume, out, engine=Stopping(units))
        done = predict(model, volume, out, resume=True)
        assert done.complete
        assert (done.earlier, done.done) == (units, 4 - units)
        assert read_all(out) == read_all(tmp_path / "whole.zarr")
        assert predict(model, volume, out, resume=True).earlier == 4


def test_another_model_does_all_again(make_model: MakeModel, volume: Path, tmp_path: Path) -> None:
    first = make_model(toy_plan(3))
    out = tmp_path / "out.zarr"
    with pytest.raises(KeyboardInterrupt):
        predict(first, volume, out, engine=Stopping(2))
    other = make_model(toy_plan(3, num_classes=3), name="other.safetensors")
    done = predict(other, volume, out, resume=True)
    assert (done.done, done.earlier) == (4, 0)
    predict(other, volume, tmp_path / "whole.zarr")
    assert np.array_equal(read(out), read(tmp_path / "whole.zarr"))


def test_parts_meet_in_one_output(make_model: MakeModel, volume: Path, tmp_path: Path) -> None:
    model = make_model(per_case(toy_plan(3)))
    predict(model, volume, tmp_path / "whole.zarr")
    done = [predict(model, volume, tmp_path / "out.zarr", part=Part(index, 3)) for index in (2, 3, 1)]
    assert [each.complete for each in done] == [False, False, True]
    assert sum(each.done for each in done) == 4
    assert "not complete" in done[0].to_text()
    assert read_all(tmp_path / "out.zarr") == read_all(tmp_path / "whole.zarr")


def test_a_part_whose_last_block_another_completes_knows_it(
    make_model: MakeModel, volume: Path, tmp_path: Path
) -> None:
    model, out = make_model(toy_plan(3)), tmp_path / "out.zarr"
    predict(model, volume, out, part=Part(2, 2))

    class Overtaken(HereEngine):
        def run(self, task: Any, units: Any, *, name: str, alone: bool = False) -> Iterator[Any]:  # type: ignore[override]
            yield from super().run(task, units, name=name, alone=alone)
            assert predict(model, volume, out, part=Part(2, 2), resume=True).complete

    done = predict(model, volume, out, part=Part(1, 2), engine=Overtaken())
    assert (done.exit_code, done.complete) == (0, True)
    assert not (out / ".unetpp").exists()


def test_a_part_repeats_nothing_while_another_one_completes_all(
    make_model: MakeModel, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = make_model(per_case(toy_plan(3))), tmp_path / "out.zarr"
    predict(model, volume, out, part=Part(1, 2))
    begin = Marks.forget_others

    def overtake(marks: Marks) -> None:
        monkeypatch.setattr(Marks, "forget_others", begin)
        assert predict(model, volume, out, part=Part(2, 2)).complete  # and forgets what is done
        begin(marks)

    monkeypatch.setattr(Marks, "forget_others", overtake)
    again = predict(model, volume, out, part=Part(1, 2), resume=True)
    assert (again.done, again.earlier, again.complete) == (0, 2, True)
    assert not (out / ".unetpp").exists()


def test_a_broken_chunk_costs_its_blocks_alone(make_model: MakeModel, tmp_path: Path) -> None:
    volume = tmp_path / "in.zarr"
    write_image(volume, make_array((1, 8, 16, 80)), "czyx", (1, 8, 8, 8))
    plan = toy_plan(3).changed({"data.normalization": [{"per_case": False, "mean": 128, "std": 64}]})
    model, chunk = make_model(plan), volume / "s0" / "c/0/0/0/0"
    whole = chunk.read_bytes()
    predict(model, volume, tmp_path / "whole.zarr")
    chunk.write_bytes(b"damaged, and too short")
    with pytest.raises(DataError, match=r"c/0/0/0/0: got a chunk"):
        predict(model, volume, tmp_path / "other.zarr")  # it is among the voxels by which an image is known
    chunk.write_bytes(whole)
    out = tmp_path / "out.zarr"
    broken = volume / "s0" / "c/0/0/0/9"
    kept = broken.read_bytes()
    engine = Breaking(broken)
    done = predict(model, volume, out, engine=engine)
    assert (done.exit_code, done.complete) == (1, False)
    assert "c/0/0/0/9: got a chunk that cannot be decoded" in done.to_text()
    broken.write_bytes(kept)
    done = predict(model, volume, out, resume=True)
    assert done.complete
    assert 0 < done.done < done.blocks == 5
    assert read_all(out) == read_all(tmp_path / "whole.zarr")


class Breaking(HereEngine):
    """Damages a chunk after the image was opened."""

    def __init__(self, chunk: Path) -> None:
        self.chunk = chunk

    def run(self, task: Any, units: Any, *, name: str, alone: bool = False) -> Iterator[Any]:  # type: ignore[override]
        self.chunk.write_bytes(b"damaged, and too short")
        yield from super().run(task, units, name=name, alone=alone)


def test_chunks_that_blocks_would_share_are_refused(
    make_model: MakeModel, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(toy_plan(3))
    monkeypatch.setattr(block_cut, "BLOCK", {3: 32})
    predict(model, volume, tmp_path / "out.zarr")
    monkeypatch.setattr(block_cut, "BLOCK", {3: 16})
    with pytest.raises(UsageError, match=r"shards of .* which reach over blocks of 16 x 16 x 16"):
        predict(model, volume, tmp_path / "out.zarr")


def test_what_needs_the_whole_image_is_refused(make_model: MakeModel, volume: Path, tmp_path: Path) -> None:
    model = make_model(toy_plan(3))
    for options, got in (
        (PredictOptions(probabilities=True), "maps of probabilities"),
        (PredictOptions("mean", uncertainty="entropy"), "maps of uncertainty"),
    ):
        with pytest.raises(UsageError, match=got):
            predict(model, volume, tmp_path / "out.zarr", options=options)
    assert not (tmp_path / "out.zarr").exists()


def test_images_and_places_that_do_not_fit_are_refused(make_model: MakeModel, volume: Path, tmp_path: Path) -> None:
    model = make_model(toy_plan(3))
    write_image(tmp_path / "flat.zarr", make_array((2, 20, 20)), "cyx", (1, 8, 8))
    with pytest.raises(DataError, match="without an axis z"):
        predict(model, tmp_path / "flat.zarr", tmp_path / "out.zarr")
    with pytest.raises(DataError, match="channels of the model"):
        predict(make_model(toy_plan(2)), tmp_path / "flat.zarr", tmp_path / "out.zarr")
    with pytest.raises(UsageError, match="which holds something else"):
        predict(make_model(toy_plan(3)), volume, tmp_path / "flat.zarr")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "notes.txt").touch()
    with pytest.raises(UsageError, match="where other files lie"):
        predict(model, volume, tmp_path / "files")
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("is_root_there", [False, True])
def test_labels_that_were_begun_are_gone_on_with(
    is_root_there: bool, make_model: MakeModel, volume: Path, tmp_path: Path
) -> None:
    """A client is killed while it makes them: zarr makes the groups above an array first, and says nothing in them."""
    model, whole, begun = make_model(toy_plan(3)), tmp_path / "whole.zarr", tmp_path / "begun.zarr"
    predict(model, volume, whole)
    (begun / "labels" / "segmentation").mkdir(parents=True)
    group = json.loads((whole / "labels" / "segmentation" / "zarr.json").read_text())
    del group["attributes"]["unetpp"]["complete"]
    (begun / "labels" / "segmentation" / "zarr.json").write_text(json.dumps(group))
    if is_root_there:
        shutil.copy(whole / "labels" / "zarr.json", begun / "labels" / "zarr.json")
        empty = {"zarr_format": 3, "node_type": "group", "attributes": {}}
        (begun / "zarr.json").write_text(json.dumps(empty))
    predict(model, volume, begun)
    files = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file()]
    assert files == [path.relative_to(begun) for path in sorted(begun.rglob("*")) if path.is_file()]
    assert all((whole / file).read_bytes() == (begun / file).read_bytes() for file in files)


def test_a_dry_run_counts_and_measures(make_model: MakeModel, volume: Path, tmp_path: Path) -> None:
    model = make_model(per_case(toy_plan(3)))
    plan = predict(model, volume, tmp_path / "out.zarr", dry_run=True, part=Part(1, 2)).plan
    assert plan is not None
    assert not (tmp_path / "out.zarr").exists()
    assert (plan.blocks, plan.layers, plan.shrunk, plan.tasks, plan.objects) == (4, 1, 1, 6, 5)
    assert plan.block_seconds > 0
    assert 0.1 < plan.memory_gb < 100
    seconds = plan.layer_seconds + 26 * 30 / 16**2 * plan.block_seconds  # two of the blocks are cut off
    assert plan.hours == pytest.approx(seconds / 3600 / 2)
    assert plan.read_gb == pytest.approx(13 * 26 * 30 / 1e9)
    assert plan.written_gb == pytest.approx(13 * (26 * 30 + 13 * 15) / 1e9)


def test_workers_too_small_for_a_block_are_warned_of(
    make_model: MakeModel, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HereEngine, "memory", 10**12, raising=False)
    known, notes = RemoteModel(str(make_model(toy_plan(3))), "cpu", "torch"), list[str]()
    request = Request(known, str(volume), str(tmp_path / "out.zarr"), PredictOptions())
    progress = Silence()
    monkeypatch.setattr(progress, "note", notes.append, raising=False)
    predict_store(request, known.load(), HereEngine(), progress)
    assert not notes
    monkeypatch.setattr(HereEngine, "memory", 10**8)
    predict_store(request, known.load(), HereEngine(), progress)
    (note,) = notes
    assert re.match(r"note: a block takes about \d\.\d GB, of workers of 0\.1 GB, which Dask pauses at 80%", note)


def test_an_image_that_was_not_measured_is_no_guess(make_model: MakeModel, volume: Path, tmp_path: Path) -> None:
    model = make_model(per_case(toy_plan(3)))
    predict(model, volume, tmp_path / "out.zarr")
    captured: list[PredictBlock] = []

    class Keeping(HereEngine):
        def run(self, task: Any, units: Any, *, name: str, alone: bool = False) -> Iterator[Any]:  # type: ignore[override]
            captured.extend([task] if isinstance(task, PredictBlock) else [])
            return super().run(task, units, name=name, alone=alone)

    predict(model, volume, tmp_path / "out.zarr", engine=Keeping())
    strange = replace(captured[0].marks, identity="strange")
    with pytest.raises(DataError, match="not measured"):
        replace(captured[0], marks=strange)(0)


def test_what_select_chose_predicts_the_same(make_model: MakeModel, volume: Path, tmp_path: Path) -> None:
    folder = make_model(per_case(toy_plan(3))).parent
    make_model(per_case(toy_plan(3)).changed({"predict.overlap": 0.25}), name="other.safetensors")
    members = tuple(
        Member(run=file, size=size, name=f"depth {size}", files=(file,))
        for file, size in (("model.safetensors", 1), ("other.safetensors", 2))
    )
    chosen = Selection(members=members, threshold=0.48, tta=True)
    (folder / "select.json").write_text(chosen.model_dump_json())
    done = predict(folder, volume, tmp_path / "out.zarr")
    assert done.complete
    whole = load(folder, "cpu", "torch").predict(make_array((1, 13, 26, 30))[0])
    assert np.array_equal(read(tmp_path / "out.zarr"), whole)
    assert len(np.unique(whole)) == 2
    steps = chosen.merge(Selection(members=members, steps=(Step(kind="largest", classes=(1,)),)))
    (folder / "select.json").write_text(steps.model_dump_json())
    with pytest.raises(UsageError, match="looks at whole objects"):
        predict(folder, volume, tmp_path / "out.zarr")


def test_thresholds_of_regions_decide_in_blocks_as_in_the_whole(
    make_model: MakeModel, volume: Path, tmp_path: Path
) -> None:
    names = {"data.classes": ["background", "a", "b"], "data.label_values": [0, 1, 2]}
    plan = per_case(toy_plan(3)).changed({**names, "data.regions": "whole=1+2,core=2"})
    folder = make_model(plan).parent
    found = {}
    for limits in ({}, {"whole": 0.52, "core": 0.47}):
        member = Member(run="a", size=2, name="depth 2", files=("model.safetensors",))
        chosen = Selection(members=(member,), region_thresholds=limits)
        (folder / "select.json").write_text(chosen.model_dump_json())
        out = tmp_path / f"{len(limits)}.zarr"
        assert predict(folder, volume, out).complete
        found[len(limits)] = read(out)
        assert np.array_equal(found[len(limits)], load(folder, "cpu", "torch").predict(make_array((1, 13, 26, 30))[0]))
    assert (found[0] != found[2]).any()


def test_tasks_travel_to_workers(make_model: MakeModel, volume: Path, tmp_path: Path) -> None:
    class Sending(HereEngine):
        def run(self, task: Any, units: Any, *, name: str, alone: bool = False) -> Iterator[Any]:  # type: ignore[override]
            sent = pickle.dumps(task)
            return super().run(pickle.loads(sent), units, name=name, alone=alone)  # noqa: S301

    model = make_model(per_case(toy_plan(3)))
    assert predict(model, volume, tmp_path / "out.zarr", engine=Sending()).complete


def test_blocks_are_predicted_on_the_device_of_their_worker(
    make_model: MakeModel, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unetpp.infer.remote.choose_device", lambda wanted: "cuda:7")
    with pytest.raises(UsageError, match="cuda:7"):
        predict(make_model(toy_plan(3)), volume, tmp_path / "out.zarr")
