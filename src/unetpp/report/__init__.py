"""The report of a run: one self-contained HTML file."""

from unetpp.report.html import write_report
from unetpp.report.views import ViewFolder

__all__ = ["ViewFolder", "write_report"]
