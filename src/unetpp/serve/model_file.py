"""A model as a file that is sent."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import FileResponse

from unetpp.errors import UsageError
from unetpp.run_folder import find_model_file
from unetpp.serve.problems import Refused
from unetpp.serve.uploads import clean_name


def send_model(path: Path, name: str) -> FileResponse:
    """Send the file of a model; raises Refused if it is several."""
    action = "Take its folder from whoever runs the server."
    try:
        file = find_model_file(path)
    except UsageError:
        raise Refused(409, "model", f"{name}, of several networks", "one file", action) from None
    if file.suffix == ".xml":
        raise Refused(409, "model", f"{name}, exported to two files", "one file", action)
    return FileResponse(file, media_type="application/octet-stream", filename=f"{clean_name(name)}{file.suffix}")
