"""Ablation of single nodes and channels of a trained network: does pruning within a depth pay?

python benchmarks/node_pruning.py RUN [RUN ...] [--cases 46]

Nodes: the Dice on validation cases of fold 0 with the output of one node set to zero, at each depth that computes it.
Channels: the same with a fraction of the channels of every nested node X[i, j], j > 0, but the last set to zero: those
with the least |activation x gradient of the loss| on training tiles (Molchanov et al. 2017). Nothing is retrained. The
fraction of multiply-adds is the most that removal can save: those of the node, or of the channels.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from unetpp.data.patches import PatchSampler
from unetpp.data.store import StoredCase
from unetpp.losses.supervision import DeepSupervisionLoss
from unetpp.measure.roofline import count_macs_and_bytes
from unetpp.measure.stored_cases import find_stored_split
from unetpp.measure.validation import DepthValidation, choose_evenly
from unetpp.model.file import load_model
from unetpp.model.grid import Node
from unetpp.model.network import UNetPlusPlus
from unetpp.run_folder import MODEL

SHARES = (0.125, 0.25, 0.5)
TILES = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--cases", type=int, default=46)
    options = parser.parse_args()
    for run in options.runs:
        model = run / "fold_0" / MODEL
        network, header = load_model(model)
        training, held_out = find_stored_split(model, header.plan.data)
        validation = DepthValidation(choose_evenly(held_out, options.cases), header.plan, torch.device("cpu"))
        tile = torch.zeros(1, header.plan.model.in_channels, *header.plan.predict.tile)
        work = count_node_work(network.eval(), tile)
        whole = validation(network).depths
        scores = ", ".join(f"{dice:.4f}" for dice in whole.values())
        print(f"{run.name}, {len(validation.cases)} cases; Dice at each depth: {scores}\n")
        print_nodes(network, validation, whole, work)
        importance = score_channels(network, training, header.plan.train.patch)
        print_channels(network, validation, whole, work, importance)


def print_nodes(
    network: UNetPlusPlus, validation: DepthValidation, whole: Mapping[int, float], work: Mapping[Node, float]
) -> None:
    depths = network.head_depths
    print(
        "| without | "
        + " | ".join(f"points lost at depth {depth} (multiply-adds saved)" for depth in depths)
        + " |\n|---|"
        + "---|" * len(depths)
    )
    for node in network.grid.nodes():
        if node[0] == 0 and node[1] > 0 and node[1] == depths[-1]:
            continue
        with mask_outputs(network, {node: torch.zeros(1)}):
            found = validation(network).depths
        cells = []
        for depth in depths:
            needed = network.grid.needed((depth,))
            saved = work[node] / sum(work[other] for other in needed)
            cells.append(
                f"{100 * (whole[depth] - found[depth]):.2f} ({saved:.0%})"
                if node in needed and node != (0, depth)
                else ""
            )
        print(f"| X[{node[0]}, {node[1]}] | " + " | ".join(cells) + " |", flush=True)


def print_channels(
    network: UNetPlusPlus,
    validation: DepthValidation,
    whole: Mapping[int, float],
    work: Mapping[Node, float],
    importance: Mapping[int, Mapping[Node, Tensor]],
) -> None:
    print(
        "\n| channels of nested nodes removed | "
        + " | ".join(f"points lost at depth {depth} (saved at most)" for depth in importance)
        + " |\n|---|"
        + "---|" * len(importance)
    )
    for share in SHARES:
        cells = []
        for depth, by_node in importance.items():
            masks = {node: make_mask(values, share) for node, values in by_node.items()}
            with mask_outputs(network, masks):
                dice = validation(network).depths[depth]
            saved = (
                share * sum(work[node] for node in masks) / sum(work[node] for node in network.grid.needed((depth,)))
            )
            cells.append(f"{100 * (whole[depth] - dice):.2f} ({saved:.0%})")
        print(f"| {share:.1%} | " + " | ".join(cells) + " |", flush=True)
    print()


@contextmanager
def mask_outputs(network: UNetPlusPlus, masks: Mapping[Node, Tensor]) -> Iterator[None]:
    """Multiply the outputs of nodes by a mask over channels."""
    handles = []
    for node, mask in masks.items():
        block = network.nodes[f"x_{node[0]}_{node[1]}"]
        handles.append(
            block.register_forward_hook(
                lambda module, inputs, output, mask=mask: (
                    output * mask.to(output.dtype).view(1, -1, *[1] * (output.ndim - 2))
                )
            )
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def make_mask(importance: Tensor, share: float) -> Tensor:
    mask = torch.ones_like(importance)
    mask[importance.argsort()[: round(share * len(importance))]] = 0
    return mask


def count_node_work(network: UNetPlusPlus, tile: Tensor) -> dict[Node, float]:
    """Count the multiply-adds of each node's block, in 10^9."""
    found: dict[Node, float] = {}
    inputs: dict[nn.Module, tuple[object, ...]] = {}
    handles = [
        block.register_forward_pre_hook(lambda module, arguments: inputs.update({module: arguments}))
        for block in network.nodes.values()
    ]
    with torch.inference_mode():
        network(tile)
        for handle in handles:
            handle.remove()
        for node in network.grid.nodes():
            block = network.nodes[f"x_{node[0]}_{node[1]}"]
            found[node] = count_macs_and_bytes(lambda _, block=block: block(*inputs[block]), tile)[0]  # type: ignore[misc]
    return found


def score_channels(
    network: UNetPlusPlus, cases: Sequence[StoredCase], patch: Sequence[int]
) -> dict[int, dict[Node, Tensor]]:
    """Score channels by the sum over tiles of |sum over voxels of activation x gradient|.

    Returns:
        Depth -> nested node -> (channels,).
    """
    sampler = PatchSampler(list(cases), tuple(patch), 1, 0.5, seed=0)
    loss = DeepSupervisionLoss()
    sums: dict[int, dict[Node, Tensor]] = {}
    for depth in network.head_depths[1:]:
        nodes = [node for node in network.grid.needed((depth,)) if node[1] > 0 and node != (0, depth)]
        for number in range(TILES):
            image, label = (torch.from_numpy(each)[None] for each in sampler.read(sampler.draw(number, 0)))
            outputs: dict[Node, Tensor] = {}

            def keep(node: Node, output: Tensor, outputs: dict[Node, Tensor] = outputs) -> None:
                output.retain_grad()
                outputs[node] = output

            handles = [
                network.nodes[f"x_{i}_{j}"].register_forward_hook(lambda m, a, output, node=(i, j): keep(node, output))
                for i, j in nodes
            ]
            heads = network(image, depth=depth, heads=True)
            loss(type(heads)(heads.depths[-1:], heads.logits[-1:]), label[:, None].long()).backward()
            for handle in handles:
                handle.remove()
            for node, output in outputs.items():
                assert output.grad is not None
                effect = (output.detach() * output.grad).flatten(2).sum(2).abs()[0]
                sums.setdefault(depth, {})[node] = sums.get(depth, {}).get(node, torch.zeros_like(effect)) + effect
            network.zero_grad()
    return sums


if __name__ == "__main__":
    main()
