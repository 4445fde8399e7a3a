"""Settings that docs/import.md names for an export to a peer: networks made with them fit."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.peers.reading import require
from tests.plans import small_plan
from tests.tiny import run_cli

from unetpp.data.demo import write_demo_data
from unetpp.errors import UsageError
from unetpp.model.build import build_from_plan
from unetpp.model.network import UNetPlusPlus
from unetpp.peers import to_monai, to_smp
from unetpp.peers.exporting import PeerModel
from unetpp.plan import ModelPlan, Plan, read_plan

PAGE = (Path(__file__).parents[2] / "docs" / "import.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("library", "package", "convert"), [("MONAI", "monai", to_monai), ("SMP", "segmentation_models_pytorch", to_smp)]
)
def test_what_was_trained_with_the_settings_of_the_page_fits(
    library: str, package: str, convert: Callable[[UNetPlusPlus, Plan | ModelPlan | None], PeerModel], tmp_path: Path
) -> None:
    require(package)
    said = re.search(rf"^- {library}: `(--set [^`]+)`", PAGE, flags=re.MULTILINE)
    assert said
    write_demo_data(tmp_path / "data", 2, cases=5, shape=(64, 80))
    answer = run_cli("plan", tmp_path / "data", "--out", tmp_path / "run", *shlex.split(said[1]))
    assert answer.code == 0, answer.stderr
    plan = read_plan(tmp_path / "run" / "plan.json")
    ours = build_from_plan(plan.model).eval()
    peer = convert(ours, plan)
    assert convert(ours, None).arguments == convert(ours, plan.model).arguments == peer.arguments
    module, _, name = peer.constructor.rpartition(".")
    theirs = getattr(importlib.import_module(module), name)(**peer.arguments).eval()
    theirs.load_state_dict(peer.state_dict, strict=True)
    image = torch.randn(1, plan.model.in_channels, 64, 64)
    with torch.inference_mode():
        logits = theirs(image)
        assert torch.allclose(logits[-1] if isinstance(logits, list) else logits, ours(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("convert", [to_monai, to_smp])
def test_what_is_no_network_or_has_no_plan_is_refused_by_name(convert: Callable[..., PeerModel]) -> None:
    network = build_from_plan(small_plan().model)
    with pytest.raises(UsageError, match=r"network: got 'model\.pth'; expected a network of unetpp"):
        convert("model.pth")
    with pytest.raises(UsageError, match=r"plan: got \{'depth': 2\}; expected the plan of the network"):
        convert(network, {"depth": 2})
    network.plan = None
    with pytest.raises(UsageError, match="plan: got None; expected the plan of the network"):
        convert(network, None)
