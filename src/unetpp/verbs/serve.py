"""The verb `serve`: models and their page in a browser, and the same as an API for programs."""

from __future__ import annotations

import contextlib
import threading
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from unetpp.console import shows_progress
from unetpp.errors import UsageError, optional_package
from unetpp.progress import ShowProgress, Silence
from unetpp.results import Served
from unetpp.verbs.arguments import AnyPath, Backend, find_model, list_paths, require_data

GIGABYTE = 1e9


@shows_progress
def serve(
    models: AnyPath | Sequence[AnyPath] | None = None,
    *,
    data: AnyPath | None = None,
    run: AnyPath | None = None,
    port: int = 8765,
    host: str = "127.0.0.1",
    token_file: AnyPath | None = None,
    corrections: AnyPath | None = None,
    out: AnyPath | None = None,
    memory_gb: float = 4.0,
    device: str = "auto",
    backend: Backend = "auto",
    open: bool = False,
    progress: ShowProgress = None,
) -> Served:
    """Serve models to a browser and to programs: predict, look, correct, train further. Ctrl-C stops it.

    Nothing leaves this machine, and nothing is fetched from elsewhere. The page is http://127.0.0.1:8765, that of the
    API http://127.0.0.1:8765/docs.

    Args:
        models: Run folders, those that `unetpp select` wrote, model files, hf://OWNER/NAME, or exported files.
        data: A data set whose cases can be chosen by name, and with which further training is mixed.
        run: A run folder whose training is shown live; models are not needed with it.
        port: Port to listen on; 0 takes any that is free.
        host: Address to listen on. One that other machines reach needs `token_file`.
        token_file: File with a token in each line, of 16 characters or more; every request needs one.
        corrections: Folder of corrected cases, a data set; by default corrections in `out`.
        out: Folder for uploads, results and the list of jobs, which survive a restart; by default served.
        memory_gb: Memory that loaded weights may take; the model that was used least recently makes room.
        device: auto, cpu, cuda or cuda:K.
        backend: Library that runs the networks; auto takes cuda on a GPU, and openvino on a CPU if it is installed and
            faster.
        open: Open the page in a browser.

    Returns:
        The address, and how many jobs were predicted, when it was stopped.

    Raises:
        ModelFileError: a model cannot be used.
        UsageError: neither models nor a run, a port or an `out` that another server uses, or a host that needs a token.
        MissingExtraError: the extra `serve` is not installed.

    Example:
        unetpp.serve("runs/nuclei", data="data/nuclei")
    """
    with optional_package("fastapi", "serve", "`unetpp serve`"):
        import fastapi  # noqa: F401
        import multipart  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    from unetpp.serve.access import read_tokens, require_token_for
    from unetpp.serve.data_cases import DataCases
    from unetpp.serve.http_server import HttpServer, listen
    from unetpp.serve.job_store import JobStore
    from unetpp.serve.model_shelf import ModelShelf
    from unetpp.serve.state import ServerState

    progress, started = progress or Silence(), time.time()
    paths = [find_model(each) for each in ([] if models is None else list_paths(models))]
    _require_any(paths, run)
    tokens = () if token_file is None else read_tokens(Path(token_file))
    require_token_for(host, tokens)
    if not memory_gb > 0:
        raise UsageError("memory_gb", f"{memory_gb:g}", "a number above 0, such as 4")
    if data is not None:
        require_data(data)
    shelf = ModelShelf(paths, memory_gb * GIGABYTE, device, backend)
    folder = Path("served" if out is None else out)
    cases = DataCases(None if data is None else Path(data))
    with contextlib.closing(JobStore(folder)) as store:
        state = ServerState(
            store=store,
            shelf=shelf,
            cases=cases,
            corrections=folder / "corrections" if corrections is None else Path(corrections),
            device=device,
            tokens=tokens,
            run=None if run is None else Path(run),
        )
        opened = listen(host, port)
        address = f"http://{_write_host(host)}:{opened.getsockname()[1]}"
        progress.note(f"Open {address} (the API: {address}/docs). Ctrl-C stops the server.")
        if open:
            threading.Timer(1.0, webbrowser.open, [address]).start()
        server = HttpServer(state)
        with contextlib.suppress(KeyboardInterrupt):  # how it is stopped; what was not done waits for the next start
            server.run(sockets=[opened])
    return Served(address, {str(name): count for name, count in state.worker.finished.items()}, time.time() - started)


def _require_any(paths: Sequence[Path], run: AnyPath | None) -> None:
    if not paths and run is None:
        action = "Name them first, or the run of a training with `run`."
        raise UsageError("models", "none", "a run folder or a model file", action)
    if run is not None and not Path(run).is_dir():
        raise UsageError("run", f"{run}, which is not there", "a run folder", "Begin the training first.")


def _write_host(host: str) -> str:
    """Write a host for an address: of IPv6 in brackets, and this machine for all of its addresses."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
