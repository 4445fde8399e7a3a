"""The command line: speed of starting, exit codes, JSON, messages without tracebacks."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from tests.plans import small_plan
from tests.tiny import TINY, run_cli, run_process, set_options
from unetpp import cli
from unetpp.errors import DataError, Interrupted, Problem, WriteError
from unetpp.measured import DepthRow
from unetpp.model.build import build_from_plan
from unetpp.model.file import save_model
from unetpp.model_notes import Notes
from unetpp.results import Reported

VERBS = (
    "demo",
    "check",
    "plan",
    "train",
    "report",
    "predict",
    "evaluate",
    "serve",
    "select",
    "prune",
    "adapt",
    "export",
    "import",
    "info",
    "clean",
)
"""In the order in which they are used."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    plan = small_plan()
    save_model(
        tmp_path / "model.safetensors",
        build_from_plan(plan.model).state_dict(),
        plan,
        Notes(depths={1: DepthRow(dice=0.8), 2: DepthRow(dice=0.9)}),
    )
    return tmp_path / "model.safetensors"


def modules_after(*tokens: object) -> set[str]:
    code = f"import sys; from unetpp import cli; code = cli.run({[str(token) for token in tokens]!r})"
    code += "; print(code, *sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    exit_code, *modules = done.stderr.split()
    assert exit_code == "0"
    return set(modules)


@pytest.mark.parametrize("tokens", [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)])
def test_help_loads_no_heavy_library(tokens: list[str]) -> None:
    assert not modules_after(*tokens) & {"torch", "monai", "scipy", "matplotlib", "nibabel", "SimpleITK"}


def test_info_loads_no_heavy_library(model: Path) -> None:
    assert not modules_after("info", model) & {"torch", "monai", "scipy", "matplotlib", "numpy"}


def test_help_names_every_verb_in_the_order_of_the_journey() -> None:
    answer = run_cli("--help")
    assert answer.code == 0
    assert tuple(re.findall(r"^│ ([a-z]+) ", answer.stdout, flags=re.MULTILINE)) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_by_one_example_and_takes_json(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = run_cli(verb, "--help")
    assert answer.code == 0
    assert all(text in answer.stdout for text in ("--json", "--debug", f"Usage: unetpp {verb} "))
    words = re.sub(r"`unetpp [^`]*`", "", answer.stdout)
    hidden = "progress|machine|model" if verb == "serve" else "progress|machine|data|model"
    assert not re.search(rf"`|--({hidden})\b|\bNone\b", words)
    (example,) = re.findall(r"^Example: unetpp (.*)$", answer.stdout, flags=re.MULTILINE)
    assert len(f"Example: unetpp {example}") <= 80
    name, calls = "import_checkpoint" if verb == "import" else verb, []
    module = importlib.import_module(f"unetpp.verbs.{name}")
    function = getattr(module, name)

    def record(*arguments: Any, **options: Any) -> Reported:
        given = inspect.signature(function).bind(*arguments, **options).arguments
        calls.append({key: plain(key, value) for key, value in given.items() if key != "progress"})
        return Reported(Path("report.html"))

    monkeypatch.setattr(module, name, record)
    assert run_cli(*shlex.split(example)).code == 0
    exec(function.__doc__.partition("Example:")[2].strip(), {"unetpp": module})
    by_command, by_python = calls
    assert {key: by_command[key] for key in by_python} == by_python


def plain(key: str, value: Any) -> Any:
    """An argument, whether a command or a user of Python gave it."""
    if key in ("inputs", "runs", "models"):
        return [str(entry) for entry in (value if isinstance(value, list) else [value])]
    return str(value) if isinstance(value, Path) else value


def test_help_shows_defaults() -> None:
    assert "[default: 0]" in run_cli("train", "--help").stdout
    assert "[default: 0.3]" in run_cli("predict", "--help").stdout


@pytest.mark.parametrize("verb", ["plan", "train", "predict"])
def test_verbs_with_a_dry_run(verb: str) -> None:
    assert "--dry-run" in run_cli(verb, "--help").stdout


def test_version() -> None:
    assert run_cli("--version").stdout.strip() == cli.__version__


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["trian", "x"], ["trian", "Did you mean", "train"]),
        (["train"], ["DATA is missing: the folder with your images", "unetpp train --help"]),
        (["predict", "model"], ["INPUTS is missing"]),
        (["predict", "model", "images"], ["--out is missing: folder for the results."]),
        (["train", "data", "--out"], ["--out requires an argument"]),
        (["check", "--data", "data"], ["--data"]),
        (["train", "data", "--out", "run", "--minutes", "soon"], ["--minutes", "soon"]),
        (["predict", "m", "a", "--out", "x", "--bogus"], ["--bogus", "unetpp predict --help"]),
        (["demo", "--dims", "4"], ["--dims", "4"]),
        (
            ["train", "data", "--out", "run", "--batch-size", "4"],
            ["--batch-size. Write it as --set train.batch=VALUE."],
        ),
    ],
)
def test_bad_usage_is_one_clear_message(tokens: list[str], words: list[str]) -> None:
    answer = run_cli(*tokens)
    assert answer.code == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("unetpp: ")
    assert [line[:4] for line in answer.stderr.splitlines()[1:]] in ([], ["See "])
    assert all(word in answer.stderr for word in words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--minutes", "2", "--epochs", "3"], ["both", "Leave one out"]),
        (["--minutes", "0"], ["--minutes", "above 0"]),
        (["--minutes", "nan"], ["--minutes", "above 0"]),
        (["--epochs", "0"], ["--epochs", "1 or more"]),
        (["--vram", "0"], ["--vram: got 0", "above 0"]),
        (["--vram", "24", "--device", "cpu"], ["--vram", "--device cpu", "Leave out one"]),
        (["--fold", "9"], ["--fold", "0 to 4, all, or none"]),
        (["--fold", "first"], ["--fold", "0, 1, ..., all, or none"]),
        (["--device", "gpu"], ["--device", "gpu", "cuda"]),
        (["--set", "train.batch"], ["--set", "section.key=value"]),
        (["--set", "train.bach=2"], ["train.bach", "Did you mean train.batch?"]),
        (["--set", "train.batch=0"], ["train.batch", "0"]),
        (["--set", "model.topology=unet3"], ["topology", "unet3"]),
    ],
)
def test_unusable_options_of_train(cells: Path, tmp_path: Path, options: list[str], words: list[str]) -> None:
    answer = run_cli("train", cells, "--out", tmp_path / "run", *options)
    assert answer.code == 2
    assert "Traceback" not in answer.stderr
    assert all(word in answer.stderr for word in words), answer.stderr
    assert not (tmp_path / "run").exists()


def test_check_of_good_data(cells: Path) -> None:
    answer = run_cli("check", cells)
    assert answer.code == 0
    assert "10 cases, 2D" in answer.stdout
    assert "No problems" in answer.stdout


def test_check_of_bad_data_as_json(cells: Path) -> None:
    (cells / "images" / "cells_03.png").unlink()
    (cells / "images" / "cells_05.png").write_bytes(b"")
    answer = run_cli("check", cells, "--json")
    assert answer.code == 2
    assert len(answer.json["problems"]) == 2
    assert set(answer.json["problems"][0]) == {"where", "got", "expected", "action", "setting", "topic"}


def test_json_is_one_object_and_progress_is_elsewhere(cells: Path, tmp_path: Path) -> None:
    answer = run_cli("plan", cells, "--out", tmp_path / "run", "--epochs", 2, *set_options(TINY), "--json")
    assert answer.code == 0
    assert answer.json["plan"]["model"]["widths"] == [4, 8, 8]
    assert answer.json["written"] is True
    assert "Reading every file" in answer.stderr


def test_an_error_under_json_is_an_object_too(tmp_path: Path) -> None:
    answer = run_cli("info", tmp_path / "absent.safetensors", "--json")
    assert answer.code == 2
    assert answer.json["error"]["type"] == "ModelFileError"
    assert "absent.safetensors" in answer.json["error"]["message"]
    assert "absent.safetensors" in answer.stderr


def test_plan_shows_reasons_and_writes(cells: Path, tmp_path: Path) -> None:
    answer = run_cli("plan", cells, "--out", tmp_path / "run", "--epochs", 2, *set_options(TINY))
    assert answer.code == 0
    assert [line.partition(":")[0] for line in answer.stdout.splitlines()[:4]] == [
        "Data",
        "Network",
        "Training",
        "Ends",
    ]
    assert f"Next: unetpp train {cells} --out {tmp_path / 'run'}\n" in answer.stdout
    assert "data.classes = " not in answer.stdout + answer.stderr
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "plan.json",
        "plan.schema.json",
        "plan.html",
        "cases.json",
        "fingerprint.json",
        "splits.json",
        "data.txt",
    }


def test_a_planned_run_is_trained_on_its_data_and_planned_again_with_minutes(cells: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("plan", cells, "--out", run)
    settings = set_options({"train.steps_per_epoch": 1, "train.patch": [32, 32]})
    text = run_cli(*words, "--epochs", 1, *settings, "train.batch=3").stdout
    hint = f"or, for a time of your choice: unetpp plan {cells} --out {run} --minutes 20"
    assert text.splitlines()[-1] == hint
    assert f"Next: unetpp train {cells} --out {run}" in run_cli("info", run).stdout
    again = run_cli(*words, "--minutes", 0.2, "--json", *settings).json
    assert (again["plan"]["train"]["minutes"], again["train_minutes"]) == (0.2, 0.2)
    assert json.loads((run / "plan.json").read_text())["train"]["minutes"] == 0.2
    assert hint not in run_cli(*words, "--minutes", 0.2, *settings).stdout


def test_verbose_and_quiet(cells: Path, tmp_path: Path) -> None:
    words = ("plan", cells, "--out", tmp_path / "run", "--epochs", 2, *set_options(TINY))
    assert "data.classes = [background, foreground]" in run_cli(*words, "--verbose").stderr
    assert run_cli(*words, "--quiet").stderr == ""


def test_help_and_version_are_commands_too() -> None:
    assert run_cli("help").stdout == run_cli("--help").stdout == run_cli().stdout
    assert run_cli("help", "train").stdout == run_cli("train", "--help").stdout
    assert run_cli("version").stdout == run_cli("--version").stdout
    assert "  unetpp train data/nuclei --out runs/nuclei --minutes 20\n" in run_cli("help").stdout


def test_completion_is_installed_for_the_shell(tmp_path: Path) -> None:
    answer = run_process("--install-completion", env=os.environ | {"HOME": str(tmp_path), "SHELL": "/bin/bash"})
    assert answer.code == 0, answer.stderr
    (script,) = tmp_path.glob(".local/**/unetpp")
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert "evaluate" in script.read_text()


@pytest.mark.parametrize("verb", ["plan", "train"])
def test_dry_run_says_time_and_memory_and_writes_nothing(cells: Path, tmp_path: Path, verb: str) -> None:
    answer = run_cli(verb, cells, "--out", tmp_path / "run", "--epochs", 2, "--dry-run", *set_options(TINY))
    assert answer.code == 0
    assert "MB" in answer.stdout
    assert re.search(r"about [0-9.e-]+ minutes? of steps on this machine", answer.stdout)
    assert not (tmp_path / "run").exists()


def test_info_of_a_model_file(model: Path) -> None:
    answer = run_cli("info", model)
    assert answer.code == 0
    assert "unet++ of depth 2" in answer.stdout
    assert "0.9000" in answer.stdout


def test_prune_keeps_the_full_model(model: Path, tmp_path: Path) -> None:
    (tmp_path / "link.safetensors").symlink_to(model)
    before = model.read_bytes()
    for out in (model, tmp_path / "link.safetensors"):
        answer = run_cli("prune", model, "--out", out, "--depth", 1)
        assert answer.code == 2
        assert "expected another file" in answer.stderr
    assert model.read_bytes() == before


def test_info_as_json(model: Path) -> None:
    values = run_cli("info", model, "--json").json
    assert values["plan"]["model"]["depth"] == 2
    with safe_open(model, "pt") as file:
        names = file.keys()
        assert values["parameters"] == sum(file.get_tensor(name).numel() for name in names)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DataError(Problem("a.png", "x", "y", "Do z.")), 2, ["a.png: got x; expected y. Do z."]),
        (WriteError("out.png", "no space", "to write it"), 2, ["no space"]),
        (Interrupted("stopped; go on with --resume"), 1, ["--resume"]),
        (KeyboardInterrupt(), 1, ["Stopped"]),
        (MemoryError(), 2, ["Out of memory.", "--set train.batch"]),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: "
                "you tried to allocate 8 bytes."
            ),
            2,
            ["memory", "--set train.batch"],
        ),
        (OSError(12, "Cannot allocate memory"), 2, ["memory", "--set train.batch"]),
        (RuntimeError("a\nb"), 2, ["Unexpected error (RuntimeError): a b.", "--debug", "issue"]),
    ],
)
def test_no_exception_becomes_a_traceback(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: list[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("unetpp.verbs.info.info", fail)
    answer = run_cli("info", "model")
    assert answer.code == code
    assert "Traceback" not in answer.stderr
    assert all(word in answer.stderr for word in words)


def test_debug_shows_where_an_error_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("inside")

    monkeypatch.setattr("unetpp.verbs.info.info", fail)
    assert "Traceback" in run_cli("info", "model", "--debug").stderr


def test_a_reader_that_has_seen_enough(model: Path) -> None:
    command = f"{sys.executable} -m unetpp info {model} | true"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0


def test_interruption_outside_training_is_a_message(tmp_path: Path) -> None:
    code = """
import sys, time, unetpp.cli, unetpp.verbs.check
def check(*_, **__):
    print("ready", flush=True)
    time.sleep(60)
unetpp.verbs.check.check = check
unetpp.cli.main()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, "check", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert stderr.startswith("unetpp: Stopped")


def test_module_is_the_command() -> None:
    answer = run_process("--version")
    assert (answer.code, answer.stdout.strip()) == (0, cli.__version__)


def test_a_live_bar_on_a_terminal(cells: Path) -> None:
    """Standard error is a terminal, standard output a pipe that holds the JSON alone."""
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "unetpp", "check", str(cells), "--json"],
        stdout=subprocess.PIPE,
        stderr=end,
        env=os.environ | {"TERM": "xterm"},
    ) as process:
        os.close(end)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal closes with the process
            while part := os.read(terminal, 4096):
                shown += part
        stdout, _ = process.communicate(timeout=60)
    os.close(terminal)
    assert "Reading every file" in shown.decode()
    assert "\x1b[" in shown.decode()
    assert json.loads(stdout)["cases"] == 10


def test_plan_json_can_be_read_back(cells: Path, tmp_path: Path) -> None:
    run_cli("plan", cells, "--out", tmp_path / "run", "--epochs", 2, *set_options(TINY))
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["train"]["patch"] == [32, 32]
