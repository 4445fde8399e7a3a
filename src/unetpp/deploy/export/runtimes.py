"""Files that were just written, run by their own runtimes. Only files that this process wrote: torch.export.load unpickles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unetpp.runtime.exported_file import KEY, ExportedNetwork, open_exported


def open_written(path: Path) -> tuple[ExportedNetwork, dict[str, Any]]:
    """What a file answers in float32, and what it says of itself.

    Raises:
        MissingExtraError: without its runtime.
    """
    return _pt2(path) if path.suffix == ".pt2" else open_exported(path, exact=True)


def _pt2(path: Path) -> tuple[ExportedNetwork, dict[str, Any]]:
    import torch

    files = {KEY: ""}
    module = torch.export.load(path, extra_files=files).module()
    return lambda image: module(torch.from_numpy(image)).detach().numpy(), json.loads(files[KEY] or "{}")
