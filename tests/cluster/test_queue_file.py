from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from unetpp.cluster.address import read_address
from unetpp.cluster.opening import open_engine, show_script
from unetpp.cluster.queue_file import SYSTEMS, QueueFile
from unetpp.errors import UsageError

pytest.importorskip("dask_jobqueue", reason="the extra `cluster` is not installed")
yaml: Any = pytest.importorskip("yaml")


def write(folder: Path, content: object) -> str:
    path = folder / "queue.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_script_of_a_job_is_that_of_the_batch_system(tmp_path: Path, system: str) -> None:
    settings = {"cores": 4, "memory": "16GB", "walltime": "02:00", "job_script_prologue": ["source /env/activate"]}
    path = write(tmp_path, {"jobs": 3, "jobqueue": {system: settings}})
    found = read_address(path)
    assert isinstance(found, QueueFile) and (found.jobs, found.processes) == (3, 1)
    script = show_script(path)
    mark = {"slurm": "#SBATCH --cpus-per-task=4", "pbs": "#PBS", "lsf": "#BSUB -n 4", "sge": "#$ -N"}[system]
    assert mark in script
    assert "source /env/activate" in script and "--nthreads 1 --resources device=1" in script
    assert found.cores == 4


def test_settings_of_a_job_reach_its_script(tmp_path: Path) -> None:
    settings = {"cores": 8, "processes": 2, "memory": "32GB", "job-extra-directives": ["--gres=gpu:2"]}
    path = write(tmp_path, {"jobqueue": {"slurm": settings}})
    assert "#SBATCH --gres=gpu:2" in show_script(path)
    found = read_address(path)
    assert isinstance(found, QueueFile) and (found.jobs, found.processes) == (1, 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"jobqueue": {"condor": {}}}, "sections condor below jobqueue"),
        ({"jobqueue": None}, "no such section"),
        ({"jobqueue": {"slurm": {}, "pbs": {}}}, "sections .*slurm"),
        ({"jobqueue": {"slurm": None}}, "nothing below slurm"),
        ({"jobqueue": {"slurm": {"cores": 1}}}, "no memory below jobqueue.slurm"),
        ({"jobqueue": {"slurm": {"cores": 1, "memory": "1GB", "partition": "x"}}}, "partition.*queue"),
        ({"jobqueue": {"slurm": {"cores": 1, "memory": "1GB"}}, "jobs": 0}, "jobs: 0"),
        ({"jobqueue": {"slurm": {"cores": 1, "memory": "1GB"}}, "jobs": True}, "jobs: True"),
        ({"jobqueue": {"slurm": {"cores": 1, "memory": "1GB"}}, "workers": 4}, "unknown entry workers"),
        ({"jobqueue": {"slurm": {"cores": 1, "memory": "much"}}}, "settings that do not work"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(UsageError, match=rf"queue\.yaml: got .*{words}"):
        show_script(write(tmp_path, content))


def test_a_machine_that_sends_no_jobs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    path = write(tmp_path, {"jobqueue": {"lsf": {"cores": 1, "memory": "1GB"}}})
    with pytest.raises(UsageError, match="got no bsub on this machine"), open_engine(path):
        pytest.fail("opened")


def test_refused_jobs_are_told_in_the_words_of_the_batch_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = tmp_path / "sbatch"
    command.write_text("#!/bin/sh\necho 'sbatch: error: no such partition' >&2\necho 'it failed' >&2\nexit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path = write(tmp_path, {"jobs": 2, "jobqueue": {"slurm": {"cores": 1, "memory": "1GB", "interface": "lo"}}})
    expected = (
        r"only refusals \(sbatch: error: no such partition; it failed\); expected jobs that the batch system takes"
    )
    with pytest.raises(UsageError, match=expected), open_engine(path) as engine:
        list(engine.run(abs, [1, 2], name="nothing"))
    assert "Traceback" not in capfd.readouterr().err
