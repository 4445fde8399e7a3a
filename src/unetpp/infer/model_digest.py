"""Identity of a model: a digest of its files, weights and header, wherever they lie."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from unetpp.cluster.loaded import describe_files
from unetpp.errors import UnetppError
from unetpp.files import digest_file
from unetpp.run_folder import find_model_files, list_first_stage
from unetpp.selection import SELECTED

_LENGTH = 16


def digest_model(model: Path) -> str | None:
    """Digest the files of a run folder, of one that `unetpp select` wrote, or of a single model.

    Returns:
        Hexadecimal digits; None: there are no files, as of a model in memory.
    """
    try:
        return _digest_files(describe_files(file.absolute() for file in list_model_files(model)))
    except (OSError, UnetppError):
        return None


@functools.lru_cache(maxsize=16)
def _digest_files(described: tuple[tuple[str, int, int], ...]) -> str:
    """Digest files by their descriptions; once, however many predictions a process makes with a model."""
    digests = [digest_file(Path(name)) for name, _, _ in described]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:_LENGTH]


def list_model_files(model: Path) -> list[Path]:
    """List all files that prediction with a model reads.

    Raises:
        ModelFileError: a folder without a model.
    """
    files = find_model_files(model)
    files += [each for file in files for each in list_first_stage(file.parent)]
    return files + [path for path in (model / SELECTED, model.with_suffix(".bin")) if path.is_file() and path != model]
