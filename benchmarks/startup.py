"""Start-up time of `unetpp --help` and `unetpp info MODEL`, and whether they import torch.

python benchmarks/startup.py [--model RUN_OR_FILE] [--repeats 7]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="run folder or model file; default: a small model is made")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or make_model(Path(folder) / "model.safetensors")
        print("| command | median s | slowest s | imports torch |\n|---|---|---|---|")
        for command in (["--help"], ["info", model]):
            seconds = [run(command) for _ in range(arguments.repeats + 1)][1:]  # the first fills the file cache
            torch = "yes" if imports_torch(command) else "no"
            print(f"| unetpp {command[0]} | {statistics.median(seconds):.2f} | {max(seconds):.2f} | {torch} |")


def run(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "unetpp", *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def imports_torch(command: list[str]) -> bool:
    traced = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "unetpp", *command],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    return any(line.split("|")[-1].strip() == "torch" for line in traced.stderr.splitlines())


MAKE_MODEL = """
import sys
from pathlib import Path

from unetpp.model.build import build_from_plan, model_plan
from unetpp.model.file import save_model
from unetpp.plan import DataPlan, Normalization, Plan, PredictPlan, TrainPlan

data = DataPlan(
    dims=2,
    channels=("image",),
    classes=("background", "foreground"),
    label_values=(0, 255),
    normalization=(Normalization(),),
)
train = TrainPlan(patch=(64, 64), batch=2, steps_per_epoch=10, epochs=1)
predict = PredictPlan(tile=(64, 64), depth=4)
plan = Plan(name="small", data=data, model=model_plan(topology="unet++"), train=train, predict=predict)
save_model(Path(sys.argv[1]), build_from_plan(plan.model).state_dict(), plan)
"""


def make_model(path: Path) -> str:
    """Write a small model in another process, so that this one does not import torch."""
    subprocess.run([sys.executable, "-c", MAKE_MODEL, str(path)], check=True)
    return str(path)


if __name__ == "__main__":
    main()
