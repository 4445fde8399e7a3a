"""Models that each process loads once, on the device that is its own, and cases that workers predict with them."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from unetpp.cluster.loaded import describe_files, load_once
from unetpp.cluster.worker import choose_device
from unetpp.errors import UsageError, WriteError
from unetpp.infer.case_predictor import CasePredictor
from unetpp.infer.case_result import CaseJob, CaseResult, CaseUnit, write_case
from unetpp.infer.loading import load
from unetpp.infer.model_digest import list_model_files
from unetpp.model_notes import MAX_DROP


@dataclass(frozen=True)
class RemoteModel:
    """A model, and how each process loads it: the workers of a cluster, or this one."""

    path: str
    """Absolute path."""
    device: str
    backend: str
    max_drop: float = MAX_DROP

    def load(self) -> CasePredictor:
        """Load the model, unless this process has it; the GPU of a worker is its own.

        Raises:
            UsageError: this machine does not see the model.
        """
        if not os.path.exists(self.path):
            action = "Mount its disk there, or start workers elsewhere."
            raise UsageError(
                f"worker on {socket.gethostname()}", f"no {self.path}", "the model", action, setting="cluster"
            )
        device = choose_device(self.device)
        key = ("model", device, self.backend, self.max_drop, describe_files(list_model_files(Path(self.path))))
        return load_once(key, lambda: load(self.path, device, self.backend, self.max_drop))

    def predict(self, job: CaseJob) -> RemotePrediction:
        """Make the task that predicts cases with it."""
        return RemotePrediction(self, job)


@dataclass(frozen=True)
class RemotePrediction:
    """A task: one case, predicted and written."""

    model: RemoteModel
    job: CaseJob

    def __call__(self, unit: CaseUnit) -> CaseResult:
        return write_case(self.model.load(), unit, self.job, self._require_out)

    def _require_out(self) -> None:
        """Refuse to make the folder of the results where it is not mounted."""
        assert self.job.journal is not None
        out = self.job.journal.out
        if not out.is_dir():
            where = f"worker on {socket.gethostname()}"
            raise WriteError(where, f"no {out}", "the folder of the results", "Mount its disk there.")
