"""Soak: thousands of images in one prediction; memory and open files stay as they are."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress

import psutil
from benchmarks.campaigns.outcome import Options, Tally, judge, start
from benchmarks.campaigns.stage import Stage, find_damage

GROWTH_MB = 32.0
"""Growth of memory from the second quarter on that is no leak."""
GROWTH_FILES = 2


def try_all(stage: Stage, tally: Tally, options: Options) -> None:
    """Run the campaign: 2,000 images, or 200 in the short form."""
    images, results = stage.folder / "many", stage.folder / "many_predicted"
    images.mkdir()
    sources = sorted((stage.original / "data" / "images").iterdir())
    count = options.choose(200, 2000)
    for number in range(count):
        shutil.copy(sources[number % len(sources)], images / f"{number:04}.png")
    options = ["--device", "cpu", "--backend", "torch"]
    child = start(["predict", str(stage.original / "run"), str(images), "--out", str(results), *options])
    process = psutil.Process(child.pid)
    samples: list[tuple[float, int]] = []  # (MB, open files) of the last three quarters
    with suppress(psutil.Error):
        while process.status() != psutil.STATUS_ZOMBIE:
            done = sum(1 for _ in results.glob("*.png")) if results.is_dir() else 0
            if count / 4 < done < count:
                samples.append((process.memory_info().rss / 1e6, process.num_fds()))
            time.sleep(0.05)
    outcome = child.wait(1200)
    written = len(list(results.glob("*.png")))
    faults = [judge(outcome, (0,)), *find_damage(results), f"{written} of {count} files" if written < count else None]
    if samples:
        memory, files = ([sample[place] for sample in samples] for place in (0, 1))
        print(f"soak: {count} images, {memory[0]:.1f} -> {memory[-1]:.1f} MB, {files[0]} -> {files[-1]} open files")
        faults += [f"memory grew from {memory[0]:.0f} to {memory[-1]:.0f} MB"] * (memory[-1] > memory[0] + GROWTH_MB)
        faults += [f"open files grew from {files[0]} to {files[-1]}"] * (files[-1] > files[0] + GROWTH_FILES)
    tally.count("predict", *faults)
    tally.counts["predict"] = count
