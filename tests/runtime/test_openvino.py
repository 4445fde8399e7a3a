"""OpenVINO: the same output as torch, and what happens where it cannot run."""

from __future__ import annotations

import builtins
import importlib.util
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from tests.plans import small_plan
from torch import Tensor

from unetpp.errors import MissingExtraError, UsageError
from unetpp.infer.predictor import Predictor
from unetpp.model.build import build_from_plan, build_model
from unetpp.model.network import HeadOutputs, UNetPlusPlus
from unetpp.runtime import openvino as engine
from unetpp.runtime.openvino import OpenVinoNetwork
from unetpp.runtime.runner import choose_backend

CPU = torch.device("cpu")


@pytest.fixture
def openvino() -> Any:
    return pytest.importorskip("openvino")


def network(**fields: Any) -> UNetPlusPlus:
    torch.manual_seed(0)
    return build_model(**{"topology": "unet++", "widths": (8, 16, 24), **fields}).eval()


def image(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("depth", "fields"),
    [
        (None, {}),
        (1, {}),
        (1, {"dims": 3, "widths": (4, 8, 8)}),
        (None, {"block": "plain", "norm": "instance", "up": "linear"}),
        (None, {"norm": "batch", "up": "pixel_shuffle", "attention": "scse"}),
        (2, {"norm": "batch", "odd_sizes": "floor", "up": "linear", "align_corners": True}),
        (None, {"topology": "unet_e", "fusion": "mean"}),
        (None, {"norm": "layer", "block": "residual"}),
        (None, {"preset": "paper"}),
    ],
    ids=["default", "shallow", "3D", "instance", "scSE", "floor", "ensemble", "layer", "paper"],
)
def test_openvino_answers_as_torch_does(openvino: Any, depth: int | None, fields: dict[str, Any]) -> None:
    ours = network(**fields)
    x = image(2, 1, *(19, 22, 20)[: fields.get("dims", 2)])
    with torch.inference_mode():
        expected = ours(x, depth=depth)
        found = OpenVinoNetwork(ours, "fp32")(x, depth=depth)
    assert isinstance(found, Tensor)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_all_heads_and_any_number_of_tiles(openvino: Any) -> None:
    ours = network()
    fast = OpenVinoNetwork(ours, "fp32")
    for batch in (3, 1):
        x = image(batch, 1, 16, 16)
        with torch.inference_mode():
            expected, found = ours(x, heads=True), fast(x, heads=True)
        assert isinstance(found, HeadOutputs)
        assert found.depths == expected.depths
        for mine, theirs in zip(found.logits, expected.logits, strict=True):
            assert torch.allclose(mine, theirs, rtol=0, atol=1e-4)


def test_sizes_of_a_network_with_shells(openvino: Any) -> None:
    ours = network(widths=(16, 32, 32), shells=(8, 16))
    fast, x = OpenVinoNetwork(ours, "fp32"), image(2, 1, 16, 16)
    with torch.no_grad():
        expected, forward_pass = ours(x, heads=True), fast.start_forward(x)
        for found, number in ((fast(x, depth=2), 2), (forward_pass.logits(2), 2), (forward_pass.logits(4), 4)):
            wanted = expected.at(number)
            assert torch.allclose(found, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("depth", [None, "all", "mean"])
def test_a_prediction_is_the_same_on_both(openvino: Any, depth: Any) -> None:
    plan = small_plan(patch=16, settings={"predict.precision": "bf16"})
    torch.manual_seed(0)
    networks = [build_from_plan(plan.model)]
    picture = np.random.default_rng(0).normal(size=(40, 37)).astype(np.float32)
    answers = [
        Predictor(networks, plan, backend=backend).predict(picture, depth=depth, tta=True)
        for backend in ("torch", "openvino")
    ]
    by_depth = [answer if isinstance(answer, dict) else {0: answer} for answer in answers]
    assert by_depth[0].keys() == by_depth[1].keys()
    for key, segmentation in by_depth[0].items():
        assert (segmentation == by_depth[1][key]).mean() > 0.99  # bfloat16, weights as they were drawn: many near ties


def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert choose_backend("auto", CPU, "batch") == "torch"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert choose_backend("auto", CPU, "batch") == "openvino"
    assert choose_backend("auto", CPU, "group") == "torch"
    assert choose_backend("auto", torch.device("cuda"), "batch") == "cuda"


def test_what_openvino_cannot_run_is_run_by_torch_unless_it_was_asked_for(
    openvino: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("No conversion rule for aten::unheard_of\nand more")

    monkeypatch.setattr(engine, "convert", fails)
    ours, x = network(), image(1, 1, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(OpenVinoNetwork(ours, "fp32", or_torch=True)(x), ours(x))
        with pytest.raises(UsageError, match=r"cannot run this network \(No conversion rule for aten::unheard_of\)"):
            OpenVinoNetwork(ours, "fp32")(x)


def test_openvino_reports_nothing_over_the_network(openvino: Any) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from unetpp.runtime.exported_file import load_openvino; import sys; load_openvino('');"
            "import openvino.tools.ovc; print(sys.modules['openvino_telemetry'])",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "None"


SIGNALLED = """
import faulthandler, signal, torch
from unetpp.runtime.openvino import OpenVinoNetwork
from unetpp.model.build import build_model

faulthandler.enable()
signal.signal(signal.SIGTERM, lambda *_: print("caught"))
networks = [OpenVinoNetwork(build_model(widths=(8, 8)).eval(), "fp32") for _ in range(2)]
with torch.inference_mode():
    for network in networks:
        network(torch.zeros(1, 1, 16, 16))
while networks:
    networks.pop(0), network
    network = None
signal.raise_signal(signal.SIGTERM)
"""


def test_a_signal_after_networks_that_are_gone_is_caught(openvino: Any) -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "caught"), done.stderr


def test_a_backend_that_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="backend: got 'tensorrt'; expected one of auto, torch, openvino"):
        choose_backend("tensorrt", CPU, "batch")
    with pytest.raises(UsageError, match="got openvino on cuda"):
        choose_backend("openvino", torch.device("cuda"), "batch")

    def absent(name: str, *arguments: Any, load: Any = builtins.__import__, **options: Any) -> Any:
        if name == "openvino":
            raise ImportError(name)
        return load(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=r"unetpp\[openvino\]"):
        choose_backend("openvino", CPU, "batch")


def test_few_tiles_run_with_torch_and_compile_nothing(openvino: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small_plan(norm="batch")
    predictor = Predictor([build_from_plan(plan.model)], plan, CPU, backend="auto")
    compiled: list[int] = []
    compile_ = OpenVinoNetwork._compile
    monkeypatch.setattr(OpenVinoNetwork, "_compile", lambda *arguments: (compiled.append(1), compile_(*arguments))[1])
    small, large = np.zeros((1, *plan.predict.tile)), np.zeros((1, *[8 * size for size in plan.predict.tile]))
    predictor.predict(small.astype(np.float32))
    assert (predictor.backend, compiled) == ("torch", [])
    predictor.predict(large.astype(np.float32))
    assert (predictor.backend, compiled) == ("openvino", [1])
    predictor.predict(small.astype(np.float32))
    assert predictor.backend == "openvino"
