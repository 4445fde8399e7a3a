"""The verb `adapt`: rules of early exit."""

from __future__ import annotations

from unetpp.console import shows_progress
from unetpp.progress import ShowProgress, Silence
from unetpp.results import Adapted
from unetpp.run_folder import find_model_file
from unetpp.verbs.arguments import AnyPath, Backend, find_model


@shows_progress
def adapt(model: AnyPath, *, device: str = "auto", backend: Backend = "auto", progress: ShowProgress = None) -> Adapted:
    """Fit early exit (`size="auto"`) on the validation cases.

    The rules are written into the model file.

    Args:
        model: Run folder of one fold, or the model file in it; the validation cases of the run are needed.
        device: auto, cpu, cuda or cuda:K.
        backend: Library that runs the network; the time that the rules save is measured with it.

    Returns:
        The rules, the most careful first.

    Raises:
        UsageError: a network with one head, one that has hardly learned, or no validation cases.
        ModelFileError: the model cannot be used.

    Example:
        unetpp.adapt("runs/nuclei")
    """
    from unetpp.deploy.adapt import adapt_file, find_fixed
    from unetpp.infer.doubts import describe_verdicts
    from unetpp.measure.pooled import recommend_size
    from unetpp.model.header import read_header
    from unetpp.model_notes import has_unlearned
    from unetpp.verbs.missing_cases import prepare_missing

    given = find_model(model)
    file = find_model_file(given)
    progress = progress or Silence()
    notes = read_header(file).notes
    if not has_unlearned([notes]):  # otherwise it is refused
        prepare_missing(file, progress, training=False)
    fitted, sizes = adapt_file(file, device, backend, progress, given)
    recommended = recommend_size(given, [notes])
    chosen = recommended.depth if recommended else None
    fixed, why = find_fixed(fitted, sizes, notes, chosen) or (None, "")
    names = {number: sizes.name(number) for number in sizes.numbers}
    return Adapted(file, tuple(fitted.rules), names, given, describe_verdicts([notes.verdict]), fixed, why)
