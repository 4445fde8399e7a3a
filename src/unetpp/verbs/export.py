"""The verb `export`: a file for another runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unetpp.console import shows_progress
from unetpp.progress import ShowProgress, Silence
from unetpp.results import Exported
from unetpp.run_folder import find_model_files
from unetpp.selection import is_selection
from unetpp.verbs.arguments import AnyPath, find_model, list_paths, name_header_sizes
from unetpp.verbs.interrupted import telling_what_is_there


@shows_progress
def export(
    model: AnyPath,
    out: AnyPath,
    *,
    depth: int | str | None = None,
    size: int | str | None = None,
    int8: bool = False,
    images: AnyPath | Sequence[AnyPath] | None = None,
    progress: ShowProgress = None,
) -> Exported:
    """Export to ONNX, OpenVINO or torch.export: a file that predicts without torch.

    The file is run and compared with the network before it is put in place. A model card is written next to it.

    Args:
        model: Run folder, whose folds are averaged in the file, one that `unetpp select` wrote, a model file, or
            hf://OWNER/NAME on the Hugging Face hub.
        out: File to write; its suffix is the format: .onnx, .xml (OpenVINO) or .pt2 (torch.export).
        depth: Depth to export, several of them as in 1,3, or all: predictions then choose among them. By default that
            of the plan.
        size: Instead of `depth`: size to export, by a name that `unetpp info` lists, such as small, or 4x8, depth 4 of
            the first 8 channels of a model with shells; several of them as in 4x8,4x16, or all.
        int8: Use 8-bit integers (.onnx, .xml), calibrated on training cases of the run folder or on `images`.
        images: Images, or folders of them, for calibration and comparison.

    Returns:
        The file (size in MB), its model card, and the comparison in words.

    Raises:
        UsageError: another suffix, no such size, or nothing to calibrate with.
        ModelFileError: the model cannot be used, or the output of the file differs from that of the network.
        MissingExtraError: the exporter or the runtime of the format is not installed.
        Interrupted: Ctrl-C or SIGTERM; the message says what is there.

    Example:
        unetpp.export("runs/nuclei", "nuclei.onnx", depth=2)
    """
    from unetpp.model.header import read_header
    from unetpp.size_names import choose_sizes

    shown, path, given = progress or Silence(), find_model(model), list_paths(images or ())
    file = find_model_files(path)[0]
    header = read_header(file)
    sizes = None if is_selection(path) else name_header_sizes(header)
    if sizes:  # before torch and the network are loaded
        choose_sizes(depth, size, sizes, header.plan.predict.depth)
    from unetpp.deploy.export import export_file
    from unetpp.verbs.missing_cases import prepare_missing

    if int8 and not given:
        prepare_missing(file, shown)
    with telling_what_is_there(Path(out)):
        return export_file(path, Path(out), depth, int8, given, shown, size)
