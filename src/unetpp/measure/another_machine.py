"""What every depth would take on another machine: an estimate from its multiply-adds and bytes."""

from __future__ import annotations

from unetpp.errors import UsageError
from unetpp.measure.roofline import carried_over_ms
from unetpp.measured import DepthRow, DepthTable, Notes


def notes_for_machine(notes: Notes, machine: str, precision: str) -> Notes:
    """The notes of a model file, in which every depth has its `predicted_ms`.

    Args:
        notes: with costs that were measured.
        machine: "GMACS,GB": 10^9 multiply-adds and 10^9 bytes that the other machine can do in a second.
        precision: of the model.

    Raises:
        UsageError: no two positive numbers, or notes without costs.
    """
    try:
        gmacs, gbytes = (float(number) for number in machine.split(","))
    except ValueError:
        gmacs = gbytes = 0.0
    if not (gmacs > 0 and gbytes > 0):
        raise UsageError(
            f"--machine: got {machine!r}; expected two positive numbers, such as 2000,80: 10^9 multiply-adds, and 10^9 bytes copied, in a second."
        )
    here = notes.machine
    if not here:
        raise UsageError(
            "--machine: got a model whose costs were not measured; expected some, to carry over. Add --measure."
        )
    bf16 = precision != "fp32"
    there = {"gmacs_per_s_bf16" if bf16 else "gmacs_per_s_fp32": gmacs, "copied_gb_per_s": gbytes}

    def predicted(row: DepthRow) -> DepthRow:
        if row.latency_ms is None or row.gmacs is None or row.gbytes is None:
            return DepthRow()
        return DepthRow(predicted_ms=carried_over_ms(row.latency_ms, row.gmacs, row.gbytes, bf16, here, there))

    mean = notes.mean_of_heads and predicted(notes.mean_of_heads)
    depths = {depth: predicted(row) for depth, row in notes.depths.items()}
    return notes.with_costs(DepthTable(depths=depths, mean_of_heads=mean))
