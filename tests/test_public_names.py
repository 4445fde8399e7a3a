"""The public door: what it promises is there, typed, lazy, and not hidden by submodules."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import unetpp

VERBS = (
    "demo",
    "check",
    "plan",
    "train",
    "predict",
    "evaluate",
    "report",
    "serve",
    "select",
    "prune",
    "adapt",
    "export",
    "import_checkpoint",
    "info",
    "clean",
)


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("name", unetpp.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(unetpp, name) is not None
    assert name in dir(unetpp)


def test_all_has_no_doubles_and_agrees_with_the_homes() -> None:
    assert len(unetpp.__all__) == len(set(unetpp.__all__))
    assert set(unetpp.__all__) == set(unetpp._HOME_OF) | {"peers", "__version__"}


def test_names_for_type_checkers_are_those_of_all() -> None:
    tree = ast.parse(Path(unetpp.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    names = {
        alias.asname or alias.name
        for node in ast.walk(guarded)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert names == set(unetpp._HOME_OF) | {"peers"}


def test_the_ways_back_to_peers_are_reached_through_the_door() -> None:
    code = "import sys, unetpp; before = 'torch' in sys.modules; peers = unetpp.peers"
    assert run_python(f"{code}; print(before, callable(peers.to_smp), callable(peers.to_monai))") == "False True True"


def test_importing_the_loss_does_not_load_torchs_compiler() -> None:
    code = "import sys, unetpp.losses.supervision; print('torch._dynamo' in sys.modules)"
    assert run_python(code) == "False"


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = unetpp.trian


def test_unknown_name_cannot_be_imported() -> None:
    with pytest.raises(ImportError):
        exec("from unetpp import trian")


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_a_module_of_its_name(verb: str) -> None:
    assert inspect.isfunction(getattr(unetpp, verb))
    assert getattr(unetpp, verb).__module__ == f"unetpp.verbs.{verb}"


@pytest.mark.parametrize("module", ["unetpp.plan", "unetpp.train", "unetpp.train.trainer"])
def test_importing_a_submodule_does_not_hide_a_verb(module: str) -> None:
    imported = importlib.import_module(module)
    assert isinstance(imported, types.ModuleType)
    assert inspect.isfunction(unetpp.plan)
    assert inspect.isfunction(unetpp.train)


@pytest.mark.parametrize(
    "order",
    [
        "import unetpp.plan, unetpp.train.trainer; unetpp.plan, unetpp.train",
        "unetpp.plan, unetpp.train; import unetpp.plan, unetpp.train.trainer",
    ],
)
def test_verbs_stay_in_front_in_a_fresh_process(order: str) -> None:
    shown = "type(unetpp.plan).__name__, type(unetpp.train).__name__, Plan.__name__"
    code = f"import unetpp; {order}; from unetpp.plan import Plan; print({shown})"
    assert run_python(code) == "function function Plan"


def test_other_attributes_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unetpp, "plan", "replaced")
    assert unetpp.plan == "replaced"


def test_import_loads_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "pydantic", "monai", "rich", "cyclopts"}
    loaded = run_python(f"import sys, unetpp; print(sorted({heavy} & set(sys.modules)))")
    assert loaded == "[]"


def test_errors_are_one_tree() -> None:
    errors = [getattr(unetpp, name) for name in unetpp.__all__ if name.endswith("Error") or name == "Interrupted"]
    assert len(errors) == 8
    assert all(issubclass(error, unetpp.UnetppError) for error in errors)


def test_the_document_of_a_verb_names_every_argument() -> None:
    for verb in VERBS:
        names = [name for name in inspect.signature(getattr(unetpp, verb)).parameters if name != "progress"]
        told = getattr(unetpp, verb).__doc__.partition("Args:\n")[2].partition("\n\n")[0]
        assert re.findall(r"^ {8}(\w+): [A-Za-z0-9]", told, flags=re.MULTILINE) == names, verb


def test_every_result_of_a_verb_is_public() -> None:
    for verb in VERBS:
        result = inspect.signature(getattr(unetpp, verb)).return_annotation
        assert set(result.split(" | ")) <= set(unetpp.__all__), verb


def test_building_a_network_through_the_door() -> None:
    import torch

    network = unetpp.build_model(in_channels=1, out_channels=2, dims=2, depth=1, widths=[4, 4])
    assert isinstance(network, unetpp.UNetPlusPlus)
    assert network(torch.zeros(1, 1, 5, 7)).shape == (1, 2, 5, 7)


@pytest.mark.parametrize(
    ("verb", "given", "own"), [("train", "batch_size", "train.batch"), ("plan", "lr", "train.learning_rate")]
)
def test_a_setting_that_is_given_as_an_argument_is_named(verb: str, given: str, own: str) -> None:
    with pytest.raises(unetpp.UsageError, match=rf'Write it as set={{"{own}": \.\.\.}}'):
        getattr(unetpp, verb)("data", "run", **{given: 3})
    with pytest.raises(TypeError, match="bogus"):
        getattr(unetpp, verb)("data", "run", bogus=3)
