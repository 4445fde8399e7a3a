"""A YAML file of dask-jobqueue: how a job of a batch system starts workers, and how many jobs there are to be.

    jobs: 8
    jobqueue:
      slurm:
        cores: 4
        memory: 16GB
        walltime: "02:00:00"
        job-extra-directives: ["--gres=gpu:1"]

The section `jobqueue` is that of dask-jobqueue's own configuration.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetpp.errors import UsageError, optional_package
from unetpp.words import list_some

SYSTEMS = {"slurm": "SLURM", "pbs": "PBS", "lsf": "LSF", "sge": "SGE"}
"""Section of the file -> beginning of the classes of dask-jobqueue."""
_SUBMIT = {"slurm": "sbatch", "pbs": "qsub", "lsf": "bsub", "sge": "qsub"}
DEVICE = "device"
"""Resource of a worker that a task takes that needs a device for itself."""
PURPOSE = "`cluster`"


@dataclass(frozen=True)
class QueueFile:
    """Content of such a file."""

    path: Path
    system: str
    """slurm, pbs, lsf or sge."""
    settings: Mapping[str, Any]
    """Those of dask-jobqueue."""
    jobs: int

    @property
    def processes(self) -> int:
        """Workers of each job."""
        return int(self.settings.get("processes") or 1)

    @property
    def cores(self) -> int:
        """Cores of each worker."""
        return max(1, int(self.settings["cores"]) // self.processes)

    def write_script(self) -> str:
        """Write the script of one job, as the batch system will get it.

        Raises:
            UsageError: dask-jobqueue refuses the settings.
        """
        job = self._import(f"{SYSTEMS[self.system]}Job", f".{self.system}")
        with self._configure() as name:
            return str(self._make(lambda: job("tcp://SCHEDULER:PORT", name="unetpp", config_name=name).job_script()))

    @contextmanager
    def start(self) -> Iterator[Any]:
        """Start a scheduler in this process, and send the jobs; end them afterwards.

        Yields:
            The cluster of dask-jobqueue.

        Raises:
            UsageError: dask-jobqueue refuses the settings, or the commands of the batch system are not here.
        """
        if shutil.which(_SUBMIT[self.system]) is None:
            action = "Run this on a machine that sends jobs, such as a login node."
            raise _refuse(self.path, f"no {_SUBMIT[self.system]} on this machine", "the commands of the system", action)
        cluster = self._import(f"{SYSTEMS[self.system]}Cluster", "")
        job = _noting_refusals(self._import(f"{SYSTEMS[self.system]}Job", f".{self.system}"))
        with self._configure() as name:  # jobs that are sent later read it, too
            found = self._make(lambda: cluster(config_name=name, job_cls=job, silence_logs="ERROR"))
            with found:
                self._make(lambda: found.scale(jobs=self.jobs))
                yield found

    @contextmanager
    def _configure(self) -> Iterator[str]:
        """Let dask-jobqueue have these settings; yield the name of their section."""
        given = {key.replace("_", "-"): value for key, value in self.settings.items()}
        # a thread for each core would do several cases at once, on one device and in the memory of one
        extra = [*(given.get("worker-extra-args") or []), "--nthreads", "1", "--resources", f"{DEVICE}=1"]
        scheduler = {
            "dashboard_address": ":0",
            **(given.get("scheduler-options") or {}),
        }  # others may have the usual one
        values = {"processes": 1, **given, "worker-extra-args": extra, "scheduler-options": scheduler}
        settings = {f"jobqueue.{self.system}.{key}": value for key, value in values.items()}
        with importlib.import_module("dask").config.set(settings):
            yield self.system

    def _import(self, name: str, module: str) -> Any:
        with optional_package("dask-jobqueue", "cluster", PURPOSE):
            return getattr(importlib.import_module(f"dask_jobqueue{module}"), name)

    def _make(self, make: Any) -> Any:
        try:
            return make()
        except (ValueError, TypeError, KeyError, OSError, RuntimeError) as error:
            text = " ".join(str(error).split())[:300]
            action = "Correct the file; `dry_run=True` shows the script of a job."
            raise UsageError(
                self.path, f"settings that do not work ({text})", "those of dask-jobqueue", action
            ) from None


def read_queue_file(path: Path, content: Mapping[str, Any]) -> QueueFile:
    """Check the content of a YAML file.

    Raises:
        UsageError: an unknown section or setting, or one that is missing.
        MissingExtraError: dask-jobqueue is not installed.
    """
    with optional_package("dask-jobqueue", "cluster", PURPOSE):
        importlib.import_module("dask_jobqueue")
    sections = content.get("jobqueue")
    systems = ", ".join(SYSTEMS)
    if not isinstance(sections, Mapping) or len(sections) != 1 or not set(sections) <= set(SYSTEMS):
        got = f"sections {list_some(sections)}" if isinstance(sections, Mapping) else "no such section"
        raise _refuse(path, f"{got} below jobqueue", f"one of {systems}", "Name your batch system.")
    ((system, settings),) = sections.items()
    if unknown := sorted(map(str, content.keys() - {"jobqueue", "jobs"})):
        raise _refuse(path, f"the unknown entry {list_some(unknown)}", "jobqueue, and the number of jobs", "Remove it.")
    jobs = content.get("jobs", 1)
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise _refuse(path, f"jobs: {jobs!r}", "a whole number above 0", "Say how many jobs there are to be.")
    if not isinstance(settings, Mapping):
        raise _refuse(path, f"nothing below {system}", "cores and memory of a job", "Add them.")
    _check_settings(path, str(system), settings)
    return QueueFile(path, str(system), dict(settings), jobs)


def _check_settings(path: Path, system: str, settings: Mapping[str, Any]) -> None:
    config = importlib.import_module("dask").config
    known = {*config.get(f"jobqueue.{system}")}
    given = {str(key).replace("_", "-"): value for key, value in settings.items()}
    if unknown := sorted(given.keys() - known):
        expected = f"settings of dask-jobqueue: {', '.join(sorted(known))}"
        raise _refuse(path, f"jobqueue.{system}: {list_some(unknown)}", expected, "Correct the name.")
    if missing := [name for name in ("cores", "memory") if not given.get(name)]:
        got = f"no {' and no '.join(missing)} below jobqueue.{system}"
        raise _refuse(path, got, "those of one job", "Add `cores: 4` and `memory: 16GB`, for example.")


def list_refusals(cluster: Any) -> tuple[list[str], int]:
    """List why the batch system has refused jobs of a cluster, in its words, and count those that it took."""
    found = [str(getattr(job, "refusal", "")) for job in list(cluster.workers.values())]  # its own thread changes them
    return sorted({reason for reason in found if reason}), found.count("")


def _noting_refusals(job: Any) -> Any:
    """Return a class of jobs that keep why they are refused, where dask-jobqueue would log it and wait for ever."""

    async def start(self: Any) -> None:
        try:
            await job.start(self)
        except (RuntimeError, ValueError, OSError) as error:
            said = str(error).partition("stderr:")[2] or str(error)
            self.refusal = "; ".join(line.strip() for line in said.splitlines() if line.strip())[:500] or repr(error)
            self.status = importlib.import_module("distributed").Status.running  # else it is started again

    return type(job.__name__, (job,), {"start": start, "refusal": ""})


def _refuse(path: Path, got: str, expected: str, action: str) -> UsageError:
    return UsageError(path, got, expected, action, setting="cluster")
