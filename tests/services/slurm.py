"""A SLURM of one node, for tests and trials: Debian's slurm-wlm and munge, started for as long as it is needed.

    sudo apt-get install --no-install-recommends slurm-wlm munge
    sudo env "PATH=$PATH" python -m tests.services.slurm srun -n 2 hostname
    sudo env "PATH=$PATH" python -m tests.services.slurm bash        # a shell in which sbatch, squeue, ... work

Everything lies in one temporary folder; nothing of a SLURM that this machine may have is touched. It needs root, as
slurmd does.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo")
START_S = 60.0
"""Seconds within which the node has to be ready."""
_CONFIGURATION = """
ClusterName=unetpp
SlurmctldHost={node}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=sched_interval=2
KillWait=5
OverTimeLimit=0
NodeName={node} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def find_reason_without() -> str | None:
    """Say why there can be no SLURM here; None: there can be."""
    if missing := [program for program in PROGRAMS if _find(program) is None]:
        return f"{', '.join(missing)} not installed (Debian: slurm-wlm, munge)"
    return None if os.geteuid() == 0 else "slurmd needs root"


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@contextmanager
def run_slurm() -> Iterator[Mapping[str, str]]:
    """Start a SLURM of one node with four CPUs, whatever the machine has.

    Yields:
        The environment in which its commands work.

    Raises:
        RuntimeError: it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as name, ExitStack() as stack:
        folder, node = Path(name), socket.gethostname().partition(".")[0]
        folder.chmod(0o755)  # munged refuses sockets in folders that others cannot reach
        for inner in ("munge", "state", "spool"):
            (folder / inner).mkdir(mode=0o755)
        controller, daemon = _find_ports(2)
        text = _CONFIGURATION.format(folder=folder, node=node, controller=controller, daemon=daemon)
        (folder / "slurm.conf").write_text(text)
        environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        _start_munge(folder / "munge", stack)
        for command in (["slurmctld", "-D"], ["slurmd", "-D", "-N", node]):
            _start(command, environment, stack)
        _wait_for_node(environment, folder)
        yield environment


def _find_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _start_munge(folder: Path, stack: ExitStack) -> None:
    key = folder / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    options = [f"--{option}={folder / name}" for option, name in names.items()]
    _start(["munged", "--foreground", "--force", *options], os.environ, stack)
    _wait_until(lambda: (folder / "socket").exists(), "munged")


def _start(command: Sequence[str], environment: Mapping[str, str], stack: ExitStack) -> None:
    program = _find(command[0])
    assert program is not None
    process = subprocess.Popen(
        [program, *command[1:]], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def stop() -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(stop)


def _wait_for_node(environment: Mapping[str, str], folder: Path) -> None:
    def is_idle() -> bool:
        asked = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True)
        return asked.stdout.strip() == "idle"

    try:
        _wait_until(is_idle, "the node")
    except RuntimeError as error:
        logs = "\n".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
        raise RuntimeError(f"{error}\n{logs}") from None


def _wait_until(is_there: object, what: str) -> None:
    assert callable(is_there)
    until = time.monotonic() + START_S
    while not is_there():
        if time.monotonic() > until:
            raise RuntimeError(f"{what} is not ready after {START_S:g} s")
        time.sleep(0.2)


def main() -> int:
    """Run a command in a SLURM that is started for it."""
    if reason := find_reason_without():
        print(f"no SLURM: {reason}", file=sys.stderr)
        return 2
    with run_slurm() as environment:
        return subprocess.run(sys.argv[1:] or ["sinfo"], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
