"""The route that answers strokes."""

from __future__ import annotations

from fastapi import APIRouter

from unetpp.serve.state import State
from unetpp.serve.suggestions import Strokes, Suggestion

router = APIRouter(prefix="/v1/jobs/{id}", tags=["corrections"])


@router.post("/suggestion", summary="Suggest what else strokes mean")
def suggest(state: State, id: str, strokes: Strokes) -> Suggestion:
    """Predict the part around the last stroke anew with the smallest size, whose last layer learns from the strokes.

    Nothing is saved, and the model stays as it is.
    """
    job, _ = state.require_result(id)
    predicted = state.require_file(job, state.require_size(job, strokes.size).file, "result")
    return state.suggester.suggest(job, strokes, predicted)
