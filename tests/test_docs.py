"""README, CONTRIBUTING and docs: what is generated is up to date, and what is written runs."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shlex
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unetpp
from tests.tiny import TINY_3D, TINY_NESTED, run_cli, write_png
from unetpp.data.demo import write_demo_data
from unetpp.model.build import build_from_plan, build_model, make_grid
from unetpp.model.file import save_model
from unetpp.model.selfsupervised import load_encoder, name_in_file
from unetpp.plan import read_plan
from unetpp.settings import dotted_names
from unetpp.verbs import preparation

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")), *sorted(DOCS.glob("*.md"))]
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
draw_dial = load(DOCS / "draw_dial.py")
results = load(ROOT / "benchmarks" / "results.py")


def blocks(language: str, page: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)


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
    grid = make_grid(member.plan())
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
    monkeypatch.setattr(preparation, "measure_mean_step_seconds", lambda *_: 0.1)  # steps of networks of full size
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
    monkeypatch.setattr(preparation, "measure_mean_step_seconds", lambda *_: 60.0)  # steps of a network of full size
    page = (DOCS / "pretrained-3d.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^    unetpp train (.*)$", page, flags=re.MULTILINE)
    write_demo_data(tmp_path / "DATA", 3, cases=5, shape=(32, 64, 64))  # 80 x 64 x 64 millimetres
    monkeypatch.chdir(tmp_path)
    with torch.device("meta"):
        theirs = build_model(preset="resenc", dims=3).state_dict()
    torch.save(
        {
            "network_weights": {
                f"encoder.{name_in_file(name)}": torch.zeros(weight.shape)
                for name, weight in theirs.items()
                if name_in_file(name)
            }
        },
        "checkpoint_final.pth",
    )
    answer = run_cli("plan", *shlex.split(command))
    assert answer.code == 0, answer.stderr
    plan = read_plan(Path("RUN/plan.json"))
    taken = load_encoder(build_from_plan(plan.model), Path("checkpoint_final.pth"))
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
    save_model(path, build_from_plan(plan.model).state_dict(), plan)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_and_pictures_are_there(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page) + re.findall(r'src="([^"]+)"', page)
    files = [target for target in targets if not target.startswith("https://")]
    assert [target for target in files if not (path.parent / target).exists()] == []


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


def test_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_demo_data(tmp_path / "DATA", 2, cases=5, shape=(64, 80))
    write_png(tmp_path / "new_images" / "one.png", np.zeros((20, 24), np.uint8))
    monkeypatch.chdir(tmp_path)
    quickly = ["--epochs", "1", "--set", *(f"{key}={json.dumps(value)}" for key, value in TINY_NESTED.items())]
    assert run_blocks(README, quickly) == ["check", "train", "report", "predict", "prune"]
    for written in ("RUN/report.html", "predictions/one.png", "small.safetensors"):
        assert Path(written).is_file()


def test_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_demo_data(tmp_path / "data" / "nuclei", 2, cases=5, shape=(64, 80))
    write_png(tmp_path / "new_images" / "one.png", np.zeros((20, 24), np.uint8))
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("python", README)
    assert "minutes=20" in block
    namespace: dict[str, Any] = {"TINY_NESTED": TINY_NESTED}
    exec(compile(block.replace("minutes=20", "epochs=1, set=TINY_NESTED"), "README.md", "exec"), namespace)
    assert namespace["segmentation"].shape == (20, 24)
    assert namespace["logits"].shape == (1, 2, 200, 300)


def test_python_on_the_page_for_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("tensorboard")
    write_demo_data(tmp_path / "data" / "nuclei", 2, cases=5, shape=(64, 80))
    write_png(tmp_path / "new_images" / "one.png", np.zeros((20, 24), np.uint8))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 29631}.items():
        monkeypatch.setenv(name, str(value))
    namespace: dict[str, Any] = {"TINY_NESTED": TINY_NESTED}
    for number, block in enumerate(blocks("python", (DOCS / "python.md").read_text(encoding="utf-8"))):
        quick = block.replace("minutes=20", "epochs=1, set=TINY_NESTED")
        exec(compile(quick, f"python.md, block {number}", "exec"), namespace)
    assert namespace["segmentation"].shape == (64, 80)
    assert namespace["found"].probabilities.shape == (2, 64, 80)
    for written in ("parallel.safetensors", "small.safetensors", "runs/logged/tensorboard", "predictions/one.png"):
        assert Path(written).exists()


@cache
def help_of(verb: str) -> str:
    answer = run_cli(verb, "--help")
    return answer.stdout if answer.code == 0 else ""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_and_flag_that_is_written_exists(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    commands = re.findall(r"^(?: {4}|`{0,3})unetpp ([a-z]+) ([^\n`]*)", page, flags=re.MULTILINE)
    commands += re.findall(r"`unetpp ([a-z]+)([^`]*)`", page)
    for verb, rest in commands:
        known = help_of(verb)
        assert known, f"unetpp {verb}: no such command"
        unknown = [flag for flag in re.findall(r"(?<!\S)--[a-z-]+", rest.split("#")[0]) if flag not in known]
        assert unknown == [], f"unetpp {verb} {rest}"


def test_extras_of_the_readme_are_those_of_the_package() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    table = README[README.index("| extra | for |") : README.index("For example `pip install")]
    named = set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if "`" in line)))
    assert named == extras - {"all", "dev", "peers", "benchmarks", "browser"}


def test_the_table_of_the_benchmarks_is_the_one_that_the_script_prints() -> None:
    groups: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in json.loads(results.KEPT.read_text()):
        groups[record["data"], results.make_title(record)].append(record)
    page = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    for group in groups.values():
        assert "\n".join(results.format_rows(group)) in page


def test_contributing_names_every_room_and_nothing_that_is_not_there() -> None:
    package = ROOT / "src" / "unetpp"
    start, end = CONTRIBUTING.index("## The code, in reading order"), CONTRIBUTING.index("Outside `src/`")
    rooms = [
        line.split("|")[2:4] for line in CONTRIBUTING[start:end].splitlines() if line.count("|") == 4 and "`" in line
    ]
    named, missing = set(), []
    for room, content in rooms:
        inside = re.findall(r"`([\w/.]+)`", room)
        named |= {name.rstrip("/") for name in inside}
        missing += [name for name in inside if not (package / name).exists()]
        if room.strip().endswith("/`"):
            files = re.findall(r"`(\w+(?:\.py|/))`", content)
            missing += [
                f"{inside[0]}{file}" for file in files if not any((package / each / file).exists() for each in inside)
            ]
    assert missing == []
    assert named >= {path.parent.name for path in package.glob("*/__init__.py")}
    assert named >= {path.name for path in package.glob("*.py")} - {"__main__.py"}


def test_the_citation_is_of_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", citation, flags=re.MULTILINE)[1] == unetpp.__version__


def test_the_dial_is_drawn_from_a_run(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    found = {depth: generator.random((40, 60)) > 0.5 for depth in (1, 2)}
    metrics = {
        "depths": {"1": {"latency_ms": 4.0, "dice": 0.9}, "2": {"latency_ms": 8.0, "dice": 0.92}},
        "recommended": {"depth": 1},
    }
    out = tmp_path / "dial.png"
    size = draw_dial.draw(generator.random((40, 60, 3)), found, found[1], metrics, None, out)
    assert 0 < size == out.stat().st_size
    with Image.open(out) as picture:
        assert picture.width > 2 * picture.height
    assert (DOCS / "dial.png").stat().st_size < 300_000


def test_the_page_of_errors_is_up_to_date() -> None:
    written = load(DOCS / "write_errors.py").write_page()
    assert (DOCS / "errors.md").read_text(encoding="utf-8") == written, "run python docs/write_errors.py"


def test_the_page_of_the_plan_is_up_to_date_and_names_every_field() -> None:
    write_plan = load(DOCS / "write_plan.py")
    assert (DOCS / "plan.md").read_text(encoding="utf-8") == write_plan.write_page(), "run python docs/write_plan.py"
    documented = {
        f"{section}.{name}" for section, (cls, _, _) in write_plan.SECTIONS.items() for name in cls.model_fields
    }
    assert documented >= set(dotted_names(unetpp.Plan)) - {"version", "name", "reasons", "considered"}
    advised = {f"{section}.{name}" for section, (_, _, advice) in write_plan.SECTIONS.items() for name in advice}
    assert advised <= documented


@pytest.mark.parametrize("dims", [2, 3])
def test_the_page_of_the_plan_says_what_the_planner_chooses(dims: int, tmp_path: Path) -> None:
    write_demo_data(tmp_path / "data", dims, cases=5, shape=(64, 80) if dims == 2 else (16, 32, 32))
    planned = unetpp.plan(tmp_path / "data", tmp_path / "run", minutes=1, device="cpu", dry_run=True)
    chosen = {
        f"{section}.{name}"
        for section, (_, _, advice) in load(DOCS / "write_plan.py").SECTIONS.items()
        for name, (unit, _) in advice.items()
        if unit.startswith("planner")
    }
    assert set(planned.plan.reasons) - {"train.minutes", "train.foreground_fraction"} <= chosen


def make_loader(dims: int, channels: int, classes: int, key: bool) -> list[Any]:
    """Two batches, as the loops of the pages take them."""
    size = (32,) * dims
    images, masks = torch.rand(2, channels, *size), torch.randint(0, classes, (2, *size))
    return [{"image": images, "label": masks[:, None]} if key else (images, masks)] * 2


def run_blocks(page: str, quickly: Sequence[str]) -> list[str]:
    """Run the commands of a page, trainings for an epoch; return the verbs."""
    verbs = []
    for line in "".join(blocks("sh", page)).splitlines():
        program, verb, *rest = shlex.split(line, comments=True)
        assert program == "unetpp"
        if "--minutes" in rest:
            at = rest.index("--minutes")
            rest[at : at + 2] = quickly
        answer = run_cli(verb, *rest)
        assert answer.code == 0, f"{line}\n{answer.stderr}"
        verbs.append(verb)
    return verbs


def test_the_page_for_users_of_nnunet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_demo_data(tmp_path / "demo", 3, cases=6, shape=(8, 20, 18))
    raw = tmp_path / "Dataset004_Hippocampus"
    for number, image in enumerate(sorted((data / "images").iterdir())):
        subset, name = "Ts" if number == 5 else "Tr", image.name.removesuffix(".nii.gz")
        for folder, ending in (("images", "_0000"), ("labels", "")):
            (raw / f"{folder}{subset}").mkdir(parents=True, exist_ok=True)
            (data / folder / image.name).rename(raw / f"{folder}{subset}" / f"{name}{ending}.nii.gz")
    about = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1, "b": 2}, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps({**about, "numTraining": 5}))
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "from-nnunet.md").read_text(encoding="utf-8")
    quickly = ["--epochs", "1", "--set", *(f"{key}={json.dumps(value)}" for key, value in TINY_3D.items())]
    assert run_blocks(page, quickly) == ["check", "plan", "train", "predict", "evaluate"]
    assert len(list(Path("predictions").glob("*.nii.gz"))) == 1


@pytest.mark.parametrize(("page", "dims", "channels", "classes"), [("from-smp", 2, 3, 2), ("from-monai", 3, 1, 3)])
def test_the_pages_for_users_of_other_libraries_run(
    page: str, dims: int, channels: int, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if page == "from-smp":
        require("timm")
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for block in blocks("python", text):
        exec(block, {"loader": make_loader(dims, channels, classes, key=dims == 3)})
    if dims == 2:
        write_png(tmp_path / "new_images" / "one.png", np.zeros((40, 50, 3), np.uint8))
    else:
        (write_demo_data(tmp_path / "demo", 3, cases=6, shape=(8, 20, 18)) / "images").rename("new_scans")
    assert run_blocks(text, []) == ["predict", "prune", "info"]


def test_the_picture_of_the_readme_is_drawn(tmp_path: Path) -> None:
    generator, out = np.random.default_rng(0), tmp_path / "result.png"
    pairs = [(generator.integers(0, 90, (40, size, 3), np.uint8), np.eye(40, size) > 0) for size in (40, 300)]
    assert 0 < load(DOCS / "draw_result.py").draw(pairs, out) == out.stat().st_size
    assert (DOCS / "result.png").stat().st_size < 200_000
