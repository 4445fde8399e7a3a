"""The verb `info`: what a model is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unetpp.console import shows_progress
from unetpp.dial import add_sizes
from unetpp.errors import UsageError
from unetpp.model_notes import Notes, explain_no_expected_dice
from unetpp.progress import ShowProgress, Silence
from unetpp.results import ExportInfo, ModelInfo, RunInfo, SelectionInfo
from unetpp.run_folder import RunFolder, find_model_files, find_state
from unetpp.selection import is_selection, list_files, read_selection
from unetpp.verbs.arguments import AnyPath, find_model


@shows_progress
def info(
    model: AnyPath,
    *,
    measure: bool = False,
    machine: str | None = None,
    device: str = "auto",
    progress: ShowProgress = None,
) -> ModelInfo | ExportInfo | RunInfo | SelectionInfo:
    """Describe a model or a run: how its training stands and what to do next; scores at every depth, classes, size.

    Args:
        model: Run folder, one that `unetpp select` wrote, a model file, an exported .onnx, .xml or .pt2, or
            hf://OWNER/NAME on the Hugging Face hub.
        measure: Measure the costs of every depth on this machine.
        machine: GMACS,GB: rates of another machine, such as 2000,80: 2000 x 10^9 multiply-adds per second in the
            precision of the model, and 80 x 10^9 bytes copied per second. Estimated times there are added.
        device: Device to measure on: auto, cpu, cuda or cuda:K.

    Returns:
        The plan, the size in parameters and MB, and the notes of the model file; of an exported file what it holds
        of these; of a run without a model how far it got.

    Raises:
        ModelFileError: there is no model, or it cannot be used.
        UsageError: `machine` is not two numbers, or the costs of the model were not measured.

    Example:
        unetpp.info("runs/nuclei")
    """
    from unetpp.model.header import read_header
    from unetpp.runtime.exported_file import EXPORTED

    path = find_model(model)
    if path.suffix in EXPORTED and not path.is_dir():
        for name, given in {"measure": measure, "machine": machine}.items():
            if given:
                action = "Leave it out, or name the model that was exported."
                raise UsageError(name, f"{path}, an exported file", "a model file", action)
        return _describe_export(path)
    if is_selection(path):
        return _describe_selection(path, {"measure": measure, "machine": machine})
    if not measure and machine is None and (state := find_state(path)):
        return RunInfo(path, *state)
    files = find_model_files(path)
    header = read_header(files[0])
    notes, command = _complete_from_run(add_sizes(header.notes, header.plan.model), RunFolder(path))
    no_dice = explain_no_expected_dice([header.notes, *(read_header(file).notes for file in files[1:])])
    if measure:
        from unetpp.measure.depth_table import measure_depths
        from unetpp.runtime.device import choose_device

        place, shown = str(choose_device(device)), progress or Silence()
        notes = notes.with_costs(measure_depths(files[0], batch=1, device=place, progress=shown))
    if machine is not None:
        from unetpp.measure.another_machine import project_notes

        notes = project_notes(notes, machine, header.plan.predict.precision)
    notes, size = add_sizes(notes, header.plan.model), (header.parameters, header.file_bytes / 1e6)
    cache_mb = sum(each.stat().st_size for each in RunFolder(path).cached_files()) / 1e6
    return ModelInfo(path, tuple(files), header.plan, *size, notes, no_dice, command, cache_mb)


def _complete_from_run(notes: Notes, run: RunFolder) -> tuple[Notes, str]:
    """Add the scores of all folds, the recommended depth and the verdict of a run; and say what to run next."""
    folds = run.started_folds()
    if not folds:  # a single model file
        from unetpp.measure.choose_depth import recommend_depth

        chosen = notes.recommended or recommend_depth(notes)
        return notes.merge(Notes(recommended=chosen)) if chosen else notes, ""
    from unetpp.measure.pooled import pool_run
    from unetpp.measure.verdict import judge_run, suggest_command

    if pooled := pool_run(run):
        notes = notes.merge(pooled.as_table()).merge(Notes(mean=pooled.mean))
    verdict = judge_run(run, folds)
    if verdict is None:
        return notes, ""
    if not verdict.learned:
        notes = notes.merge(Notes(recommended=None))
    return notes.merge(Notes(verdict=verdict)), suggest_command(verdict, run.path, run.recall_data(), pooled)


def _describe_selection(path: Path, options: Mapping[str, object]) -> SelectionInfo:
    """Describe a folder that `unetpp select` wrote; its candidates were timed then."""
    from unetpp.model.header import read_header

    for name, given in options.items():
        if given:
            got, action = f"{path}, which `unetpp select` wrote", "Leave it out, or name one of its runs."
            raise UsageError(name, got, "a run or a model file", action)
    selection = read_selection(path)
    headers = [read_header(path / file) for file in list_files(selection)]
    size = sum(header.parameters for header in headers), sum(header.file_bytes for header in headers) / 1e6
    return SelectionInfo(path, selection, headers[0].plan.data.classes, *size)


def _describe_export(path: Path) -> ExportInfo:
    from unetpp.runtime.exported_file import RUNTIMES, parse_description, read_description

    found = parse_description(read_description(path), str(path))
    files = [path, *([path.with_suffix(".bin")] if path.suffix == ".xml" else [])]
    size = sum(file.stat().st_size for file in files if file.is_file()) / 1e6
    card = path.with_name(f"{path.name}.md")
    runtime = RUNTIMES.get(path.suffix, "torch")
    return ExportInfo(
        path, runtime, found.data, found.tiles, found.notes, size, card if card.is_file() else None, found.selection
    )
