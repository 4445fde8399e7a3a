"""Routes of leases: begin one, say that its client lives, end it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from unetpp.serve.leases import Lease
from unetpp.serve.state import State

router = APIRouter(prefix="/v1/leases", tags=["leases"])


@router.post("", status_code=201, summary="Begin a lease")
def begin_lease(
    state: State,
    idle_s: Annotated[float | None, Body(gt=0, allow_inf_nan=False)] = None,
    model: Annotated[str | None, Body(max_length=200)] = None,
) -> Lease:
    """Begin a lease: jobs that are asked for with it are removed when it ends; its model stays loaded until then."""
    return state.leases.begin(idle_s, model)


@router.post("/{id}/renew", summary="Renew a lease")
def renew_lease(state: State, id: str) -> Lease:
    """Say that the client lives; each prediction with the lease, and each question about its jobs, does it too."""
    return state.leases.renew(id)


@router.delete("/{id}", status_code=204, summary="End a lease")
def end_lease(state: State, id: str) -> None:
    """Give back what it holds: uploads, jobs, results and its model."""
    state.leases.end(id)
