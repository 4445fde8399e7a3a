"""Time, memory and open files of the verbs on data sets of many small cases.

python -m benchmarks.scale --cases 2000 10000 [--dims 2] [--verbs check plan train predict report] [--folder DIR]

Each verb runs in a process of its own that may open 256 files, on generated cases (16 x 16 PNG, or 4 x 16 x 16 NIfTI).
Training takes a few steps of a tiny network; all else (inspection, preparation, scores) passes over all cases.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import psutil
from PIL import Image

OPEN_FILES = 256
VERBS = ("check", "plan", "train", "predict", "evaluate", "report")
SETTINGS = {
    "model.widths": [4, 8],
    "model.depth": 1,
    "train.batch": 8,
    "train.steps_per_epoch": 50,
    "train.validations": 2,
    "train.precision": "fp32",
}
SHAPES: dict[int, dict[str, object]] = {
    2: {
        "model.strides": [[2, 2]],
        "model.kernel_sizes": [[3, 3]] * 2,
        "train.patch": [16, 16],
        "predict.tile": [16, 16],
    },
    3: {
        "model.strides": [[1, 2, 2]],
        "model.kernel_sizes": [[1, 3, 3]] * 2,
        "train.patch": [4, 16, 16],
        "predict.tile": [4, 16, 16],
    },
}


@dataclass(frozen=True)
class Row:
    """What one verb took."""

    cases: int
    verb: str
    exit_code: int
    seconds: float
    peak_mb: float
    open_files: int
    lines: int
    """Lines that it printed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", type=int, default=[2000])
    parser.add_argument("--dims", type=int, choices=(2, 3), default=2)
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=VERBS)
    parser.add_argument("--folder", type=Path, help="keep data and runs here; by default they are removed")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds after which a verb is ended")
    arguments = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        print("| cases | verb | exit code | seconds | ms a case | peak MB | open files | lines |")
        print("|---|---|---|---|---|---|---|---|")
        for cases in arguments.cases:
            folder = (arguments.folder or Path(temporary)) / f"{cases}_{arguments.dims}d"
            write_cases(folder / "data", cases, arguments.dims)
            for verb in arguments.verbs:
                row = measure(folder, cases, arguments.dims, verb, arguments.timeout)
                ms, failed = 1e3 * row.seconds / row.cases, failed or row.exit_code != 0
                cells = [row.cases, row.verb, row.exit_code, f"{row.seconds:.1f}", f"{ms:.2f}", f"{row.peak_mb:.0f}"]
                print("|", " | ".join(map(str, [*cells, row.open_files, row.lines])), "|", flush=True)
    sys.exit(failed)


def write_cases(folder: Path, cases: int, dims: int) -> None:
    """Write cases that depend on their number alone, unless they are there."""
    if folder.exists():
        return
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    shape = (16, 16) if dims == 2 else (4, 16, 16)
    for number in range(cases):
        rng = np.random.default_rng(number)
        label = np.zeros(shape, np.uint8)
        top, left = rng.integers(0, 8, 2)
        label[..., top : top + 6, left : left + 6] = 1
        image = (rng.integers(0, 100, shape) + 100 * label).astype(np.uint8)
        for name, array in (("images", image), ("masks", label)):
            _write(folder / name / f"case_{number:05d}", array * 255 if name == "masks" and dims == 2 else array)


def _write(stem: Path, array: np.ndarray) -> None:
    if array.ndim == 2:
        Image.fromarray(array).save(stem.with_suffix(".png"))
        return
    volume = nibabel.nifti1.Nifti1Image(array.T, np.eye(4))
    stem.with_suffix(".nii.gz").write_bytes(gzip.compress(volume.to_bytes(), 1))


def measure(folder: Path, cases: int, dims: int, verb: str, timeout: float) -> Row:
    """Run one verb in a process of its own, and watch it.

    Args:
        folder: has the data, and gets the results.
        cases: number of cases.
        dims: 2 or 3.
        verb: name of the verb.
        timeout: seconds after which it is ended.
    """
    started, open_files = time.monotonic(), 0
    with (folder / f"{verb}.txt").open("w") as output:
        command = [sys.executable, "-m", "unetpp", verb, *_list_arguments(folder, dims, verb)]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, preexec_fn=_limit_files)
        watched = psutil.Process(process.pid)
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            with suppress(psutil.Error):
                open_files = max(open_files, watched.num_fds())
            if time.monotonic() - started > timeout:
                process.kill()
            time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(ended[1])  # it has been waited for
    lines = len((folder / f"{verb}.txt").read_text().splitlines())
    peak_mb = ended[2].ru_maxrss / 1024
    return Row(cases, verb, process.returncode, time.monotonic() - started, peak_mb, open_files, lines)


def _limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))


def _list_arguments(folder: Path, dims: int, verb: str) -> list[str]:
    data, run, out = (str(folder / name) for name in ("data", "run", "out"))
    if verb == "check":
        return [data]
    if verb in ("plan", "train"):
        settings = [f"{key}={json.dumps(value)}" for key, value in (SETTINGS | SHAPES[dims]).items()]
        return [data, "--out", run, "--epochs", "1", "--set", *settings]
    if verb == "predict":
        return [run, str(folder / "data" / "images"), "--out", out]
    return [out, str(folder / "data" / "masks")] if verb == "evaluate" else [run]


if __name__ == "__main__":
    main()
