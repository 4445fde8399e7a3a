"""Costs on another machine, projected from multiply-adds and bytes (roofline model)."""

from __future__ import annotations

from unetpp.errors import UsageError
from unetpp.measure.roofline import project_ms
from unetpp.measured import DepthRow, DepthTable
from unetpp.model_notes import Notes


def project_notes(notes: Notes, machine: str, precision: str) -> Notes:
    """Add the projected latency of every depth, `predicted_ms`, to the notes of a model file.

    Args:
        notes: with measured costs.
        machine: "GMACS,GB": 10^9 multiply-adds and 10^9 copied bytes that the other machine can do in a second.
        precision: of the model.

    Returns:
        A copy of the notes. Depths without measured costs have no projection.

    Raises:
        UsageError: `machine` is not two positive numbers, or the notes have no costs.
    """
    try:
        gmacs, gbytes = (float(number) for number in machine.split(","))
    except ValueError:
        gmacs = gbytes = 0.0
    if not (gmacs > 0 and gbytes > 0):
        action = "They are 10^9 multiply-adds, and 10^9 bytes copied, in a second."
        raise UsageError("machine", repr(machine), "two positive numbers, such as 2000,80", action)
    if not notes.machine:
        raise UsageError("machine", "a model whose costs were not measured", "measured costs", "Add `measure=True`.")
    here, bf16 = notes.machine, precision != "fp32"
    there = {"gmacs_per_s_bf16" if bf16 else "gmacs_per_s_fp32": gmacs, "copied_gb_per_s": gbytes}

    def project(row: DepthRow) -> DepthRow:
        if row.latency_ms is None or row.gmacs is None or row.gbytes is None:
            return DepthRow()
        return DepthRow(predicted_ms=project_ms(row.latency_ms, row.gmacs, row.gbytes, bf16, here, there))

    mean = notes.mean_of_heads and project(notes.mean_of_heads)
    depths = {depth: project(row) for depth, row in notes.depths.items()}
    return notes.with_costs(DepthTable(depths=depths, mean_of_heads=mean))
