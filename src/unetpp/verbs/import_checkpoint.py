"""The verb `import`: a model file from a checkpoint of another library or of one's own loop."""

from __future__ import annotations

from pathlib import Path

from unetpp.console import shows_progress
from unetpp.progress import ShowProgress, Silence
from unetpp.results import Imported
from unetpp.verbs.arguments import AnyPath, Library, Settings, require_model_name
from unetpp.verbs.interrupted import telling_what_is_there


@shows_progress
def import_checkpoint(
    checkpoint: AnyPath,
    out: AnyPath,
    *,
    from_: Library | None = None,
    set: Settings | None = None,
    progress: ShowProgress = None,
) -> Imported:
    """Convert a checkpoint of another library, or of your own loop, into a model file.

    The model predicts the same as the network in it. Only tensors are read from the checkpoint.

    Args:
        checkpoint: A state_dict written by torch.save, a .safetensors file, or a folder of SMP's save_pretrained.
        out: Model file (.safetensors) to write.
        from_: Library of the checkpoint; by default recognized by the names of the tensors.
        set: Settings that a state_dict does not tell, as section.key=value.

    Returns:
        The model, and the tensors that are not used, each with the reason.

    Raises:
        ModelFileError: the checkpoint cannot be read, or is not of a known network.
        UsageError: settings are missing; the message names all of them.
        Interrupted: Ctrl-C or SIGTERM; the message says what is there.

    Example:
        unetpp.import_checkpoint("smp.pth", "ours.safetensors", from_="smp")
    """
    from unetpp.peers import import_file
    from unetpp.verbs.request import read_settings

    require_model_name(Path(out), unlike=Path(checkpoint))
    (progress or Silence()).stage("Converting the checkpoint")
    with telling_what_is_there(Path(out)):
        return import_file(Path(checkpoint), Path(out), from_, read_settings(set))
