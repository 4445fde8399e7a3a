"""The report of a run: one self-contained HTML file."""

from unetpp.report.html import write_report
from unetpp.report.run_record import read_run
from unetpp.report.views import write_views

__all__ = ["read_run", "write_report", "write_views"]
