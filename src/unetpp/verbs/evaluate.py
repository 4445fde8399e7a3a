"""The verb `evaluate`: scores of segmentations."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

from unetpp.console import shows_progress
from unetpp.files import write_json, write_text
from unetpp.progress import ShowProgress, Silence
from unetpp.results import Evaluated
from unetpp.verbs.arguments import AnyPath


@shows_progress
def evaluate(
    predictions: AnyPath,
    references: AnyPath,
    out: AnyPath | None = None,
    *,
    csv: AnyPath | None = None,
    labels: str | None = None,
    cluster: str | None = None,
    part: str | None = None,
    resume: bool = False,
    progress: ShowProgress = None,
) -> Evaluated:
    """Score segmentations against references, by case and class.

    The scores are Dice, IoU, HD95 and surface Dice.

    Args:
        predictions: Folder of segmentations, as `unetpp predict` writes them.
        references: Folder of masks with the same names, or a data set with labels.
        out: JSON file for the scores.
        csv: CSV file for the scores: one row for each case and class.
        labels: Meaning of the values in the references, as the setting data.labels: binary:128, objects, classes, ...
        cluster: Share the cases between workers of Dask, as `unetpp predict` does: local:4, tcp://HOST:PORT, or a file.
        part: Share to score, as 2/8, the second of eight; `out` has the scores of all shares that are there.
        resume: Leave alone what a command that was stopped has scored of the same files, by its records beside `out`;
            do the rest.

    Returns:
        Scores by case and class. A case that cannot be scored is listed; references that `unetpp predict` was not
        asked for, by its record beside the segmentations, are a note.

    Raises:
        DataError: no case could be scored.
        PlanError: a text that is no meaning of labels.
        Interrupted: the scheduler of the cluster was lost; what is scored stays, for `resume`.

    Example:
        unetpp.evaluate("predictions", "data/nuclei/masks", "scores.json")
    """
    from unetpp.cluster.opening import open_engine
    from unetpp.measure.folder_scores import score_folders
    from unetpp.measure.score_shares import ScoreSharing
    from unetpp.model_notes import tabulate_cases
    from unetpp.parts import Part
    from unetpp.verbs.request import read_reading

    import_module("scipy.spatial")  # its absence is one message here, and later one for each case
    plan, show = read_reading({} if labels is None else {"data.labels": labels}).labels, progress or Silence()
    target = None if out is None else Path(out)
    with ScoreSharing.open(Part.parse(part), target, resume) as alone, open_engine(cluster, show) as engine:
        sharing = replace(alone, engine=engine)
        stage = show.stage("Scoring", "cases")
        scored = score_folders(Path(predictions), Path(references), stage, plan, sharing)
        with sharing.hold_shares():
            metrics, problems, notes = scored.join(sharing)
            if target is not None:
                write_json(target, metrics.to_dict())
    if csv is not None:
        write_text(Path(csv), tabulate_cases(metrics))
    return Evaluated(metrics, problems, target, (*alone.notes, *notes), None if csv is None else Path(csv))
