"""What the package leaves alone: the state of the process belongs to the program that imports it."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from unetpp.progress import mute_warnings

IMPORTS = """
import ast, contextlib, importlib, itertools, logging, os, pathlib, signal, sys, warnings
import unetpp

def refuse(*_):
    raise AssertionError("umask")

os.umask = refuse
root = pathlib.Path(unetpp.__file__).parent
names = [".".join(("unetpp", *path.relative_to(root).with_suffix("").parts)) for path in sorted(root.rglob("*.py"))]
names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
foreign = set()
for path in root.rglob("*.py"):
    top = ast.parse(path.read_text(encoding="utf-8")).body
    for node in itertools.chain(top, *(node.body for node in top if isinstance(node, ast.With))):
        if isinstance(node, ast.ImportFrom):
            foreign |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}  # such as scipy.ndimage
        elif isinstance(node, ast.Import):
            foreign |= {alias.name for alias in node.names}
foreign = {name for name in foreign if not name.startswith("unetpp")}
for name in sorted(foreign):  # first, because what they do at their import is theirs
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
import torch

def state():
    names = [name for name in logging.root.manager.loggerDict if not name.startswith("unetpp")]
    loggers = {name: logging.getLogger(name) for name in names}
    return {
        "levels": {name: logger.level for name, logger in loggers.items()},
        "handlers": {name: list(logger.handlers) for name, logger in loggers.items()},
        "root": (logging.root.level, list(logging.root.handlers), logging.root.manager.disable),
        "filters": list(warnings.filters),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "dtype": torch.get_default_dtype(),
        "random": torch.get_rng_state().tolist(),
        "gradients": torch.is_grad_enabled(),
        "environment": dict(os.environ),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
    }

before = state()
for name in names:
    with contextlib.suppress(ImportError) if name == "unetpp.deploy.hub" else contextlib.nullcontext():
        importlib.import_module(name)
after = state()
for loggers in ("levels", "handlers"):
    after[loggers] = {name: after[loggers][name] for name in before[loggers]}
changed = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
assert not changed, changed
print(len(names))
"""


def test_to_import_every_module_changes_nothing_of_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 100


def test_the_level_of_a_logger_is_given_back() -> None:
    logger = logging.getLogger("of another library")
    for level in (logging.NOTSET, logging.DEBUG):
        logger.setLevel(level)
        with pytest.raises(RuntimeError), mute_warnings(logger.name):
            assert logger.level == logging.ERROR
            raise RuntimeError
        assert logger.level == level
