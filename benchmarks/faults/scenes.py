"""The four kinds of work that are disturbed, as command lines, and what each gives when nobody disturbs it."""

from __future__ import annotations

import functools
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.campaigns.outcome import Child, Outcome, require, run, start
from benchmarks.campaigns.stage import compare_trainings
from benchmarks.faults import inputs
from benchmarks.faults.bucket import serve
from benchmarks.faults.crew import Crew, call, end, find_port, fork, start_ranks
from tests.tiny import call_learned

from unetpp.infer.block_tasks import PREDICTED
from unetpp.run_folder import CHECKPOINT

SCENES = ("training", "folds", "cases", "blocks", "bucket")
RANKS = 2
FOLDS = (0, 1)
LIMIT_S = 420.0
"""Seconds after which anything hangs, on a machine with other work; every time-out of the campaign is below it."""


@dataclass
class Stage:
    """The inputs, what undisturbed commands made of them, and the processes that others run."""

    folder: Path
    crew: Crew
    bucket: Path
    server: int
    """Process that serves the bucket."""
    seconds: dict[str, float]
    """What each scene takes undisturbed."""

    def tokens(self, scene: str, out: Path, resume: bool = False, cluster: str | None = "") -> list[str]:
        """Return the command line of a scene.

        Args:
            scene: one of `SCENES`.
            out: folder of its results.
            resume: whether it goes on.
            cluster: empty: the crew; None: without one.
        """
        folder, more = self.folder, ["--resume"] if resume else []
        if scene != "training" and cluster is not None:
            more += ["--cluster", cluster or self.crew.address]
        if scene == "training":
            return ["train", f"{folder}/data", "--out", f"{out}/run", "--device", "cpu", *more]
        if scene == "folds":
            return ["train", f"{folder}/two", "--out", f"{out}/run", "--fold", "all", "--device", "cpu", *more]
        predict = ["predict", f"{folder}/model", "--device", "cpu", "--backend", "torch", *more]
        if scene == "cases":
            return [*predict, f"{folder}/many/images", "--out", f"{out}/out"]
        if scene == "blocks":
            return [*predict, f"{folder}/in.zarr", "--out", f"{out}/out.zarr"]
        return [*predict, "s3://images/in.zarr", "--out", f"s3://results/{out.name}/out.zarr"]

    def prepare(self, scene: str, out: Path) -> None:
        """Make the folder of the results of a scene, with what is there before it begins."""
        inputs.clear(out)
        out.mkdir(parents=True)
        inputs.clear(self._stored(out))
        if scene in ("training", "folds"):
            shutil.copytree(self.folder / f"{scene}_planned", out / "run")

    def start(self, scene: str, out: Path, resume: bool = False) -> list[Child]:
        """Start the command of a scene: one process, or one for each rank."""
        tokens = self.tokens(scene, out, resume)
        if scene == "training":
            return start_ranks(tokens, RANKS)
        self.crew.repair()
        return [start(tokens)]

    def run(self, scene: str, out: Path, resume: bool = False) -> Outcome:
        """Run the command of a scene to its end; of several ranks the outcome of the first one."""
        outcomes = [child.wait(LIMIT_S) for child in self.start(scene, out, resume)]
        return outcomes[0]

    def compare(self, scene: str, out: Path) -> str | None:
        """Compare with an undisturbed command: all bytes; of trainings the weights, scores and validations."""
        whole = self.folder / "whole" / scene
        if scene == "training":
            return compare_trainings(out / "run", whole / "run")
        if scene == "folds":
            found = (compare_trainings(out / "run", whole / "run", fold) for fold in FOLDS)
            return next((each for each in found if each), None)
        if scene == "bucket":
            return inputs.compare_trees(self._stored(out) / "out.zarr", self.folder / "whole" / "blocks" / "out.zarr")
        name = "out" if scene == "cases" else "out.zarr"
        return inputs.compare_trees(out / name, whole / name)

    def count_done(self, scene: str, out: Path) -> int:
        """Count what a scene has finished for good, to know that it is at work."""
        if scene == "cases":
            return len(list((out / "out").glob("*.png")))
        if scene == "blocks":
            return len(list((out / "out.zarr" / ".unetpp").glob(f"*/{PREDICTED}/*")))
        return len(list((out / "run").glob(f"fold_*/{CHECKPOINT}")))

    def end(self) -> None:
        """End the processes that others run."""
        self.crew.stop()
        end(self.server)

    def _stored(self, out: Path) -> Path:
        return self.bucket / "results" / out.name


def make_stage(folder: Path, scenes: Sequence[str] = SCENES) -> Stage:
    """Make the inputs, the references of some scenes and the processes that others run; measure what they take."""
    needed = {"training", *scenes, *(["blocks"] if "bucket" in scenes else [])}
    log, bucket, port = folder / "inputs.log", folder / "bucket", find_port()
    inputs.lighten()
    call(functools.partial(inputs.write_data, folder), log)
    call(functools.partial(inputs.write_store, folder / "in.zarr"), log)
    (bucket / "results").mkdir(parents=True)
    shutil.copytree(folder / "in.zarr", bucket / "images" / "in.zarr")
    server = fork(functools.partial(serve, bucket, port), folder / "bucket.log")
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    stage = Stage(folder, Crew(folder), bucket, server, {})
    for scene, data in (("training", "data"), ("folds", "two")):
        planned = ["--out", f"{folder}/{scene}_planned", "--epochs", inputs.EPOCHS, *inputs.SETTINGS]
        require(["plan", f"{folder}/{data}", *planned, inputs.CHECKPOINTS])
    for scene in (each for each in SCENES[:4] if each in needed):
        out = folder / "whole" / scene
        stage.prepare(scene, out)
        if scene == "training":
            for child in start_ranks(stage.tokens(scene, out), RANKS):
                _require(child.wait(LIMIT_S))
            shutil.copytree(out / "run", folder / "model")
            call_learned(folder / "model" / "fold_0" / "model.safetensors")
        else:
            _require(run(stage.tokens(scene, out, cluster=None), timeout_s=LIMIT_S))
    for scene in scenes:
        out = folder / "first" / scene
        stage.prepare(scene, out)
        started = time.monotonic()
        _require(stage.run(scene, out))
        stage.seconds[scene] = time.monotonic() - started
        print(f"{scene}: {stage.seconds[scene]:.1f} s undisturbed", file=sys.stderr, flush=True)
        if fault := stage.compare(scene, out):
            raise SystemExit(f"faults: undisturbed {scene} differ from the reference: {fault}")
    return stage


def _require(outcome: Outcome) -> None:
    if outcome.code:
        raise SystemExit(f"faults: a command that was not disturbed ended with {outcome.code}:\n{outcome.text}")
