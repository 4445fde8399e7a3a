"""On a CUDA device: the answers of the CPU, and the journey of a user. Skipped where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.test_patches import ArrayCase
from tests.plans import small_plan
from tests.tiny import TINY, TINY_3D, call_learned, run_cli, set_options
from unetpp.data.demo import write_demo_data
from unetpp.data.patches import PatchSampler
from unetpp.infer.predictor import Predictor
from unetpp.model.build import build_from_plan, build_model
from unetpp.model.network import HeadOutputs, UNetPlusPlus
from unetpp.plan import AugmentPlan
from unetpp.runtime import cuda
from unetpp.runtime.cuda import CudaNetwork
from unetpp.sizes import list_growth
from unetpp.train.augment import Augmentation
from unetpp.train.batches import BatchMaker, prefetch
from unetpp.train.growth import Growth
from unetpp.train.step import TrainingStep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second pass is recorded already."""
    monkeypatch.setattr(cuda, "CAPTURE_AFTER", 1)


def trained_like(**fields: Any) -> UNetPlusPlus:
    """A network whose batch normalisations have statistics."""
    torch.manual_seed(0)
    network = build_model(**{"topology": "unet++", "widths": (8, 16, 24), **fields}).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    return network


NETWORKS: dict[str, dict[str, Any]] = {
    "default": {},
    "3D": {"dims": 3, "widths": (4, 8, 8)},
    "instance": {"block": "plain", "norm": "instance", "up": "linear", "activation": "leaky_relu"},
    "batch": {"norm": "batch", "attention": "scse"},
    "batch 3D": {"norm": "batch", "dims": 3, "activation": "silu"},
    "floor": {"norm": "batch", "odd_sizes": "floor", "align_corners": True, "up": "linear"},
    "trilinear": {"dims": 3, "up": "linear"},
    "ensemble": {"topology": "unet_e", "fusion": "mean"},
    "residual": {"norm": "layer", "block": "residual"},
    "paper": {"preset": "paper"},
    "shells": {"topology": "unet", "widths": (16, 32, 48), "shells": (8, 16)},
    "shells 3D": {"dims": 3, "widths": (4, 8, 8), "shells": (0.5, 1), "norm": "instance"},
    "three shells": {"widths": (32, 32, 64), "shells": (8, 16, 32), "norm": "batch"},
}


@pytest.mark.parametrize("fields", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-3), ("bf16", 0.05), ("fp16", 0.01)])
def test_recorded_networks_answer_as_the_cpu_does(fields: dict[str, Any], precision: str, tolerance: float) -> None:
    network = trained_like(**fields)
    images = [
        torch.randn(2, 1, *(19, 22, 20)[: fields.get("dims", 2)], generator=torch.Generator().manual_seed(seed))
        for seed in range(4)
    ]
    recorded = CudaNetwork(trained_like(**fields).cuda(), precision)
    for depth in (network.head_depths[0], None):
        for image in images:  # the first is run, the second recorded, the others replayed
            with torch.inference_mode():
                expected = network(image, depth=depth)
                got = recorded(image.cuda(), depth=depth).float().cpu()
            assert float((got - expected).norm() / expected.norm()) < tolerance


@pytest.mark.parametrize("name", ["default", "shells", "three shells"])
def test_every_head_is_recorded(name: str) -> None:
    network = trained_like(**NETWORKS[name])
    recorded = CudaNetwork(trained_like(**NETWORKS[name]).cuda(), "fp32")
    image = torch.randn(1, 1, 24, 24)
    with torch.inference_mode():
        expected = network(image, heads=True)
        for _ in range(3):
            found = recorded(image.cuda(), heads=True)
    assert isinstance(found, HeadOutputs)
    assert found.depths == expected.depths
    for got, wanted in zip(found.logits, expected.logits, strict=True):
        torch.testing.assert_close(got.cpu(), wanted, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("name", ["shells", "shells 3D", "three shells"])
def test_a_pass_that_grows_through_the_sizes_gives_each_as_the_cpu_does(name: str) -> None:
    network = trained_like(**NETWORKS[name])
    runner = CudaNetwork(trained_like(**NETWORKS[name]).cuda(), "fp32")
    image = torch.randn(3, 1, *(19, 22, 20)[: NETWORKS[name].get("dims", 2)])
    with torch.inference_mode():
        expected, forward_pass = network(image, heads=True), runner.start_forward(image.cuda())
        for number in list_growth(network.head_depths, network.depth):
            wanted = expected.at(number)
            got = forward_pass.logits(number).float().cpu()
            assert float((got - wanted).norm() / wanted.norm()) < 2e-3


def test_predictions_are_those_of_the_cpu() -> None:
    plan = small_plan()
    torch.manual_seed(0)
    network = build_from_plan(plan.model)
    image = np.random.default_rng(0).random((50, 61), np.float32)
    expected = Predictor([network], plan).predict(image)
    for backend in ("torch", "auto"):
        predictor = Predictor([build_from_plan(plan.model)], plan, "cuda", backend=backend)
        predictor.network.load_state_dict(network.state_dict())
        assert (Predictor([predictor.network], plan, "cuda", backend=backend).predict(image) == expected).mean() > 0.98


@pytest.mark.parametrize("ignored", [None, 255])
def test_recorded_steps_are_those_of_torch(ignored: int | None) -> None:
    def losses(record: bool) -> list[float]:
        plan = small_plan(settings={"train.warmup": 0}, widths=(8, 16, 24), norm="batch", dropout=0.1)
        torch.manual_seed(0)
        network, device = build_from_plan(plan.model), torch.device("cuda")
        step = TrainingStep(network, plan.model, plan.train, device, record=record, ignored=ignored)
        found = []
        for number in range(10):
            images = torch.randn(2, 1, 24, 24, generator=torch.Generator().manual_seed(number))
            labels = (images > 0).long()
            if ignored is not None:
                labels[:, :, : 2 * number] = ignored  # other voxels in each batch
            found.append(step((images, labels), number, 0.0))
        return found

    assert losses(True) == pytest.approx(losses(False), rel=0.02)
    assert losses(True)[-1] < losses(True)[0]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_recorded_steps_of_a_network_that_grows_are_those_of_torch(optimizer: str) -> None:
    def losses(record: bool) -> list[float]:
        settings = {"train.warmup": 0, "train.growth": (0.5,), "train.distillation": True, "train.optimizer": optimizer}
        fields = {"widths": (8, 16, 24), "shells": (0.5, 1), "norm": "instance"}
        plan = small_plan(settings=settings, **fields)
        growth, device, found = Growth(plan.model, plan.train), torch.device("cuda"), []
        torch.manual_seed(0)
        whole = build_from_plan(plan.model)
        network = growth.cut(whole, 0)
        for phase in range(growth.last + 1):
            first = 10 * phase
            network = growth.grow(network, whole, phase) if phase else network
            step = TrainingStep(network, growth.plan_phase(phase), plan.train, device, record=record, first=first)
            for number in range(first, first + 10):
                images = torch.randn(2, 1, 24, 24, generator=torch.Generator().manual_seed(number))
                found.append(step((images, (images > 0).long()), number, number / 20))
            network = step.network
        return found

    assert losses(True) == pytest.approx(losses(False), rel=0.02)
    assert losses(True)[-1] < losses(True)[0]


@pytest.mark.parametrize("patch", [(16, 16), (8, 12, 12)], ids=["2D", "3D"])
def test_batches_of_a_gpu_are_those_of_the_cpu_but_for_noise(patch: tuple[int, ...]) -> None:
    every = {name: 1.0 for name in AugmentPlan.model_fields if name.endswith("_probability")} | {"noise_std": 0.0}
    label = np.random.default_rng(0).integers(3, size=[2 * size for size in patch]).astype(np.uint8)
    sampler = PatchSampler([ArrayCase(label.shape, label)], patch, 3, 0.5, seed=0)
    augment = Augmentation(AugmentPlan(**every), patch, None)
    expected = BatchMaker(sampler, augment)
    batches = prefetch(BatchMaker(sampler, augment, "cuda")).iterate(0)
    for step in range(20):
        images, labels = next(batches)
        for found, known in zip((images, labels), expected(step), strict=True):
            assert found.is_cuda and found.dtype == known.dtype
            scale = known.abs().max()
            assert ((found.cpu() - known).abs() <= 1e-3 * scale).float().mean() > 0.999  # halfway between two voxels
    batches.close()


@pytest.mark.parametrize(("dims", "settings"), [(2, TINY), (3, TINY_3D)], ids=["2D", "3D"])
def test_the_journey_on_a_gpu(tmp_path: Path, dims: int, settings: dict[str, Any]) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    write_demo_data(data, dims=dims)
    trained = run_cli("train", data, "--out", run, "--device", "cuda", *set_options({**settings, "train.epochs": 2}))
    assert trained.code == 0, trained.stderr
    metrics = json.loads((run / "fold_0" / "metrics.json").read_text())
    assert all(row["latency_ms"] > 0 for row in metrics["depths"].values())
    for options in ([], ["--depth", "auto"], ["--tta", "--uncertainty", "disagreement"], ["--device", "cpu"]):
        if options == ["--depth", "auto"]:
            call_learned(run / "fold_0" / "model.safetensors")
            assert run_cli("adapt", run).code == 0
        answer = run_cli(
            "predict", run, data / "images", "--out", tmp_path / f"out{len(options)}{options[:1]}", *options
        )
        assert answer.code == 0, answer.stderr
    assert run_cli("prune", run, "--depth", "1", "--out", tmp_path / "small.safetensors").code == 0
    assert run_cli("report", run).code == 0
