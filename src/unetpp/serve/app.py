"""The application: routes, the page, and the thread that predicts while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from unetpp.errors import LOG
from unetpp.serve import (
    routes_comparisons,
    routes_corrections,
    routes_jobs,
    routes_leases,
    routes_page,
    routes_run,
    routes_server,
    routes_suggestions,
    routes_views,
)
from unetpp.serve.access import AccessLayer
from unetpp.serve.leases import SWEEP_S
from unetpp.serve.problems import PROBLEM_TYPE, ProblemBody, add_handlers
from unetpp.serve.state import ServerState
from unetpp.version import __version__

DESCRIPTION = (
    "Segment images, follow the jobs, take the results, correct them and train on. Errors are problem details."
)


async def _sweep(state: ServerState) -> None:
    """Give back, from time to time, what leases hold that have ended."""
    while True:
        await asyncio.sleep(SWEEP_S)
        try:
            await run_in_threadpool(state.leases.sweep)
        except Exception as error:  # such as a full disk: it is tried again
            LOG.error("leases cannot be ended (%s); it is tried again", error)


def create_app(state: ServerState) -> FastAPI:
    """Make the application of a server.

    Args:
        state: its models, jobs and folders; its thread starts and stops with the application.
    """

    @asynccontextmanager
    async def run_worker(app: FastAPI) -> AsyncIterator[None]:
        state.worker.start()
        sweeping = asyncio.create_task(_sweep(state))
        try:
            yield
        finally:
            state.stopping.set()
            sweeping.cancel()
            await run_in_threadpool(state.worker.stop)
            await run_in_threadpool(state.trainings.stop)
            state.store.close()

    answers: dict[int | str, dict[str, Any]] = {"4XX": {"model": ProblemBody, "content": {PROBLEM_TYPE: {}}}}
    app = FastAPI(
        title="unetpp",
        version=__version__,
        description=DESCRIPTION,
        lifespan=run_worker,
        docs_url=None,
        redoc_url=None,
        openapi_tags=routes_server.describe_tags(),
        responses=answers,
    )
    app.state.unetpp = state
    with_person = (routes_comparisons, routes_suggestions, routes_corrections)
    for routes in (routes_server, routes_jobs, routes_leases, routes_views, *with_person, routes_run, routes_page):
        app.include_router(routes.router)
    add_handlers(app)
    app.add_middleware(AccessLayer, tokens=state.tokens, limits=state.limits, require_room=state.require_room)
    return app
