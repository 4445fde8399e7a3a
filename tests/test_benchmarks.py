"""Benchmarks are run by hand; that they can be imported is tested, as the names that they use change.

That of the family takes hours: it is run on tiny data.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

import unetpp
from tests.tiny import TINY
from unetpp.model.build import model_plan
from unetpp.plan import ModelPlan

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path for path in BENCHMARKS.rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(BENCHMARKS)))
def test_a_benchmark_can_be_imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path.name == "locustfile.py":
        pytest.importorskip("locust", reason="is read by locust, which has an environment of its own")
    monkeypatch.setattr(sys, "path", [str(path.parent), *sys.path])  # as Python has it for a script
    name = f"imported_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import a benchmark by name as another one does; forgotten after the test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if name in {path.stem for path in SCRIPTS}:
            del sys.modules[name]


@pytest.fixture
def base() -> ModelPlan:
    """The plan of a network on whose grid the family is."""
    return model_plan(depth=2, in_channels=1)


def test_the_family_is_trained_measured_and_drawn(
    scripts: Any, cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    family, costs, out = scripts("family"), scripts("family_costs"), tmp_path / "out"
    monkeypatch.setattr(family, "measure_mb", lambda *each: 1.0)  # a process of some seconds each
    monkeypatch.setattr(costs, "MOST_ROUNDS", 1)
    names = ["unet-16-depth-1", "shells-8-16-grown", "slimmable-8-16"]
    unetpp.plan(cells, out / cells.name, set=TINY)  # a plan that is there is used
    command = [str(cells), "--out", str(out), "--minutes", "0.001"]
    family.main([*command, "--members", *names[:1]])
    with (out / "results.jsonl").open("a") as file:
        file.write('{"member": "unet-16-de')  # a run that was killed
    family.main([*command, "--members", *names])
    assert capsys.readouterr().out.count("seed 0") == len(names)  # the first one is not repeated
    rows = list(scripts("timed_training").read_rows(out / "results.jsonl"))
    fast = {key: 1e-6 for key in rows[0]["sizes"][0] if key.startswith(("torch_", "openvino_"))}
    rows[0]["sizes"][0] |= fast  # whatever the machine does meanwhile, there is a network as fast as each size
    (out / "results.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    family.main([*command, "--table"])
    assert [row["member"] for row in rows] == names
    single, grown, slimmable = rows
    assert [(size["depth"], size["width"]) for size in single["sizes"]] == [(1, 16)]
    assert [size["width"] for size in grown["sizes"]] == [size["width"] for size in slimmable["sizes"]] == [8, 16]
    assert len(grown["phases"]) == 2 and min(phase["steps"] for phase in grown["phases"]) >= 1
    for size in (size for row in rows for size in row["sizes"]):
        assert set(size["cases"]) == set(single["sizes"][0]["cases"]) and 0 <= size["dice"] <= 1
        assert min(size[key] for key in ("torch_ms", "torch_ratio", "parameters", "gmacs", "tile_mb")) > 0
    table = capsys.readouterr().out
    assert all(f"(`{name}`) |" in table for name in names)
    assert re.search(r"U-Net, slimmable 8, 16, \w+: at worst", table)
    svg = (out / cells.name / "family.svg").read_text()
    assert "prefers-color-scheme:dark" in svg and "U-Net, slimmable 8, 16" in svg
    assert (out / cells.name / "family.png").stat().st_size > 1000


def test_members_have_the_sizes_that_they_are_named_after(scripts: Any, base: ModelPlan) -> None:
    members = scripts("family_members")
    found = members.list_members(base)
    nested, wide = (members.count_parameters(found[name].model) for name in ("unet++-16", "wide-unet-16"))
    assert abs(wide / nested - 1) < 0.02
    assert found["thin-unet++-16"].model.node_widths == {"0_1": 4}
    assert len([name for name in found if name.startswith("unet-")]) == 3 * base.depth
    assert found["shells-8-16-32-grown"].describe_size(2 * base.depth) == {"depth": 2, "width": 16}


def test_the_narrow_slimmable_network_is_a_slice_of_the_dense_wide_one(scripts: Any, base: ModelPlan) -> None:
    found = scripts("family_members").list_members(base)["slimmable-8-16"]
    network = scripts("slimmable").Slimmable(found.model)
    image = torch.randn(1, 1, 20, 24)
    outputs = network(image)
    for number, logits in zip(outputs.depths, outputs.logits, strict=True):
        assert torch.allclose(network.prune(number)(image), logits, atol=1e-5)
    assert network.prune(base.depth).nodes["x_1_0"].units[0].conv.weight.shape[:2] == (16, 8)
    outputs.logits[0].sum().backward()
    gradient = network.whole.nodes["x_1_0"].units[0].conv.weight.grad
    assert gradient[:16, :8].any() and not gradient[16:].any() and not gradient[:, 8:].any()
    weight = network.whole.nodes["x_1_0"].units[0].conv.weight
    assert weight[:16, 8:].all()  # inner channels read outer ones, where shells have zeros


def test_work_and_memory_are_counted_without_what_shells_leave_out(scripts: Any, base: ModelPlan) -> None:
    costs, members = scripts("family_costs"), scripts("family_members").list_members(base)
    image = torch.randn(1, 1, 32, 32)

    def count(name: str, number: int) -> Any:
        return costs.count_work(members[name].list_phases()[-1].make(None).eval().prune(number), image)

    assert count("shells-8-16", base.depth) == count("unet-8", base.depth)
    share = count("shells-8-16", 2 * base.depth)["gmacs"] / count("unet-16", base.depth)["gmacs"]
    assert 0.75 < share < 0.77  # the first convolution and the head are whole


def test_front_leaves_out_what_is_slower_and_not_better(scripts: Any) -> None:
    picture = scripts("family_picture")
    sizes = [{"torch_ms": ms, "dice": dice} for ms, dice in ((3, 0.8), (1, 0.7), (2, 0.6), (4, 0.8), (5, None))]
    assert [size["torch_ms"] for size in picture.find_front(sizes)] == [1, 3]
    unets = [{"torch_ms": ms, "dice": dice} for ms, dice in ((0.5, 0.65), (1.9, 0.72), (2.95, 0.75), (6, 0.9))]
    gaps = [(ms, size["dice"], unet["dice"]) for ms, size, unet in picture.find_gaps(sizes, unets, "torch_ms")]
    assert gaps[:3] == [(1, 0.7, 0.65), (1.9, 0.7, 0.72), (2.95, 0.8, 0.75)]  # 3 ms are no more than 2.95 ms
    assert len(gaps) == 4  # the last U-Net is slower than all sizes


def test_a_time_is_compared_with_that_of_the_reference_in_the_same_round(
    scripts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = scripts("family_costs")
    spent = {costs.REFERENCE: [1.0, 10.0, 2.0], 4: [2.0, 20.0, 4.0]}  # one round on a busy machine
    monkeypatch.setattr(costs, "time_in_turn", lambda *given: spent)
    assert costs._compare({}, torch.device("cpu")) == [(4.0, 2.0)]


def test_times_of_the_family_are_ratios_to_a_reference(scripts: Any) -> None:
    size = {"dice": 0.9, "cases": {}, "torch_ratio": 2.0}
    rows = [
        {"member": str(n), "title": "", "seed": 0, "phases": [], "sizes": [{**size, "torch_ms": ms}]}
        for n, ms in enumerate((20.0, 22.0, 60.0))  # the last one on a busy machine
    ]
    members = scripts("family_picture").group_rows(rows).values()
    assert [row["sizes"][0]["torch_ms"] for row in members] == [22.0] * 3


def test_memory_of_a_step_and_a_tile_is_measured(scripts: Any, cells: Path, tmp_path: Path) -> None:
    family, costs = scripts("family"), scripts("family_costs")
    unetpp.plan(cells, tmp_path / "out", set=TINY)
    plan = family.prepare(cells, tmp_path / "out", 1, "cpu").plan
    small, large = (plan.changed({"train.patch": [side, side], "predict.tile": [side, side]}) for side in (32, 128))
    for kind, number in (("step", 0), ("tile", plan.model.depth)):
        member = scripts("family_members").list_members(plan.model)["unet-16"]
        found = [costs.probe(each, member, kind, number, torch.device("cpu")) for each in (small, large)]
        assert found[1] > found[0] >= 0


def test_synthetic_cts_hold_the_organs_that_they_state(scripts: Any, tmp_path: Path) -> None:
    script = scripts("synthetic_ct")
    root = script.write_dataset(tmp_path / "a", "small")
    shapes = json.loads((root / "shapes.json").read_text())
    assert len(shapes) == 4
    for name, organs in shapes.items():
        label = nibabel.load(root / f"labelsTr/{name}.nii.gz")
        counts = np.bincount(np.asarray(label.dataobj).ravel(), minlength=9)[1:]
        found = counts * np.prod(label.header.get_zooms())
        stated = [4 / 3 * np.pi * np.prod(radii) for _, radii in organs.values()]
        assert found == pytest.approx(stated, rel=0.35)  # voxels of 8 x 8 x 10 to 25 mm
        image = np.asarray(nibabel.load(root / f"imagesTr/{name}_0000.nii.gz").dataobj)
        assert image.shape == label.shape
        assert image[np.asarray(label.dataobj) == 8].mean() == pytest.approx(400, abs=3)  # the spine
    again = script.write_dataset(tmp_path / "b", "small")
    assert all((again / path.relative_to(root)).read_bytes() == path.read_bytes() for path in root.rglob("*.*"))
