"""Metrics of the server, as Prometheus reads them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psutil
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from unetpp.serve.job import JobState

if TYPE_CHECKING:
    from unetpp.serve.state import ServerState


class _Collector:
    def __init__(self, state: ServerState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Yield what is known now."""
        state, worker = self._state, self._state.worker
        waiting = GaugeMetricFamily("unetpp_jobs", "Jobs that wait or run", labels=["state"])
        for each in (JobState.QUEUED, JobState.RUNNING):
            waiting.add_metric([each], state.store.count(each))
        yield waiting
        ended = CounterMetricFamily("unetpp_jobs_ended", "Jobs that ended since the start", labels=["state"])
        for each in (JobState.DONE, JobState.FAILED, JobState.CANCELLED):
            ended.add_metric([each], worker.finished.get(each, 0))
        yield ended
        yield CounterMetricFamily("unetpp_busy_seconds", "Seconds of predictions since the start", worker.busy_seconds)
        yield GaugeMetricFamily("unetpp_models", "Models that are served", len(state.shelf.list()))
        yield GaugeMetricFamily("unetpp_loaded_weight_bytes", "Bytes of weights in memory", state.shelf.loaded_bytes)
        yield GaugeMetricFamily(
            "unetpp_resident_memory_bytes", "Memory of the process", psutil.Process().memory_info().rss
        )
        yield GaugeMetricFamily("unetpp_uptime_seconds", "Seconds since the start", time.time() - state.started)


def write_metrics(state: ServerState) -> bytes:
    """Write the metrics as text."""
    registry = CollectorRegistry()
    registry.register(_Collector(state))
    return bytes(generate_latest(registry))
