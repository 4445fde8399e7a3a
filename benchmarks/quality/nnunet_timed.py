"""nnU-Net in a given time: its own trainer, with a schedule that ends when the time does.

Run by an interpreter with nnunetv2.

python nnunet_timed.py prepare DATASET --width 16 [--memory 1] [--patch 128 128 --batch 16]
python nnunet_timed.py train DATASET OUT.json --plans NAME --minutes 5 --seed 0

DATASET is a folder in $nnUNet_raw. `prepare` plans and prepares it: the first width in place of 32, with nnU-Net's own
rules for a GPU of `--memory` GB, or with the patch and the batch given. `train` trains fold 0 and writes nnU-Net's own
predictions of the validation cases (mirrored, as it does by default). Only training steps count as time: nothing that
nnU-Net does between its epochs; on one core it is that of the processor. Its polynomial learning rate follows the time.
No GPU is used.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

CORES = len(os.sched_getaffinity(0))
CLOCK = time.process_time if CORES == 1 else time.perf_counter
PREPARED, RAW = "nnUNet_preprocessed", "nnUNet_raw"
"""Environment variables of nnU-Net, which is imported where it is used: this module is imported without it, too."""


def make_trainer(seconds: float, *arguments: Any) -> Any:
    """Make nnU-Net's trainer for a number of seconds of steps."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class TimedTrainer(nnUNetTrainer):
        def run_training(self) -> None:
            self.steps, self.spent = 0, 0.0
            self.on_train_start()
            self.network.train()
            while self.spent < seconds:
                for group in self.optimizer.param_groups:
                    group["lr"] = self.initial_lr * (1 - self.spent / seconds) ** 0.9
                started = CLOCK()
                self.train_step(next(self.dataloader_train))
                self.spent += CLOCK() - started
                self.steps += 1
            self.on_train_end()

        def plot_network_architecture(self) -> None:
            """Leave out the drawing, which needs graphviz."""

    return TimedTrainer(*arguments)


def prepare(options: argparse.Namespace) -> dict[str, Any]:
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, preprocess_dataset

    number, started = int(options.dataset[7:10]), time.perf_counter()
    extract_fingerprints([number], num_processes=CORES, check_dataset_integrity=True)
    name = f"width{options.width}" + ("own" if options.patch is None else "patch")
    planner = ExperimentPlanner(number, gpu_memory_target_in_gb=options.memory, plans_name=name)
    planner.UNet_base_num_features = options.width
    planner.plan_experiment()
    file = Path(os.environ[PREPARED]) / options.dataset / f"{name}.json"
    plans = json.loads(file.read_text())
    configuration = choose_configuration(plans)
    if options.patch is not None:
        change_patch(plans["configurations"][configuration], options.patch, options.batch, options.width)
        file.write_text(json.dumps(plans))
    planned = time.perf_counter()
    preprocess_dataset(number, name, (configuration,), (CORES,))
    return {"plans": name, "plan_s": planned - started, "prepare_s": time.perf_counter() - planned}


def choose_configuration(plans: dict[str, Any]) -> str:
    return "3d_fullres" if "3d_fullres" in plans["configurations"] else "2d"


def change_patch(plan: dict[str, Any], patch: list[int], batch: int, width: int) -> None:
    """Set patch and batch, and the strides and kernels that nnU-Net's rule gives such a patch."""
    from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

    _, strides, kernels, patch, _ = get_pool_and_conv_props(plan["spacing"], patch, 4, 999999)
    plan["patch_size"], plan["batch_size"], stages = [int(side) for side in patch], batch, len(strides)
    most = 512 if len(patch) == 2 else 320
    plan["architecture"]["arch_kwargs"] |= {
        "n_stages": stages,
        "strides": [list(map(int, each)) for each in strides],
        "kernel_sizes": [list(map(int, each)) for each in kernels],
        "features_per_stage": [min(most, width * 2**level) for level in range(stages)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }


def train(options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(CORES)
    torch.manual_seed(options.seed)
    np.random.seed(options.seed)
    folder = Path(os.environ[PREPARED]) / options.dataset
    plans = json.loads((folder / f"{options.plans}.json").read_text()) | {"continue_training": False}
    declared = json.loads((Path(os.environ[RAW]) / options.dataset / "dataset.json").read_text())
    configuration = choose_configuration(plans)
    trainer = make_trainer(60 * options.minutes, plans, configuration, 0, declared, torch.device("cpu"))
    trainer.run_training()
    started = time.perf_counter()
    trainer.perform_actual_validation()
    plan = trainer.configuration_manager
    return {
        "steps": trainer.steps,
        "step_s": trainer.spent / trainer.steps,
        "validation_s": time.perf_counter() - started,
        "predictions": str(Path(trainer.output_folder) / "validation"),
        "patch": list(plan.patch_size),
        "batch": plan.batch_size,
        "widths": list(plan.network_arch_init_kwargs["features_per_stage"]),
        "parameters": sum(each.numel() for each in trainer.network.parameters()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "train"])
    parser.add_argument("dataset")
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--memory", type=float, default=1)
    parser.add_argument("--patch", type=int, nargs="+")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--plans")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.write_text(json.dumps(prepare(options) if options.what == "prepare" else train(options)))


if __name__ == "__main__":
    main()
