"""The verb `prune`: a smaller model."""

from __future__ import annotations

from pathlib import Path

from unetpp.console import shows_progress
from unetpp.progress import ShowProgress, Silence
from unetpp.results import Pruned
from unetpp.run_folder import find_model_file
from unetpp.verbs.arguments import AnyPath, find_model, name_header_sizes, require_model_name
from unetpp.verbs.interrupted import telling_what_is_there


@shows_progress
def prune(
    model: AnyPath,
    out: AnyPath,
    *,
    depth: int | None = None,
    size: int | str | None = None,
    max_drop: float | None = None,
    minutes: float | None = None,
    device: str = "auto",
    progress: ShowProgress = None,
) -> Pruned:
    """Cut a model to a size: a smaller model, same predictions.

    The output is compared with that of the full model before the file is put in place.

    Args:
        model: Run folder of one fold, a model file, or hf://OWNER/NAME on the Hugging Face hub.
        out: Model file (.safetensors) to write.
        depth: Depth to keep, with shells of the whole width.
        size: Instead of `depth`: size to keep, by a name that `unetpp info` lists, such as small, or 4x8, depth 4 of
            the first 8 channels of a model with shells; or a depth.
        max_drop: Instead of `depth`: keep the smallest size that loses at most this many points (hundredths) of
            validation Dice against the largest, by the 95 % interval over cases.
        minutes: Minutes to fine-tune the smaller network on the training cases of the run. The weights that are best
            on its validation cases are saved, or those from before if none are better.
        device: Device to fine-tune on: auto, cpu, cuda or cuda:K.

    Returns:
        The depth and size, the number of parameters, and the reason for it.

    Raises:
        UsageError: not exactly one of `depth`, `size` and `max_drop`, no such size, no cases to train on, a run of
            several folds, or `out` is `model`.
        Interrupted: Ctrl-C or SIGTERM; the message says what is there.

    Example:
        unetpp.prune("runs/nuclei", "small.safetensors", max_drop=0.5)
    """
    from unetpp.model.header import read_header
    from unetpp.size_names import choose_setting

    file, progress = find_model_file(find_model(model)), progress or Silence()
    require_model_name(Path(out), unlike=file)
    wanted, setting = depth if size is None else size, choose_setting(depth, size)
    if wanted is not None and (
        sizes := name_header_sizes(read_header(file))
    ):  # before torch and the network are loaded
        sizes.require(wanted, setting, str(file))
    from unetpp.deploy.prune import prune_file
    from unetpp.verbs.fold_time import show_status
    from unetpp.verbs.missing_cases import prepare_missing

    if minutes is None:
        progress.stage("Pruning, and comparing with the full network")
    else:
        prepare_missing(file, progress)
    show = show_status(progress.stage("Fine-tuning", "steps")) if minutes is not None else lambda status: None
    with telling_what_is_there(Path(out)):
        return prune_file(file, Path(out), depth, max_drop, minutes, device, show, size)
