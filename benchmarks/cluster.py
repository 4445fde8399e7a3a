"""Time of 64 cases with one and with two local workers of one thread, and what Dask adds to each task.

python -m benchmarks.cluster MODEL [--cases 64] [--shape 256 256] [--repeats 3] [--tasks 500]

Two workers halve the time only where there are two idle cores: say so beside the numbers. The start of the workers and
the loading of the model are not counted: they do a few cases first.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

from unetpp.cluster.engine import Engine
from unetpp.cluster.opening import open_engine
from unetpp.data.demo import write_demo_data
from unetpp.infer.loading import load
from unetpp.infer.predict_files import Sharing, predict_to_files
from unetpp.infer.remote import RemoteModel


def main() -> None:
    """Measure, and print a line for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--cases", type=int, default=64)
    parser.add_argument("--shape", type=int, nargs="+", default=[256, 256])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=500)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        shape = tuple(arguments.shape)
        images = write_demo_data(Path(name) / "data", len(shape), cases=arguments.cases, shape=shape) / "images"
        seconds: dict[int, list[float]] = {}
        for workers in (1, 2):
            with open_engine(f"local:{workers}") as engine:
                predict = partial(predict_seconds, arguments.model, images, Path(name) / "out", engine)
                predict()
                seconds[workers] = [predict() for _ in range(arguments.repeats)]
                overhead = measure_overhead(engine, arguments.tasks)
            middle = statistics.median(seconds[workers])
            print(f"{workers} workers: {middle:.1f} s ({', '.join(f'{each:.1f}' for each in seconds[workers])}),")
            print(f"  {1000 * overhead:.1f} ms of overhead for a task")
        ratio = statistics.median(seconds[2]) / statistics.median(seconds[1])
        print(f"two workers take {ratio:.2f} of the time of one; load of the machine {os.getloadavg()[0]:.1f}")


def predict_seconds(model: Path, images: Path, out: Path, engine: Engine) -> float:
    """Predict all images, and return the seconds."""
    shutil.rmtree(out, ignore_errors=True)
    remote = RemoteModel(str(model.absolute()), "cpu", "torch", 0.3)
    predictor, sharing = load(model, "cpu", "torch"), Sharing(engine=engine, make_task=remote.predict)
    started = time.perf_counter()
    written = predict_to_files(predictor, [images], out, sharing=sharing)
    assert not written.failures
    return time.perf_counter() - started


def measure_overhead(engine: Engine, tasks: int) -> float:
    """Return the seconds that a task takes that does nothing, with the others that run at once."""
    started = time.perf_counter()
    assert sum(1 for _ in engine.run(abs, range(tasks), name="nothing")) == tasks
    return (time.perf_counter() - started) / tasks


if __name__ == "__main__":
    main()
