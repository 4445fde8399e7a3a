"""One cluster of two workers for all tests that need one: its start takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.processes import IMPORTED, SERVER

from unetpp.cluster.engine import Engine
from unetpp.progress import Silence


class Heard(Silence):
    """Progress that keeps its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="session")
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="session")
def engine(heard: Heard) -> Iterator[Engine]:
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    import dask
    from distributed.utils import get_mp_context

    from unetpp.cluster.opening import open_engine

    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context()  # which says what the server of all tests imports: less than workers need
        SERVER.set_forkserver_preload([*IMPORTED, "distributed"])
        with open_engine("local:2", heard) as opened:
            yield opened


@pytest.fixture(scope="session")
def address(engine: Engine, heard: Heard) -> str:
    """Address of the scheduler, as a user would name it."""
    found: str = engine.address  # type: ignore[attr-defined]
    return found
