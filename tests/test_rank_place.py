"""Where a process is among the ranks of a training."""

from __future__ import annotations

import pytest

from unetpp.errors import UsageError
from unetpp.rank_place import PORTS, RankPlace, find_first_node, find_place

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "n1", "MASTER_PORT": "29500"}
SRUN = {
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_NODELIST": "gpu[03-06]",
}


def test_a_process_alone() -> None:
    assert find_place({}) == RankPlace()
    assert find_place({"WORLD_SIZE": "1"}).size == 1
    assert find_place({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}).is_first


def test_torchrun() -> None:
    assert find_place(TORCHRUN) == RankPlace(3, 4, 1, "n1", 29500)
    assert find_place(TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "2"}).restarts == 2
    assert not find_place(TORCHRUN).is_first


def test_srun() -> None:
    place = find_place(SRUN)
    assert (place.rank, place.size, place.local_rank, place.address) == (5, 8, 1, "gpu03")
    assert place.port in PORTS
    assert place.port == find_place(SRUN | {"SLURM_PROCID": "0"}).port
    given = find_place(SRUN | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"})
    assert (given.address, given.port) == ("10.0.0.1", 1234)
    assert find_place(SRUN | {"SLURM_STEP_NUM_TASKS": "6"}).size == 6


def test_torchrun_within_srun_counts() -> None:
    assert find_place(SRUN | TORCHRUN).rank == 3


def test_a_batch_script_is_no_task() -> None:
    script = {name: value for name, value in SRUN.items() if name != "SLURM_STEP_ID"} | {"SLURM_PROCID": "0"}
    assert find_place(script) == RankPlace()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("n[1-3]", "n1"),
        ("gpu[03,07-09],login", "gpu03"),
        ("rack[2-3]-ib,x", "rack2-ib"),
        ("", ""),
    ],
)
def test_first_node(nodes: str, first: str) -> None:
    assert find_first_node(nodes) == first


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE: got 2 without RANK and MASTER_ADDR and MASTER_PORT; expected what torchrun"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "without MASTER_ADDR"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE: got 'two'"),
        (TORCHRUN | {"RANK": "4"}, "RANK: got 4; expected 0 to 3"),
        (TORCHRUN | {"MASTER_PORT": "x"}, "MASTER_PORT"),
        ({name: value for name, value in TORCHRUN.items() if name != "LOCAL_RANK"}, "LOCAL_RANK: got nothing"),
        (SRUN | {"SLURM_PROCID": "8"}, "SLURM_PROCID: got 8; expected 0 to 7"),
        (SRUN | {"SLURM_STEP_NODELIST": ""}, "Set MASTER_ADDR"),
    ],
)
def test_what_cannot_be_used_is_named(environment: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError) as error:
        find_place(environment)
    assert words in str(error.value)
