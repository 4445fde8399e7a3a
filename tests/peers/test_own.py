"""A state_dict of one's own loop: its settings are read from names and shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.model.test_ddp import NETWORKS
from tests.peers.reading import differences, read, require, run
from tests.tiny import run_cli

from unetpp.errors import ModelFileError, PlanError, UsageError
from unetpp.model.build import build_model

FITTED: dict[str, dict[str, Any]] = {
    **{name: {"topology": "unet++", "widths": (4, 6, 8), **fields} for name, fields in NETWORKS.items()},
    **{preset: {"preset": preset, "depth": 3, "first_width": 4} for preset in ("default", "paper", "resenc")},
    "default of two widths": {"depth": 2, "first_width": 16},
    "three widths": {
        "widths": (8, 16, 24),
        "shells": (2, 4, 8),
        "topology": "unet++",
        "block": "plain",
        "norm": "batch",
    },
    "strides": {
        "topology": "unet++",
        "dims": 3,
        "widths": (4, 8),
        "strides": [[1, 2, 2]],
        "kernel_sizes": [[1, 3, 3], [3, 3, 3]],
    },
    "everything": {
        "topology": "unet++",
        "widths": (4, 6, 8),
        "block": "residual",
        "up": "linear",
        "up_projection": True,
        "down": "conv",
        "attention": "scse",
        "norm": "batch",
        "out_channels": 5,
    },
    "wide": {
        "topology": "unet++",
        "widths": (4, 6, 8),
        "up": "transposed_wide",
        "head_kernel": 3,
        "head_bias": False,
        "up_bias": False,
    },
    "single widths": {"widths": (8, 12, 16), "nested_widths": (4, 6), "node_widths": {"0_2": 8}, "conv_bias": True},
    "hidden": {
        "topology": "unet++",
        "widths": (8, 12),
        "block": "plain",
        "convs_per_node": 3,
        "hidden_fraction": 0.5,
        "nested_norm": "none",
    },
}
NO_TRACE = ("norm", "activation", "odd_sizes", "fusion")
"""Fields that these networks have otherwise than `build_model`, and that leave no trace."""


@pytest.mark.parametrize("name", FITTED)
def test_the_settings_are_those_of_the_network(name: str) -> None:
    torch.manual_seed(0)
    theirs = build_model(**FITTED[name]).eval()
    fields = theirs.plan.model_dump()
    told = {f"model.{key}": fields[key] for key in NO_TRACE} | {"model.down": fields["down"]}
    if fields["topology"] in ("unet+", "unet_e"):
        told["model.topology"] = fields["topology"]
    ours, plan, ignored = read({f"module.{key}": each for key, each in theirs.state_dict().items()}, told)
    image = torch.randn(1, 1, *(17,) * fields["dims"])
    assert ignored == {}
    assert differences(run(theirs, image, heads=True).logits, run(ours, image, heads=True).logits) == [0.0] * len(
        theirs.head_depths
    )
    assert set(plan.reasons) >= {"data.normalization", "predict.tile"}


def test_what_leaves_no_trace_is_assumed_and_told() -> None:
    state = build_model(topology="unet++", widths=(4, 6), norm="instance").state_dict()
    _, plan, _ = read(state)
    assert plan.model.norm == "group"
    assert "same tensors" in plan.reasons["model.norm"]
    assert read(state, {"model.norm": "instance"})[1].model.norm == "instance"


def test_groups_that_do_not_fit_nested_widths_are_not_assumed() -> None:
    _, plan, _ = read(build_model(widths=(4, 6), norm="instance").state_dict())
    assert (plan.model.norm, plan.model.shells) == ("instance", (0.5, 1))


def test_two_topologies_with_the_same_tensors_are_asked_for() -> None:
    with pytest.raises(UsageError, match=r"`model\.topology=\.\.\.`   unet\+ or unet_e"):
        read(build_model(widths=(4, 6, 8), topology="unet_e").state_dict())


def test_an_encoder_of_timm_is_asked_for() -> None:
    require("timm")
    theirs = build_model(encoder="test_resnet", depth=3, first_width=4, in_channels=3).eval()
    with pytest.raises(UsageError, match=r"`model\.encoder=\.\.\.`"):
        read(theirs.state_dict())
    ours, _, _ = read(theirs.state_dict(), {"model.encoder": "test_resnet"})
    image = torch.randn(1, 3, 32, 32)
    assert differences([run(theirs, image)], [run(ours, image)]) == [0.0]


def test_a_changed_network_is_refused_by_name() -> None:
    state = build_model(topology="unet++", widths=(4, 6, 8)).state_dict()
    state["nodes.x_0_2.extra.weight"] = torch.zeros(1)
    with pytest.raises(ModelFileError, match=r"x_0_2\.extra\.weight is unknown"):
        read(state)


@pytest.mark.parametrize("shape", [(), (2,), (2, 4, 1, 1), (0, 0, 0, 0)])
def test_a_head_alone_is_no_network(shape: tuple[int, ...]) -> None:
    with pytest.raises((ModelFileError, PlanError)):
        read({"heads.1.weight": torch.zeros(shape)})
    with pytest.raises((ModelFileError, PlanError)):
        read(build_model(widths=(4, 6)).state_dict() | {"nodes.x_0_0.units.0.conv.weight": torch.zeros(shape)})


def test_the_command_reads_it(tmp_path: Path) -> None:
    torch.save(build_model(widths=(4, 6)).state_dict(), tmp_path / "mine.pth")
    answer = run_cli("import", tmp_path / "mine.pth", "--out", tmp_path / "ours.safetensors")
    assert answer.code == 0, answer.stderr
    assert "UNetPlusPlus of unetpp" in answer.stdout
    assert "model.activation = leaky_relu   (as unetpp.build_model has it" in answer.stdout
