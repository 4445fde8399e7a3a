"""Steps a second of 1, 2 and 4 processes, the bytes that each step communicates, and a model of larger machines.

python -m benchmarks.scaling [--sizes 1 2 4] [--steps 5] [--batch 8] [--patch 64 64] [--widths 16 32 64 128]
    [--norm instance] [--step-ms MS] [--node-gb 300] [--network-gb 12.5] [--node-us 10] [--network-us 30]

Processes here share the cores of one machine and talk over gloo: what they reach says little of GPUs. It shows that
messages are few and how large they are. The model takes these, and five inputs that it prints: the time of a step of
the whole batch on one GPU (`--step-ms`; by default the processor time here, divided by `--gpu-speed`), bandwidth and
latency of a message within a node and between nodes. It is not measured, but can be checked where there are GPUs.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import socket
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.multiprocessing as mp

from unetpp.json_files import parse_json
from unetpp.model.build import build_from_plan, model_plan
from unetpp.plan import ModelPlan, TrainPlan
from unetpp.rank_place import RankPlace
from unetpp.runtime.ranks import join
from unetpp.train.step import TrainingStep
from unetpp.words import count_noun

CPU = torch.device("cpu")
WARM_UPS = 2
MACHINES = (("8 GPUs of a node", 8, 1), ("4 nodes of 8 GPUs", 8, 4))
"""Name, GPUs of a node, nodes."""


@dataclass(frozen=True)
class Measured:
    """What a number of processes reached."""

    size: int
    step_s: float
    """Median."""
    cpu_s: float
    """Processor time of all processes together."""
    added: float
    """Bytes that are added up in a step."""
    gathered: float
    """Bytes that are gathered in a step, of all processes together."""
    messages: float
    """Their number in a step, with the one that agrees on when to stop."""
    agree_s: float
    """Time of that one, at best: a busy machine delays any answer."""


@dataclass(frozen=True)
class Link:
    """A link between processes."""

    bytes_per_s: float
    latency_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patch", type=int, nargs="+", default=[64, 64])
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--norm", default="instance")
    parser.add_argument("--step-ms", type=float, help="a step of the whole batch on one GPU")
    parser.add_argument("--gpu-speed", type=float, default=100.0, help="of a GPU, as a multiple of one process here")
    parser.add_argument("--node-gb", type=float, default=300.0, help="GB/s between GPUs of a node")
    parser.add_argument("--network-gb", type=float, default=12.5, help="GB/s between nodes")
    parser.add_argument("--node-us", type=float, default=10.0, help="latency of a message within a node")
    parser.add_argument("--network-us", type=float, default=30.0, help="latency of a message between nodes")
    arguments = parser.parse_args()
    model, train = make_plans(arguments)
    found = [measure(size, model, train, arguments.steps) for size in arguments.sizes]
    print(
        f"{platform.processor() or platform.machine()}, {count_noun(torch.get_num_threads(), 'thread')}; torch", end=""
    )
    print(f" {torch.__version__}, gloo; batch {train.batch} of {train.patch}, widths {model.widths}, {model.norm} norm")
    print_measured(found)
    one = next((each.cpu_s for each in found if each.size == 1), found[0].cpu_s)
    step_s = arguments.step_ms / 1000 if arguments.step_ms else one / arguments.gpu_speed
    node = Link(arguments.node_gb * 1e9, arguments.node_us / 1e6)
    network = Link(arguments.network_gb * 1e9, arguments.network_us / 1e6)
    print_model(max(found, key=lambda each: each.size), train.batch, step_s, node, network)


def make_plans(arguments: argparse.Namespace) -> tuple[ModelPlan, TrainPlan]:
    """Make the plan of a network and its training."""
    model = model_plan(
        topology="unet++",
        dims=len(arguments.patch),
        widths=arguments.widths,
        in_channels=1,
        out_channels=2,
        norm=arguments.norm,
    )
    return model, TrainPlan(patch=tuple(arguments.patch), batch=arguments.batch, steps_per_epoch=1, epochs=1)


def measure(size: int, model: ModelPlan, train: TrainPlan, steps: int) -> Measured:
    """Measure the steps of a number of processes, each with one thread."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        plans = model.model_dump_json(), train.model_dump_json()
        mp.spawn(run_steps, args=(size, port, plans, steps, folder), nprocs=size)
        found = parse_json((Path(folder) / "0.json").read_text())
    return Measured(size, **found)


def run_steps(rank: int, size: int, port: int, plans: tuple[str, str], steps: int, folder: str) -> None:
    """Do some steps in one of the processes; the first one writes what they took."""
    ranks = join(RankPlace(rank, size, rank, "127.0.0.1", port), CPU)
    torch.set_num_threads(1)
    model, train = ModelPlan.model_validate_json(plans[0]), TrainPlan.model_validate_json(plans[1])
    torch.manual_seed(0)
    step = TrainingStep(build_from_plan(model), model, train, CPU, ranks=ranks)
    images = torch.randn(len(ranks.share(train.batch)), 1, *train.patch)
    seconds, agreeing, working = [], [], []
    for number in range(WARM_UPS + steps):
        before = ranks.added_bytes, ranks.gathered_bytes, ranks.messages
        started, cpu_s = time.perf_counter(), time.process_time()
        step((images, (images > 0).long()), number, 0.5)
        stepped = time.perf_counter()
        ranks.agree(0.5)
        after = ranks.added_bytes, ranks.gathered_bytes, ranks.messages
        working.append(time.process_time() - cpu_s)
        seconds.append(stepped - started)
        agreeing.append(time.perf_counter() - stepped)
    added, gathered, messages = (now - then for now, then in zip(after, before, strict=True))
    working_s = ranks.add_up(torch.tensor(working[WARM_UPS:], dtype=torch.float64))
    values = {
        "step_s": statistics.median(seconds[WARM_UPS:]),
        "cpu_s": working_s.median().item(),
        "added": added,
        "gathered": gathered,
        "messages": messages,
        "agree_s": min(agreeing),
    }
    if rank == 0:
        (Path(folder) / "0.json").write_text(json.dumps(values))
    ranks.leave()


def print_measured(found: list[Measured]) -> None:
    """Print what was measured here, and how little that says."""
    print("\nMeasured here, one thread for each process. Steps/s mean something where each process has a core that no")
    print(
        "other program uses: of a core that is shared, more processes get more. The processor time of all together is"
    )
    print("what the division costs.")
    print("  processes  steps/s  s of processor  MB added up  MB gathered  messages  ms to agree when to stop")
    for each in found:
        print(
            f"  {each.size:9}  {1 / each.step_s:7.2f}  {each.cpu_s:14.2f}  {each.added / 1e6:11.2f}"
            f"  {each.gathered / 1e6:11.2f}  {each.messages:8.0f}  {1000 * each.agree_s:.2f}"
        )


def print_model(measured: Measured, batch: int, step_s: float, node: Link, network: Link) -> None:
    """Print the efficiency that larger machines would have by the model."""
    print(f"\nModel, not measured: {1000 * step_s:.1f} ms for a step of the whole batch on one GPU,", end=" ")
    print(f"{measured.added / 1e6:.2f} MB added up,")
    print(f"  {measured.gathered / 1e6:.2f} MB gathered, {measured.messages:.0f} messages;")
    for name, link in (("within a node", node), ("between nodes", network)):
        print(f"  {link.bytes_per_s / 1e9:g} GB/s and {1e6 * link.latency_s:g} us a message {name};")
    print(
        "  rings: a byte that is added up goes 2 (N - 1) / N times through the slowest link, one that is gathered half"
    )
    print("  as often; latency: 2 log2 N of a message; nothing is sent beside the backward pass, as here.")
    print("  The same batch divided, if it has a patch for each GPU; or one such batch for each GPU:")
    print("  machine             ms to communicate  same batch  a batch each")
    for name, gpus, nodes in MACHINES:
        size = gpus * nodes
        sending_s = estimate_communication(measured, size, node if nodes == 1 else network)
        divided = f"{step_s / (step_s + size * sending_s):.0%}" if batch >= size else "-"
        print(f"  {name:18}  {1000 * sending_s:17.2f}  {divided:>10}  {step_s / (step_s + sending_s):12.0%}")


def estimate_communication(measured: Measured, size: int, link: Link) -> float:
    """Estimate the seconds in which a step communicates, over the slowest link."""
    sent_s = (size - 1) / size * (2 * measured.added + measured.gathered) / link.bytes_per_s
    return sent_s + measured.messages * 2 * math.log2(size) * link.latency_s


if __name__ == "__main__":
    main()
