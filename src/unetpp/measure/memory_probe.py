"""Peak memory of predicting one batch of tiles, in MB, printed by a fresh process.

    python -m unetpp.measure.memory_probe MODEL DEPTH THREADS BATCH SIZE...

DEPTH is that of a head, with shells the number of its size; 0: all heads.

The baseline is taken after the model has been loaded and has predicted a tiny tile: libraries that the first forward
pass loads cost every depth the same and do not count.
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
    """Peak resident memory of this process during a block, in bytes.

    The system's high-water mark is exact if the block exceeded all that the process held before; otherwise the peak is
    the largest of samples taken every millisecond.

    Attributes:
        before: resident memory at the start of the block.
        peak: largest resident memory during the block.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.before = self.peak = self._resident()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Measure a block."""
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
    """Largest resident memory so far, in bytes; 0 if the system does not record it."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    mark = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return mark if sys.platform == "darwin" else 1024 * mark


def measure_peak(model: Path, depth: int, batch: int, tile: tuple[int, ...]) -> float:
    """Measure the peak memory of predicting one batch of tiles.

    Args:
        model: model file.
        depth: the depth, with shells the number of the size; 0: all heads.
        batch: number of tiles.
        tile: their size, voxels along each axis.

    Returns:
        MB above the loaded model.
    """
    network, header = load_model(model)
    plan = header.plan
    layout = memory_format(plan.model, torch.device("cpu"))
    network = (network.prune(depth) if depth else network).to(memory_format=layout)
    with torch.inference_mode(), autocast(torch.device("cpu"), plan.predict.precision):
        network(torch.zeros(1, plan.model.in_channels, *[1] * len(tile)))
        memory = PeakMemory()
        with memory.watch():
            network(torch.randn(batch, plan.model.in_channels, *tile).to(memory_format=layout), heads=not depth)
    return (memory.peak - memory.before) / 1e6


def main(arguments: list[str]) -> None:
    """Run the command line given in the docstring of the module."""
    model, depth, threads, batch, *tile = arguments
    torch.set_num_threads(int(threads))
    print(measure_peak(Path(model), int(depth), int(batch), tuple(map(int, tile))))


if __name__ == "__main__":
    main(sys.argv[1:])
