"""The verb `info`: what a model is."""

from __future__ import annotations

from unetpp.console import shows_progress
from unetpp.progress import ShowProgress, Silence
from unetpp.results import (
    ModelInfo,
)
from unetpp.run_folder import find_model_files
from unetpp.verbs.arguments import AnyPath, find_model


@shows_progress
def info(
    model: AnyPath,
    *,
    measure: bool = False,
    machine: str | None = None,
    device: str = "auto",
    progress: ShowProgress = None,
) -> ModelInfo:
    """Describe a model: classes, channels, size, scores at every depth.

    Args:
        model: Run folder, a model file, or hf://OWNER/NAME on the Hugging Face hub.
        measure: Measure the costs of every depth on this machine.
        machine: GMACS,GB: rates of another machine, such as 2000,80: 2000 x 10^9 multiply-adds per second in the
            precision of the model, and 80 x 10^9 bytes copied per second. Estimated times there are added.
        device: Device to measure on: auto, cpu, cuda or cuda:K.

    Returns:
        The plan, the size in parameters and MB, and the notes of the model file.

    Raises:
        ModelFileError: there is no model, or it cannot be used.
        UsageError: `machine` is not two numbers, or the costs of the model were not measured.

    Example:
        unetpp.info("runs/nuclei")
    """
    from unetpp.model.header import read_header

    path = find_model(model)
    files = find_model_files(path)
    header = read_header(files[0])
    notes = header.notes
    if measure:
        from unetpp.measure.depth_table import measure_depths
        from unetpp.runtime.device import choose_device

        place, shown = str(choose_device(device)), progress or Silence()
        notes = notes.with_costs(measure_depths(files[0], batch=1, device=place, progress=shown))
    if machine is not None:
        from unetpp.measure.another_machine import project_notes

        notes = project_notes(notes, machine, header.plan.predict.precision)
    return ModelInfo(path, tuple(files), header.plan, header.parameters, header.file_bytes / 1e6, notes)
