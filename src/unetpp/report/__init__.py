"""The report of a run: one HTML file that needs nothing else."""

from unetpp.report.html import write_report
from unetpp.report.views import write_views

__all__ = ["write_report", "write_views"]
