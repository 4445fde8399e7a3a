"""The verbs of `unetpp.verbs` as commands. `--help` and `info` import no torch.

Exit codes: 0 done; 1 some cases failed, or the work was interrupted; 2 bad usage or unusable input, with one message.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import importlib
import inspect
import io
import json
import logging
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, TextIO, get_type_hints

from cyclopts import App, CycloptsError, Group, MissingArgumentError, Parameter, Token, UnknownOptionError

from unetpp.console import open_console
from unetpp.error_topics import link_to
from unetpp.errors import LOG, Interrupted, UnetppError, WriteError, find_missing, is_out_of_memory
from unetpp.plan import Plan
from unetpp.progress import Progress, Silence
from unetpp.rank_place import is_follower
from unetpp.results import DONE, PARTLY, UNUSABLE, Followed, Result
from unetpp.settings import dotted_names, find_own_name
from unetpp.verbs.arguments import AnyPath, Epochs, LogTo, Minutes, Settings
from unetpp.version import __version__
from unetpp.words import wrap

JOURNEY = {
    "Train and predict": ("demo", "check", "plan", "train", "report", "predict", "evaluate", "serve"),
    "Deploy": ("select", "prune", "adapt", "export"),
    "Runs and model files": ("import_checkpoint", "info", "clean"),
}
"""The verbs in the order of use, by group."""
_MANY = Parameter(consume_multiple=True)


def _read_whole(kind: Any, tokens: Sequence[Token]) -> int:
    """Read a whole number; 1.5 would be rounded without a word."""
    return int(tokens[0].value)


def _read_number(kind: Any, tokens: Sequence[Token]) -> float | str:
    """Read a number, or a word such as all; of +10 the sign matters."""
    text = tokens[0].value
    for number in (int, float) if kind == (Minutes | None) else (int,):
        with contextlib.suppress(ValueError):
            return text if text.startswith("+") else number(text)
    return text


_TYPES: dict[Any, Any] = {
    Minutes | None: Annotated[Minutes | None, Parameter(converter=_read_number)],
    Epochs | None: Annotated[Epochs | None, Parameter(converter=_read_number)],
    int | None: Annotated[int | None, Parameter(converter=_read_whole)],
    AnyPath: Path,
    AnyPath | None: Path | None,
    AnyPath | Sequence[AnyPath]: Annotated[list[Path], _MANY],
    AnyPath | Sequence[AnyPath] | None: Annotated[list[Path] | None, _MANY],
    Settings | None: Annotated[list[str] | None, _MANY],
    LogTo | None: Annotated[list[str] | None, _MANY],
}
"""Types of arguments of the verbs -> types that the command line reads."""
_SHORT_NAMES = {"vram_gb": "vram"}
"""Options whose unit the help says, and the name of the argument."""
_HIDDEN = ("machine",)
"""Options for benchmarks, which the help does not show."""
_OPTIONAL_WORDS = ("models",)
"""Arguments that are given as words although they have a default."""
_EXAMPLES: list[str] = []
"""A command line for each verb, in the order of use."""
_POSITIONAL, _OPTION = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.KEYWORD_ONLY

app = App(
    name="unetpp",
    help=(
        "Nested U-Nets for medical and biological images: train once, deploy at the size you can afford.\n\n"
        "Start with `unetpp demo`; on your own data, with `unetpp train DATA --minutes 20`.\n\n"
        "The options of a command: `unetpp help train`, or `unetpp train --help`."
    ),
    version=__version__,
    usage="Usage: unetpp COMMAND",
    help_format="plaintext",
    group_parameters=Group("Options"),
    default_parameter=Parameter(negative=(), show_default=False),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


@Parameter(name="*")
@dataclass(frozen=True)
class Output:
    """Output of a command."""

    json: Annotated[bool, Parameter(group="Output")] = False
    """Print the result as JSON on standard output."""
    quiet: Annotated[bool, Parameter(group="Output")] = False
    """Print the result, with what it warns of, and errors only: no progress."""
    verbose: Annotated[bool, Parameter(group="Output")] = False
    """Also print every choice of the plan with its reason."""
    debug: Annotated[bool, Parameter(group="Output")] = False
    """Show the traceback of an error."""


def _add_command(verb: str, group: Group, place: int) -> None:
    """Make a command from the arguments, defaults and docstring of a verb."""
    function = _find_verb(verb)
    name, signature, docstring = verb.partition("_")[0], _signature(function), function.__doc__ or ""  # -OO has none

    def command(*arguments: Any, output: Output = Output(), **options: Any) -> int:
        follows = verb == "train" and is_follower()
        shown = replace(output, quiet=True) if follows else output
        return _run_verb(shown, lambda progress: _find_verb(verb)(*arguments, **options, progress=progress))

    output = inspect.Parameter("output", _OPTION, default=Output(), annotation=Output)
    vars(command)["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), output])
    command.__doc__ = write_flags(re.sub(r"\n {12}", " ", docstring))
    example = _example(name, signature, docstring) if docstring else ""
    _EXAMPLES.extend([example] if example else [])
    listed = signature.parameters.values()
    required = [each for each in listed if each.default is each.empty or each.name in _OPTIONAL_WORDS]
    words = [each.name.upper() if each.kind is _POSITIONAL else f"--{each.name} PATH" for each in required]
    app.command(
        command,
        name=name,
        group=group,
        sort_key=place,
        usage=" ".join(["Usage: unetpp", name, *words, "[OPTIONS]"]),
        help_epilogue=f"Example: {example}\n" if example else None,
    )


def _find_verb(name: str) -> Callable[..., Result]:
    verb: Callable[..., Result] = getattr(importlib.import_module(f"unetpp.verbs.{name}"), name)
    return verb


def _signature(verb: Callable[..., Result]) -> inspect.Signature:
    """Return the arguments of a verb as those of a command: `out` and all with a default become options."""
    types = get_type_hints(verb)
    found = []
    for name, given in inspect.signature(verb).parameters.items():
        if name == "progress":
            continue
        default = given.default
        short = _option(name) if name in _SHORT_NAMES else None
        shown = Parameter(short, show=name not in _HIDDEN, show_default=default is not None and default is not False)
        is_word = name in _OPTIONAL_WORDS or (default is given.empty and name != "out")
        kind = _POSITIONAL if is_word else _OPTION
        read: Any = Annotated[_TYPES.get(types[name], types[name]), shown]
        found.append(given.replace(kind=kind, annotation=read))
    return inspect.Signature(found)


def _example(name: str, signature: inspect.Signature, docstring: str) -> str:
    """Translate the example of a docstring, a call of the verb, into a command line."""
    call = ast.parse(docstring.partition("Example:")[2].strip(), mode="eval").body
    assert isinstance(call, ast.Call)
    given = [
        *zip(signature.parameters, call.args, strict=False),
        *((str(each.arg), each.value) for each in call.keywords),
    ]
    tokens = ["unetpp", name]
    for key, node in given:
        value = ast.literal_eval(node)
        tokens += [] if signature.parameters[key].kind is _POSITIONAL else [_option(key)]
        tokens += [] if value is True else map(str, value if isinstance(value, list) else [value])
    return shlex.join(tokens)


def main() -> None:
    """Run the command `unetpp`."""
    signal.signal(signal.SIGTERM, _interrupt)  # stops as cleanly as Ctrl-C
    _open_streams()
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # full: Python would complain about it once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    threading._shutdown()  # type: ignore[attr-defined]  # as Python does at its end, and what is registered for it
    atexit._run_exitfuncs()
    os._exit(code)  # taking torch apart, module by module, would keep the prompt for seconds


def _open_streams() -> None:
    """Replace closed standard streams, and let names that an encoding lacks be printed with escapes."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # else a file of ours would become the standard output
        pass
    os.close(number)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run(tokens: Sequence[str]) -> int:
    """Run one command line, with a message instead of a traceback for any error.

    Args:
        tokens: words of the command line, without `unetpp`.

    Returns:
        Exit code.
    """
    output = Output(json="--json" in tokens, debug="--debug" in tokens)
    try:
        with _quiet_libraries(output.debug):
            code = app(_translate(tokens), exit_on_error=False, print_error=False)
            sys.stdout.flush()
            return code if isinstance(code, int) else DONE
    except BrokenPipeError:  # the reader, such as `head`, closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (Exception, KeyboardInterrupt) as error:
        return _explain(find_missing(error, " ".join(["unetpp", *tokens[:1]])) or error, output)


def _translate(tokens: Sequence[str]) -> list[str]:
    """Let `help`, `help VERB` and `version` be commands too."""
    first, *others = tokens or ("--help",)
    return {"help": [*others, "--help"], "version": ["--version"]}.get(first, [first, *others])


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run_verb(output: Output, verb: Callable[[Progress], Result]) -> int:
    """Run a verb and print its result; with --json nothing else reaches standard output."""
    stray = contextlib.redirect_stdout(sys.stderr) if output.json else contextlib.nullcontext()
    console = contextlib.nullcontext(Silence()) if output.quiet else open_console(output.verbose, write_flags)
    with console as progress, stray:
        result = verb(progress)
    if isinstance(result, Followed):  # the first rank has said all
        return result.exit_code
    text = _fit(write_flags(result.to_text()), sys.stdout)
    try:
        print(json.dumps(result.to_dict(), indent=2, allow_nan=False) if output.json else text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        expected, action = "to print the answer", "The results themselves are written."
        raise WriteError("standard output", error.strerror or str(error), expected, action) from error
    return result.exit_code


def _fit(text: str, stream: TextIO) -> str:
    """Break lines between words if they go to a terminal, which breaks them anywhere."""
    return wrap(text, shutil.get_terminal_size().columns) if stream.isatty() else text


def _explain(error: BaseException, output: Output) -> int:
    """Print an error on standard error, in words a user can act on, and return the exit code."""
    message, code = _describe(error)
    topic = _find_topic(error)
    problems = [problem.to_dict() for problem in error.problems] if isinstance(error, UnetppError) else []
    found = {"error": {"type": type(error).__name__, "message": message, "topic": topic, "problems": problems}}
    with contextlib.suppress(OSError, ValueError):  # closed or full
        if output.debug:
            traceback.print_exception(error)
        print(_fit(f"unetpp: {message}", sys.stderr), file=sys.stderr, flush=True)
        if topic:
            print(f"See {link_to(topic)}", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError, ValueError):
        if output.json:
            print(json.dumps(found, indent=2), flush=True)
    return code


def _describe(error: BaseException) -> tuple[str, int]:
    if isinstance(error, Interrupted):
        return _with_flags(error), PARTLY
    if isinstance(error, KeyboardInterrupt):
        return "Stopped. No file is half written.", PARTLY
    if isinstance(error, UnetppError):
        return _with_flags(error), UNUSABLE
    if isinstance(error, CycloptsError):
        command = " ".join(["unetpp", *(error.command_chain or ()), "--help"])
        return f"{_missing(error) or _as_setting(error) or _one_line(error)} See `{command}`.", UNUSABLE
    if isinstance(error, OSError) and error.filename is not None and not is_out_of_memory(error):
        where, reason = os.fsdecode(error.filename), error.strerror or type(error).__name__
        return (
            f"{where}: got {reason}; expected a path that can be used. Check that it is there, and its permissions.",
            UNUSABLE,
        )
    if is_out_of_memory(error):
        action = "Train with smaller batches (--set train.batch=1 predict.batch=1), or close other programs."
        return f"Out of memory. {action}", UNUSABLE
    unexpected = f"Unexpected error ({type(error).__name__}): {_one_line(error)}"
    return f"{unexpected} Run the command again with --debug and open an issue.", UNUSABLE


def _find_topic(error: BaseException) -> str | None:
    """Find the section of docs/errors.md; None where the message is about the command line, and names its help."""
    if isinstance(error, UnetppError):
        return error.find_topic()
    if isinstance(error, CycloptsError):
        return None
    if isinstance(error, KeyboardInterrupt):
        return Interrupted.topic
    return "memory" if is_out_of_memory(error) else "unexpected"


def _missing(error: CycloptsError) -> str | None:
    """Name a missing argument, with its help."""
    if not isinstance(error, MissingArgumentError) or error.argument is None or error.keyword or error.argument.tokens:
        return None
    name = error.argument.name
    arguments = app[(error.command_chain or ("",))[0]].assemble_argument_collection(parse_docstring=True)
    text = next((each.parameter.help or "" for each in arguments if each.name == name), "")
    shown = name if name.startswith("-") else name.upper()
    return f"{shown} is missing: {text[:1].lower()}{text[1:]}"


def _as_setting(error: CycloptsError) -> str | None:
    """Name the setting that an unknown option of `train` or `plan` stands for, in other libraries or here."""
    if not isinstance(error, UnknownOptionError) or (error.command_chain or ("",))[0] not in ("train", "plan"):
        return None
    option = error.token.keyword or error.token.value
    field = find_own_name(option.lstrip("-").replace("-", "_"), dotted_names(Plan))
    return f"Unknown option: {option}. Write it as --set {field}=VALUE." if field else None


def write_flags(text: str) -> str:
    """Write the settings in a text, in backquotes as in Python, as flags of the command line.

    `max_drop` becomes --max-drop, `tta=True` --tta, `depth=2` --depth 2, `train.batch=1` --set train.batch=1.
    """
    return _SETTING.sub(_flag, text)


def _with_flags(error: UnetppError) -> str:
    """Write the settings in a message as flags, also the one that it begins with."""
    text = str(error)
    for problem in error.problems:
        if problem.setting == problem.where and "." not in problem.where:
            text = text.replace(f"{problem.where}: got", f"`{problem.where}`: got", 1)
    return write_flags(text)


_SETTING = re.compile(r"`([a-z][a-z0-9_]*(?:\.[a-z0-9_.]+)?)(?:=([^`]*))?`")


def _flag(match: re.Match[str]) -> str:
    name, value = match.group(1), match.group(2)
    if "." in name:
        return f"--set {shlex.quote(f'{name}={value}')}" if value else name
    flag = _option(name)
    return flag if value in (None, "True") else f"{flag} {value.strip(chr(34))}"


def _option(name: str) -> str:
    return f"--{_SHORT_NAMES.get(name, name).rstrip('_').replace('_', '-')}"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    return text if text.endswith((".", "?", "!")) else text + "."


@contextlib.contextmanager
def _quiet_libraries(debug: bool) -> Iterator[None]:
    """Suppress the warnings of libraries, which are for developers."""
    handler = logging.StreamHandler()
    if debug:
        LOG.addHandler(handler)
        LOG.setLevel(logging.DEBUG)
    with warnings.catch_warnings():
        if not debug and not sys.warnoptions:
            warnings.simplefilter("ignore")
        try:
            yield
        finally:
            LOG.removeHandler(handler)


for _title, _verbs in JOURNEY.items():
    _group = Group.create_ordered(_title)
    for _place, _verb in enumerate(_verbs):
        _add_command(_verb, _group, _place)
_other = Group.create_ordered("Other")
app["--help"].group = app["--version"].group = _other
app.register_install_completion_command(help="Complete commands with the tab key in this shell.", group=_other)
app.help_epilogue = "\n".join(["Examples:", *(f"  {each}" for each in _EXAMPLES)])
