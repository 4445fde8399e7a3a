"""How threads of a computation wait for each other; set before torch loads its OpenMP."""

from __future__ import annotations

import os


def limit_spinning() -> None:
    """Let threads that wait for others sleep after some 0.05 ms, instead of spinning for ever.

    GNU's OpenMP, which torch uses, lets them spin for 300,000 rounds: on a busy machine the spinning thread holds the
    core that the other one waits for. A tile took 14 s instead of 0.4 s (docs/log.md). Without effect if torch was
    imported before, or if the user has chosen.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
