"""unetpp on a machine that does other work, too: minutes of the processor in place of minutes of the clock.

OMP_NUM_THREADS=1 python benchmarks/processor_clock.py train DATA --out RUN --minutes 20

Whatever `unetpp` times counts as it would alone on one core: time in which other programs have the core does not pass.
Time in which nothing is computed, such as that of a slow disk, does not pass either.
"""

import time


def main() -> None:
    time.perf_counter = time.monotonic = time.process_time
    from unetpp.cli import main as run  # takes the clocks as they are now

    run()


if __name__ == "__main__":
    main()
