"""docs/family.md and its drawings: what is generated is up to date, and what is written runs."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import run_cli, write_png
from unetpp.data.demo import write_demo_data
from unetpp.model.build import build_model, from_plan, grid_of
from unetpp.model.file import save_model
from unetpp.model.selfsupervised import load_encoder, their_name
from unetpp.plan import read_plan

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "family.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


draw_family = load(DOCS / "draw_family.py")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def require(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # torchvision raises the latter where it does not fit torch
        pytest.skip(f"{name}: {error}")


@pytest.mark.parametrize("name", draw_family.PICTURES)
def test_pictures_are_up_to_date(name: str) -> None:
    if name == "encoder.svg":
        require("timm")
    assert (DOCS / "family" / name).read_text(encoding="utf-8") == str(draw_family.PICTURES[name]()), (
        "run python docs/draw_family.py"
    )


@pytest.mark.parametrize("name", draw_family.TABLES)
def test_generated_parts_of_the_page_are_up_to_date(name: str) -> None:
    assert draw_family.written_page(PAGE, [name]) == PAGE, "run python docs/draw_family.py"


def test_files_that_nobody_draws_are_not_there() -> None:
    assert {path.name for path in (DOCS / "family").iterdir()} == set(draw_family.PICTURES)


@pytest.mark.parametrize("member", draw_family.MEMBERS, ids=lambda member: member.file)
def test_every_node_and_every_connection_is_drawn(member: Any) -> None:
    grid = grid_of(member.plan())
    root = ElementTree.parse(DOCS / "family" / f"{member.file}.svg").getroot()
    legend = 1  # one sample of each
    heads = Counter(polygon.get("fill") for polygon in root.iter(f"{SVG}polygon"))
    assert heads[draw_family.SKIP] - legend == sum(len(grid.skips(node)) for node in grid.nodes())
    assert heads[draw_family.UP] - legend == sum(j > 0 for _, j in grid.nodes())
    assert heads[draw_family.DOWN] - legend == grid.depth
    names = Counter("".join(text.itertext()) for text in root.iter(f"{SVG}text"))
    assert all(names[f"X{i},{j}"] == 1 for i, j in grid.nodes())
    assert sum(count for name, count in names.items() if name.startswith("head ")) == len(grid.head_depths(True))


def test_counts_are_those_of_the_reference() -> None:
    compared = 0
    for row in (line for line in PAGE.splitlines() if re.search(r"\d G \|", line)):
        _, _, parameters, expected, macs, about = (
            cell.strip() for cell in row.strip("|").split("|") if "%" not in cell
        )
        assert expected in ("", parameters), row
        assert not about or float(macs[:-2]) == pytest.approx(float(about[:-2]), rel=0.01), row
        compared += bool(expected)
    assert compared == len(draw_family.REFERENCE) + 1  # the deepest of the pruned is the whole network


def test_the_shape_of_smp_is_the_network_of_smp() -> None:
    smp = require("segmentation_models_pytorch")
    with torch.device("meta"):
        theirs = smp.UnetPlusPlus("resnet34", encoder_weights=None, in_channels=3, classes=1)
        ours = build_model(in_channels=3, out_channels=1, **draw_family.SMP_RESNET34)
    assert sum(weight.numel() for weight in ours.parameters()) == sum(weight.numel() for weight in theirs.parameters())
    assert sorted(weight.shape for weight in ours.parameters()) == sorted(
        weight.shape for weight in theirs.parameters()
    )


def test_python_on_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_demo_data(tmp_path / "data" / "nuclei", 2, cases=5, shape=(64, 80))
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for number, block in enumerate(each for each in blocks("python") if "encoder=" not in each):
        exec(compile(block, f"family.md, block {number}", "exec"), namespace)
        promised = re.findall(r"^print\(.*\)  # (.*)$", block, flags=re.MULTILINE)
        assert capsys.readouterr().out.splitlines() == promised


def test_encoders_on_the_page_are_built() -> None:
    require("timm")
    namespace: dict[str, Any] = {}
    exec("import unetpp", namespace)
    with torch.device("meta"):
        for block in blocks("python"):
            if "encoder=" in block:
                exec(block, namespace)
    assert namespace["smp_shape"].head_depths == (5,)


def test_commands_on_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_demo_data(tmp_path / "data" / "nuclei", 2, cases=5, shape=(64, 80))
    write_png(tmp_path / "new_images" / "one.png", np.zeros((20, 24), np.uint8))
    monkeypatch.chdir(tmp_path)
    for line in "".join(blocks("sh")).splitlines():
        program, verb, *rest = shlex.split(line)
        assert program == "unetpp"
        if verb == "predict":
            _put_untrained_model(Path("runs/nuclei"))
        answer = run_cli(verb, *rest, *(["--dry-run"] if verb == "train" else []))
        assert answer.code == 0, f"{line}\n{answer.stderr}"
    assert {path.name: read_plan(path / "plan.json").model.topology for path in Path("runs").iterdir()} == {
        "nuclei": "unet++",
        "ensemble": "unet_e",
        "plain": "unet",
        "paper": "unet++",
    }
    assert read_plan(Path("runs/paper/plan.json")).model.dropout == 0.5
    assert read_plan(Path("runs/plain/plan.json")).model.widths == (16, 32, 64, 128, 256)
    assert Path("nuclei_2.safetensors").is_file()


def test_the_command_of_the_page_on_weights_in_3d_plans_a_network_that_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (DOCS / "pretrained-3d.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^    unetpp train (.*)$", page, flags=re.MULTILINE)
    write_demo_data(tmp_path / "DATA", 3, cases=5, shape=(32, 64, 64))  # 80 x 64 x 64 millimetres
    monkeypatch.chdir(tmp_path)
    with torch.device("meta"):
        theirs = build_model(preset="resenc", dims=3).state_dict()
    torch.save(
        {
            "network_weights": {
                f"encoder.{their_name(name)}": torch.zeros(weight.shape)
                for name, weight in theirs.items()
                if their_name(name)
            }
        },
        "checkpoint_final.pth",
    )
    answer = run_cli("plan", *shlex.split(command))
    assert answer.code == 0, answer.stderr
    plan = read_plan(Path("RUN/plan.json"))
    taken = load_encoder(from_plan(plan.model), Path("checkpoint_final.pth"))
    assert (plan.model.encoder, plan.model.norm) == ("resenc", "instance")
    assert not taken.misfits
    assert not taken.absent
    Path("checkpoint_final.pth").unlink()
    answer = run_cli("plan", *shlex.split(command.replace("RUN", "RUN_2")))
    assert answer.code == 2
    assert "which is no file" in answer.stderr


def _put_untrained_model(run: Path) -> None:
    path = run / "fold_0" / "model.safetensors"
    path.parent.mkdir(exist_ok=True)
    plan = read_plan(run / "plan.json")
    save_model(path, from_plan(plan.model).state_dict(), plan)


def test_links_and_pictures_of_the_page_are_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", PAGE) + re.findall(r'src="([^"]+)"', PAGE)
    assert len(targets) >= 7
    assert [target for target in targets if not (DOCS / target).exists()] == []


def test_check_names_what_is_out_of_date_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.svg"
    monkeypatch.setattr(draw_family, "contents", lambda: {path: "new"})
    assert draw_family.main(["--check"]) == 1
    assert str(path) in capsys.readouterr().err
    assert not path.exists()
    assert draw_family.main([]) == 0
    assert draw_family.main(["--check"]) == 0
    assert draw_family.main(["--chekc"]) == 2


def test_a_dial_without_an_origin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(draw_family.ORIGINS["Heads"], "fusion")
    with pytest.raises(SystemExit, match=r"model\.fusion: got a field without its origin"):
        draw_family.dial_table()


def test_marks_that_are_gone_are_named() -> None:
    with pytest.raises(SystemExit, match="generated: presets"):
        draw_family.written_page("nothing", ["presets"])
