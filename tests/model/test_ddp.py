"""Two processes with a half of the batch each train as one process with all of it, and no weight is unused."""

from __future__ import annotations

import copy
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tests.processes import start
from unetpp.losses.supervision import DeepSupervisionLoss
from unetpp.model.build import build_model

NETWORKS: dict[str, dict[str, Any]] = {
    **{topology: {"topology": topology} for topology in ("unet++", "unet+", "unet_e", "unet")},
    "one head": {"deep_supervision": False},
    "learned fusion": {"fusion": "learned"},
    "mean": {"fusion": "mean", "topology": "unet_e"},
    "scse, floor, shuffled": {"attention": "scse", "odd_sizes": "floor", "up": "pixel_shuffle", "block": "projected"},
    "residual encoder": {"encoder": "resenc", "encoder_blocks": (1, 1, 1), "norm": "instance", "dims": 3},
}
STEPS, PROCESSES = 2, 2
LOSS = DeepSupervisionLoss(loss=lambda logits, target: (logits + 1).square().mean())


def network_of(fields: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    return build_model(**{"topology": "unet++", "widths": (4, 6, 8), "in_channels": 1, "out_channels": 2, **fields})


def batch_of(fields: dict[str, Any], step: int) -> Tensor:
    return torch.randn(2 * PROCESSES, 1, *(9,) * fields.get("dims", 2), generator=torch.Generator().manual_seed(step))


def trained(network: nn.Module, batches: list[Tensor]) -> dict[str, Tensor]:
    """The gradients of the last step, by name."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for batch in batches:
        optimizer.zero_grad()
        LOSS(network(batch, heads=True), batch).backward()
        optimizer.step()
    return {name.removeprefix("module."): weight.grad for name, weight in network.named_parameters()}


def timm_is_here() -> bool:
    try:
        return bool(import_module("timm"))
    except (ImportError, RuntimeError):  # a torchvision that does not fit torch
        return False


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=PROCESSES)
    gradients = {}
    for name, fields in NETWORKS.items():
        network = DistributedDataParallel(network_of(fields), find_unused_parameters=False)
        gradients[name] = trained(network, [batch_of(fields, step).chunk(PROCESSES)[rank] for step in range(STEPS)])
    # the statistics of batch normalisations stay each process's own, so nothing is compared
    trained(
        DistributedDataParallel(network_of({"norm": "batch"})),
        [batch_of({}, step).chunk(PROCESSES)[rank] for step in range(STEPS)],
    )
    if timm_is_here():
        encoder = {"widths": None, "encoder": "test_resnet", "depth": 3, "first_width": 4}
        trained(
            DistributedDataParallel(network_of(encoder), find_unused_parameters=False),
            [batch_of({}, step).chunk(PROCESSES)[rank] for step in range(STEPS)],
        )
    torch.save(gradients, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    start(work, PROCESSES, str(tmp_path))
    each = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]
    for name, fields in NETWORKS.items():
        network = network_of(fields)
        before = copy.deepcopy(network.state_dict())
        expected = trained(network, [batch_of(fields, step) for step in range(STEPS)])
        assert any(not torch.equal(weight, before[key]) for key, weight in network.state_dict().items())
        for rank in range(PROCESSES):
            assert each[rank][name].keys() == expected.keys()
            for key, gradient in expected.items():
                torch.testing.assert_close(
                    each[rank][name][key],
                    gradient,
                    rtol=1e-4,
                    atol=1e-5,
                    msg=lambda text, name=name, key=key: f"{name} {key}: {text}",
                )
