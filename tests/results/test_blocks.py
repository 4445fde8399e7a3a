"""What is said of a prediction block by block."""

from __future__ import annotations

from unetpp.errors import Problem
from unetpp.results import BlockPlan, PredictedBlocks

PLAN = BlockPlan((256, 256, 256), 10, 60_000, 9_000, 1.5, 20.0, 333.4, 4, 1.5, 2000.0, 1142.0, 69_000)


def test_an_incomplete_result_says_how_to_go_on() -> None:
    found = PredictedBlocks("s3://bucket/out.zarr", ("segmentation",), blocks=8, done=5, earlier=2)
    assert "5 of 8 blocks predicted, 2 were there" in str(found)
    assert "--resume" in str(found)
    assert found.exit_code == 0


def test_failed_blocks_are_listed() -> None:
    problem = Problem("in.zarr/0/0/1", "a chunk that cannot be decoded", "a whole one", "Restore it.")
    found = PredictedBlocks("out.zarr", ("depth_1", "depth_2"), blocks=8, done=7, failed=(problem,))
    assert found.exit_code == 1
    assert "1 failed:" in str(found)
    assert "in.zarr/0/0/1" in str(found)


def test_a_plan_counts_tasks_hours_and_objects() -> None:
    text = str(PredictedBlocks("out.zarr", ("segmentation",), plan=PLAN, job_script="#SBATCH -N 1"))
    assert PLAN.tasks == 69_010
    for part in ("60,000 blocks of 256 x 256 x 256", "69,010 tasks", "333.40 hours", "4 parts", "#SBATCH -N 1"):
        assert part in text
