"""Arguments of the verbs: their types, and what several verbs check of them.

Heavy modules are imported inside the verbs: `info` and the help of the commands must not wait for torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unetpp.errors import DataError, Problem, UsageError
from unetpp.progress import Progress
from unetpp.run_folder import RunFolder

if TYPE_CHECKING:
    from unetpp.model.header import ModelHeader
    from unetpp.size_names import SizeNames

AnyPath = str | PathLike[str]
Settings = Mapping[str, Any] | Sequence[str]
"""{"section.key": value} or ["section.key=value"]."""
Minutes = float | str
"""Minutes, or "+10": 10 more for a finished training."""
Epochs = int | str
"""Epochs, or "+5": 5 more for a finished training."""
LogTo = str | Callable[[dict[str, Any]], object] | Sequence[str | Callable[[dict[str, Any]], object]]
"""tensorboard[:FOLDER], wandb[:PROJECT], mlflow[:URI], a function of an event, or several of them."""
Backend = Literal["auto", "torch", "openvino", "cuda"]
Library = Literal["smp", "monai", "nested-unet", "unet-version", "pms", "nnunet-v1", "unetpp"]


def find_model(model: AnyPath) -> Path:
    """Return the path of a model; hf://OWNER/NAME is downloaded, unless it is in the cache."""
    from unetpp.infer.hub_file import HUB, download

    path = Path(model)  # makes hf://a/b hf:/a/b, as on the command line
    first, *names = path.parts or [""]
    return download("/".join(names)) if first == HUB.rstrip("/") else path


def require_data(data: AnyPath) -> None:
    """Raise DataError if there is no such path: before a run folder is named after it."""
    if not Path(data).exists():
        raise DataError(Problem(str(data), "nothing there", "a data set", "Check the path.", topic="data"))
    run = RunFolder(Path(data))
    if run.plan.is_file() and run.splits.is_file():
        action = f"Name the data first, and the run with `out`: its data are {run.recall_data()}."
        raise DataError(Problem(str(data), "a run folder", "a data set", action, topic="data"))


def name_header_sizes(header: ModelHeader) -> SizeNames | None:
    """Name the sizes of a model by the header of its file, without torch; None: with an encoder only the network can.

    A size that is not there is refused by them before the network is loaded.
    """
    from unetpp.dial import name_sizes

    plan = header.plan.model
    return None if plan.encoder else name_sizes(header.notes, plan.list_sizes(), plan)


def list_paths(paths: AnyPath | Sequence[AnyPath]) -> list[Path]:
    return [Path(path) for path in ([paths] if isinstance(paths, (str, PathLike)) else paths)]


def require_model_name(out: Path, unlike: Path) -> None:
    """Raise UsageError unless `out` is the name of a model file, and not the file that is read."""
    if out.suffix != ".safetensors":
        raise UsageError("out", repr(str(out)), "the name of a model file, ending in .safetensors")
    if out.resolve() == unlike.resolve():
        raise UsageError("out", f"{out}, which is the input", "another file", "Choose another name.")


def choose_run(
    out: AnyPath | None,
    name: str,
    progress: Progress,
    reuse: Callable[[RunFolder], bool] = lambda run: False,
    resume: bool = False,
) -> RunFolder:
    """Choose the run folder of a verb: the one that is named, else runs/NAME or the first free runs/NAME_2, ...

    Args:
        out: the folder that the user names.
        name: name of the data.
        progress: is told which folder was chosen.
        reuse: whether to take the newest of these runs instead of a new one.
        resume: take the newest in any case.

    Raises:
        UsageError: there is no run to resume.
    """
    if out is not None:
        return RunFolder(Path(out))
    paths = (Path("runs") / (name if number == 1 else f"{name}_{number}") for number in itertools.count(1))
    chosen, newest = RunFolder(next(paths)), None
    while chosen.path.exists():
        chosen, newest = RunFolder(next(paths)), chosen
    newest = newest if newest and newest.plan.exists() else None
    if resume and newest is None:
        action = "Name its folder with `out`, or leave out `resume`."
        raise UsageError("resume", f"no {Path('runs') / name}", "a run of this data to continue", action)
    if newest and (resume or reuse(newest)):
        chosen = newest
    progress.note(f"Run folder: {chosen.path}")
    return chosen


def name_data(data: AnyPath) -> str:
    """Name a run after its data: the name of the folder, or of the file without its ending."""
    path = Path(data).absolute()
    return (path.name if path.is_dir() else path.stem) or "data"
