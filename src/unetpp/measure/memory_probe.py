"""A process of its own that predicts one batch of tiles and prints how much memory that took, in MB.

    python -m unetpp.measure.memory_probe MODEL DEPTH THREADS BATCH SIZE...      DEPTH 0: all heads

The peak is above what the process held once the model was loaded and had predicted a tiny tile, so that the libraries
which the first forward pass loads do not count: they cost every depth the same.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from unetpp.model.file import load_model
from unetpp.runtime.device import autocast, memory_format

SAMPLE_S = 0.001


class PeakMemory:
    """The most resident memory that this process had during a block.

    The system's high-water mark is exact, but only where the block went above what the process had held before it;
    below that, samples taken every millisecond are the best there is.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.before = self.peak = self._resident()

    @contextmanager
    def watched(self) -> Iterator[None]:
        mark = _high_water_mark()
        stop = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(stop,), daemon=True)
        self.before = self.peak = self._resident()
        sampler.start()
        try:
            yield
        finally:
            stop.set()
            sampler.join()
            after = _high_water_mark()
            self.peak = max(self.peak, after if after > mark else 0)

    def _sample(self, stop: threading.Event) -> None:
        while not stop.wait(SAMPLE_S):
            self.peak = max(self.peak, self._resident())

    def _resident(self) -> int:
        return int(self._process.memory_info().rss)


def _high_water_mark() -> int:
    """In bytes; 0 where the system keeps none."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    mark = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return mark if sys.platform == "darwin" else 1024 * mark


def measure(model: Path, depth: int, batch: int, tile: tuple[int, ...]) -> float:
    """Peak memory of predicting one batch of tiles at a depth, in MB above the loaded model."""
    network, header = load_model(model)
    plan = header.plan
    layout = memory_format(plan.model, torch.device("cpu"))
    network = (network.prune(depth) if depth else network).to(memory_format=layout)
    with torch.inference_mode(), autocast(torch.device("cpu"), plan.predict.precision):
        network(torch.zeros(1, plan.model.in_channels, *[1] * len(tile)))
        memory = PeakMemory()
        with memory.watched():
            network(torch.randn(batch, plan.model.in_channels, *tile).to(memory_format=layout), heads=not depth)
    return (memory.peak - memory.before) / 1e6


def main(arguments: list[str]) -> None:
    model, depth, threads, batch, *tile = arguments
    torch.set_num_threads(int(threads))
    print(measure(Path(model), int(depth), int(batch), tuple(map(int, tile))))


if __name__ == "__main__":
    main(sys.argv[1:])
