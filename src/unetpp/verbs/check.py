"""The verb `check`: every problem of a data set."""

from __future__ import annotations

import json
from pathlib import Path

from unetpp.console import shows_progress
from unetpp.data_plan import describe_regions
from unetpp.errors import DataError
from unetpp.progress import ShowProgress, Silence
from unetpp.results import Checked
from unetpp.verbs.arguments import AnyPath, Settings, require_data


@shows_progress
def check(
    data: AnyPath, *, set: Settings | None = None, cluster: str | None = None, progress: ShowProgress = None
) -> Checked:
    """List every problem of a data set, and how to fix it.

    Args:
        data: The folder with your images and masks, a data set in Decathlon, nnU-Net or Kaggle layout, or a CSV table.
        set: Settings that say how files are read, as data.key=value, such as data.fill=0.
        cluster: Read the cases on workers of Dask, as `unetpp predict` does: local:4, tcp://HOST:PORT, or a file.

    Returns:
        The data set and its problems; without problems it can be trained on.

    Raises:
        PlanError: a setting that is unknown or does not fit.

    Example:
        unetpp.check("data/nuclei")
    """
    from unetpp.cluster.opening import open_engine
    from unetpp.data.inspect import inspect_dataset
    from unetpp.data.parts import split_dataset
    from unetpp.layouts.cases import find_cases
    from unetpp.verbs.request import read_reading, read_settings

    path, progress = Path(data), progress or Silence()
    given = read_settings(set)
    reading = read_reading(given)
    try:
        require_data(path)
        dataset = split_dataset(find_cases(path, tolerant=True), reading)
    except DataError as error:
        return Checked(path, "", 0, None, (), (), tuple(error.problems), ())
    with open_engine(cluster, progress) as engine:
        found = inspect_dataset(dataset, reading, progress.stage("Reading every file", "cases"), engine)
    dims = len(found.facts[0].shape) if found.facts else None
    names, problems = (tuple(found.channels), tuple(found.classes)), (tuple(found.problems), tuple(found.notes))
    settings = tuple(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in given.items())
    size = (len(dataset.cases), dims)
    meaning, regions = found.meaning.line, describe_regions(dataset.regions or ())
    return Checked(path, dataset.layout, *size, *names, *problems, meaning, settings, regions)
