"""The verbs of `unetpp.verbs.pipeline` as commands. `--help` and `info` import no torch.

Exit codes: 0 done; 1 some cases failed, or the work was interrupted; 2 bad usage or unusable input, one clear message.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, Protocol

from cyclopts import App, CycloptsError, Parameter

from unetpp.console import open_console
from unetpp.errors import Interrupted, UnetppError, is_out_of_memory
from unetpp.progress import Progress
from unetpp.results import DONE, PARTLY, UNUSABLE
from unetpp.verbs import pipeline
from unetpp.version import __version__

app = App(
    name="unetpp",
    help=(
        "UNet++ for medical and biological images: train once, deploy at the depth you can afford.\n\n"
        "Start with `unetpp demo`, or on your own data with `unetpp train DATA --out RUN --minutes 20`."
    ),
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=(), show_default=False),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


@Parameter(name="*")
@dataclass(frozen=True)
class Output:
    """How a command answers."""

    json: Annotated[bool, Parameter(group="Output")] = False
    """Print one machine-readable object on standard output."""
    debug: Annotated[bool, Parameter(group="Output")] = False
    """Show where an unexpected error came from."""


class Result(Protocol):
    """What every verb returns."""

    @property
    def exit_code(self) -> int: ...
    def to_dict(self) -> dict[str, Any]: ...
    def to_text(self) -> str: ...


Data = Annotated[
    Path,
    Parameter(help="Folder of images and masks, a dataset in Decathlon, nnU-Net or Kaggle layout, or a CSV manifest."),
]
Model = Annotated[Path, Parameter(help="Run folder, or a single model file.")]
RunFolder = Annotated[Path, Parameter(help="Run folder.")]
Minutes = Annotated[
    float | None, Parameter(help="Wall time of the whole command; the plan and the schedule are made to fit.")
]
Epochs = Annotated[int | None, Parameter(help="Length of the training in epochs, in place of --minutes.")]
Library = Annotated[
    Literal["smp", "monai", "nested-unet", "unet-version", "pms", "nnunet-v1"] | None, Parameter(name="--from")
]
Unsaid = Annotated[
    list[str] | None,
    Parameter(
        name="--set",
        consume_multiple=True,
        help="What a state_dict does not say, as section.key=value: --set model.encoder=resnet34",
    ),
]
Settings = Annotated[
    list[str] | None,
    Parameter(
        name="--set",
        consume_multiple=True,
        help="Choices of your own, as section.key=value: --set model.depth=3 train.batch=4",
    ),
]
Device = Annotated[str, Parameter(help="auto, cpu, cuda or cuda:K.", show_default=True)]
Backend = Annotated[
    Literal["auto", "torch", "openvino", "cuda"],
    Parameter(
        help="What runs the network: auto takes cuda on a GPU, and OpenVINO on a CPU where it is installed and faster.",
        show_default=True,
    ),
]
DryRun = Annotated[bool, Parameter(help="Say what would be done, in how much time and memory, and write nothing.")]
_OUTPUT = Output()


@app.command
def demo(*, dims: Literal[2, 3] = 2, minutes: float = 2.0, out: Path | None = None, output: Output = _OUTPUT) -> int:
    """The whole journey on generated data, a few minutes on a laptop CPU.

    Parameters
    ----------
    dims
        2 for images, 3 for volumes.
    minutes
        Wall time of the training.
    out
        Run folder; by default runs/demo_2d or runs/demo_3d.
    """
    return _answer(output, lambda progress: pipeline.demo(dims, minutes, out, progress=progress))


@app.command
def check(data: Data, *, output: Output = _OUTPUT) -> int:
    """Every problem of the data set at once: file, what was found, what was expected, what to do."""
    return _answer(output, lambda progress: pipeline.check(data, progress=progress))


@app.command
def plan(
    data: Data,
    *,
    out: RunFolder,
    minutes: Minutes = None,
    epochs: Epochs = None,
    device: Device = "auto",
    settings: Settings = None,
    dry_run: DryRun = False,
    output: Output = _OUTPUT,
) -> int:
    """Fingerprint and plan, each choice with its reason. RUN/plan.json can be edited before `unetpp train`."""
    return _answer(
        output,
        lambda progress: pipeline.plan(
            data, out, minutes=minutes, epochs=epochs, device=device, set=settings, dry_run=dry_run, progress=progress
        ),
    )


@app.command
def train(
    data: Data,
    *,
    out: RunFolder,
    minutes: Minutes = None,
    epochs: Epochs = None,
    fold: str = "0",
    seed: int | None = None,
    device: Device = "auto",
    resume: bool = False,
    settings: Settings = None,
    dry_run: DryRun = False,
    output: Output = _OUTPUT,
) -> int:
    """Check, plan, train, and measure every depth on the validation cases. A plan.json in RUN is used as it is.

    Parameters
    ----------
    fold
        Which of the folds to train: 0, 1, ... or all.
    seed
        Of the weights and the order of the patches; the folds do not depend on it.
    resume
        Go on with an interrupted run, exactly where it stopped.
    """
    return _answer(
        output,
        lambda progress: pipeline.train(
            data,
            out,
            minutes=minutes,
            epochs=epochs,
            fold=fold,
            seed=seed,
            device=device,
            resume=resume,
            set=settings,
            dry_run=dry_run,
            progress=progress,
        ),
    )


@app.command
def predict(
    model: Model,
    inputs: Annotated[list[Path], Parameter(consume_multiple=True, help="Images, volumes or folders of them.")],
    *,
    out: Path,
    depth: str | None = None,
    tta: bool = False,
    probabilities: bool = False,
    uncertainty: Literal["entropy", "disagreement"] | None = None,
    device: Device = "auto",
    backend: Backend = "auto",
    max_drop: float = 0.3,
    dry_run: DryRun = False,
    output: Output = _OUTPUT,
) -> int:
    """Segment files of any size; what comes out has the format and the geometry of what went in.

    Parameters
    ----------
    out
        Folder for the results.
    depth
        Which head answers: 1 (fastest) to the model's depth (default); mean of all heads; auto, for each tile the first that is sure (after `unetpp adapt`); or all, each by
        itself.
    tta
        Average over mirrored copies: slower, a little better.
    probabilities
        Write a map of each class's probability too.
    uncertainty
        Write a map of how unsure the network is too: the entropy of its probabilities, or the disagreement of its heads, folds and (with --tta) mirrored copies.
    max_drop
        Points (hundredths) of Dice that --depth auto may lose against the deepest head.
    """
    return _answer(
        output,
        lambda progress: pipeline.predict(
            model,
            inputs,
            out,
            depth=depth,
            tta=tta,
            probabilities=probabilities,
            uncertainty=uncertainty,
            device=device,
            backend=backend,
            max_drop=max_drop,
            dry_run=dry_run,
            progress=progress,
        ),
    )


@app.command
def evaluate(predictions: Path, references: Path, *, out: Path | None = None, output: Output = _OUTPUT) -> int:
    """Dice, IoU, HD95 and surface Dice of predictions against references, per case and class.

    Parameters
    ----------
    predictions
        Folder of segmentations, as `unetpp predict` writes them.
    references
        Folder of masks with the same stems.
    out
        JSON file for the scores.
    """
    return _answer(output, lambda progress: pipeline.evaluate(predictions, references, out, progress=progress))


@app.command
def report(run: RunFolder, *, output: Output = _OUTPUT) -> int:
    """One self-contained HTML file: curves, scores of each case, overlays, the depth table."""
    return _answer(output, lambda progress: pipeline.report(run, progress=progress))


@app.command
def prune(
    model: Model,
    *,
    out: Path,
    depth: int | None = None,
    max_drop: float | None = None,
    minutes: float | None = None,
    device: Device = "auto",
    output: Output = _OUTPUT,
) -> int:
    """A smaller model file that predicts what MODEL predicts at a depth; the two are compared before it is written.

    Parameters
    ----------
    out
        Model file (.safetensors) to write.
    depth
        The depth to keep.
    max_drop
        Or: the smallest depth that loses at most so many points (hundredths) of validation Dice, by the 95 % interval over cases.
    minutes
        Train the smaller network for so long on the training cases of the run; the best weights on validation cases are kept, those before it among them.
    """
    return _answer(
        output,
        lambda progress: pipeline.prune(
            model, out, depth=depth, max_drop=max_drop, minutes=minutes, device=device, progress=progress
        ),
    )


@app.command
def adapt(model: Model, *, device: Device = "auto", backend: Backend = "auto", output: Output = _OUTPUT) -> int:
    """Fit the rules of `predict --depth auto` on the validation cases of the run; they are written into the model file."""
    return _answer(output, lambda progress: pipeline.adapt(model, device=device, backend=backend, progress=progress))


@app.command
def export(
    model: Model,
    *,
    out: Path,
    depth: int | None = None,
    int8: bool = False,
    images: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    output: Output = _OUTPUT,
) -> int:
    """One depth of a model as ONNX, for OpenVINO or as torch.export has it, with a model card; it is run and compared before it takes its place.

    Parameters
    ----------
    out
        The suffix says the format: .onnx, .xml (OpenVINO) or .pt2.
    depth
        Which head answers; default: the plan's.
    int8
        8-bit integers (.onnx, .xml), calibrated on training cases of the run folder, or on --images.
    images
        Images or folders of them, to calibrate with and to compare on.
    """
    return _answer(
        output, lambda progress: pipeline.export(model, out, depth=depth, int8=int8, images=images, progress=progress)
    )


@app.command(name="import")
def import_checkpoint(
    checkpoint: Path, *, out: Path, from_: Library = None, settings: Unsaid = None, output: Output = _OUTPUT
) -> int:
    """A model file that predicts what the UNet++ of another library predicts, from its state_dict.

    Parameters
    ----------
    checkpoint
        What torch.save wrote, or a .safetensors. Nothing but tensors is read of it.
    out
        Model file (.safetensors) to write.
    from_
        The library; by default it is recognised.
    """
    return _answer(
        output,
        lambda progress: pipeline.import_checkpoint(checkpoint, out, from_=from_, set=settings, progress=progress),
    )


@app.command
def info(
    model: Model,
    *,
    measure: bool = False,
    machine: str | None = None,
    device: Device = "auto",
    output: Output = _OUTPUT,
) -> int:
    """What a model is: classes, channels, depths and their scores, size.

    Parameters
    ----------
    measure
        Measure the costs of every depth anew, on this machine.
    machine
        GMACS,GB: what another machine can do in a second, such as 2000,80 for 2000 x 10^9 multiply-adds in the model's precision and 80 x 10^9 bytes copied;
        says what every depth would take there. (--measure on that machine is better.)
    """
    return _answer(
        output,
        lambda progress: pipeline.info(model, measure=measure, machine=machine, device=device, progress=progress),
    )


def main() -> None:
    """Entry point of the command `unetpp`."""
    signal.signal(signal.SIGTERM, _interrupt)  # stops as cleanly as Ctrl-C
    sys.exit(run(sys.argv[1:]))


def run(tokens: Sequence[str]) -> int:
    """Run one command line and give its exit code; whatever happens, the user sees a message and no traceback."""
    output = Output(json="--json" in tokens, debug="--debug" in tokens)
    try:
        with _quiet_libraries(output.debug):
            code = app(list(tokens), exit_on_error=False, print_error=False)
            sys.stdout.flush()
            return code if isinstance(code, int) else DONE
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (Exception, KeyboardInterrupt) as error:
        return _explain(error, output)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _answer(output: Output, verb: Callable[[Progress], Result]) -> int:
    """Run a verb and print its result; under --json nothing else reaches standard output."""
    stray = contextlib.redirect_stdout(sys.stderr) if output.json else contextlib.nullcontext()
    with open_console() as console, stray:
        result = verb(console)
    print(json.dumps(result.to_dict(), indent=2, allow_nan=False) if output.json else result.to_text())
    return result.exit_code


def _explain(error: BaseException, output: Output) -> int:
    """Say on standard error what happened, in words a user can act on."""
    message, code = _in_words(error)
    if output.debug:
        traceback.print_exception(error)
    print(f"unetpp: {message}", file=sys.stderr)
    if output.json:
        problems = [problem.to_dict() for problem in error.problems] if isinstance(error, UnetppError) else []
        print(json.dumps({"error": {"type": type(error).__name__, "message": message, "problems": problems}}, indent=2))
    return code


def _in_words(error: BaseException) -> tuple[str, int]:
    if isinstance(error, Interrupted):
        return _with_flags(error), PARTLY
    if isinstance(error, KeyboardInterrupt):
        return "Stopped. Files that were already written are complete.", PARTLY
    if isinstance(error, UnetppError):
        return _with_flags(error), UNUSABLE
    if isinstance(error, CycloptsError):
        return f"{_one_line(error)} See `unetpp {' '.join(error.command_chain or ())} --help`.".replace(
            "  ", " "
        ), UNUSABLE
    if is_out_of_memory(error):
        return (
            "The memory does not suffice. In training choose a smaller plan, such as --set train.batch=1 predict.batch=1; or close other programs.",
            UNUSABLE,
        )
    return (
        f"An error that should not happen, {type(error).__name__}: {_one_line(error)} Run the command again with --debug and send what it prints to the makers of unetpp.",
        UNUSABLE,
    )


def _with_flags(error: UnetppError) -> str:
    """Write the settings in a message, in backquotes as Python has them, as flags of the command line.

    `max_drop` becomes --max-drop, `tta=True` --tta, `depth=2` --depth 2, `train.batch=1` --set train.batch=1.
    """
    text = str(error)
    for problem in error.problems:
        if problem.setting == problem.where and "." not in problem.where:
            text = text.replace(f"{problem.where}: got", f"`{problem.where}`: got", 1)
    return _SETTING.sub(_flag, text)


_SETTING = re.compile(r"`([a-z][a-z0-9_]*(?:\.[a-z0-9_.]+)?)(?:=([^`]*))?`")


def _flag(match: re.Match[str]) -> str:
    name, value = match.group(1), match.group(2)
    if "." in name:
        return f"--set {name}={value}" if value else name
    flag = f"--{name.rstrip('_').replace('_', '-')}"
    return flag if value in (None, "True") else f"{flag} {value.strip(chr(34))}"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    return text if text.endswith((".", "?", "!")) else text + "."


@contextlib.contextmanager
def _quiet_libraries(debug: bool) -> Any:
    """Warnings of the libraries are for their developers."""
    with warnings.catch_warnings():
        if not debug and not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield
