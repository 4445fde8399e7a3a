"""Routes of the viewers: parts of images, segmentations and maps of doubt as NIfTI, and tiles of large images."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from unetpp.serve.routes_jobs import SizeName
from unetpp.serve.state import State
from unetpp.serve.tiles import TileStyle
from unetpp.serve.views import draw_doubt, draw_image, draw_labels

BoxText = Annotated[str | None, Query(max_length=100, description="x0,x1,y0,y1,z0,z1; by default the whole image.")]
Step = Annotated[int, Query(ge=1, le=4096, description="Every how many voxels.")]
Channel = Annotated[int, Query(ge=0, le=2**31, description="Of an image that is not in colors.")]
Intensity = Annotated[float | None, Query(ge=-1e20, le=1e20, allow_inf_nan=False)]
NIFTI = "application/octet-stream"


router = APIRouter(prefix="/v1/jobs/{id}", tags=["views"])


@router.get("/view/image", summary="View the image", response_class=Response)
def view_image(state: State, id: str, box: BoxText = None, step: Step = 1, channel: Channel = 0) -> Response:
    """Return the image on the grid of the page, as NIfTI."""
    job, view = state.require_result(id)
    return Response(draw_image(state.tiles.open_source(job, view), box, step, channel), media_type=NIFTI)


@router.get("/view/labels", summary="View the segmentation", response_class=Response)
def view_labels(state: State, id: str, size: SizeName = None, box: BoxText = None, step: Step = 1) -> Response:
    """Return the class indices on the grid of the page, as NIfTI."""
    job, view = state.require_result(id)
    path = state.require_file(job, state.require_size(job, size).file, "result")
    source, label = state.tiles.open_source(job, view), state.tiles.open_source(job, view, path)
    return Response(draw_labels(path, state.data_of(job), source, box, step, label), media_type=NIFTI)


@router.get("/view/doubt", summary="View the map of doubt", response_class=Response)
def view_doubt(state: State, id: str, size: SizeName = None, box: BoxText = None, step: Step = 1) -> Response:
    """Return the entropy of the probabilities on the grid of the page, as NIfTI."""
    job, _ = state.require_result(id)
    path = state.require_file(job, state.require_size(job, size).uncertainty, "uncertainty")
    return Response(draw_doubt(path, state.open_image(job), box, step), media_type=NIFTI)


@router.get("/view/window", summary="Find the intensities that are shown as black and white")
def view_window(
    state: State, id: str, channel: Channel = 0
) -> Annotated[list[float], Field(min_length=2, max_length=2)]:
    """Return the half and the 99.5th percentile of a channel."""
    job, view = state.require_result(id)
    return [*state.tiles.find_window(job, view, channel)]


@router.get(
    "/tiles/{layer}/{level}/{column}_{row}.png", summary="Take a tile of a large image", response_class=Response
)
def take_tile(
    state: State,
    id: str,
    layer: str,
    level: int,
    column: int,
    row: int,
    size: SizeName = None,
    classes: Annotated[str | None, Query(max_length=4000, description="Indices of those that are shown: 1,2")] = None,
    outlines: bool = False,
    low: Intensity = None,
    high: Intensity = None,
    channel: Channel = 0,
) -> Response:
    """Return 512 x 512 pixels of a level: the last is that of single pixels, each before it half as fine.

    Layers: image, labels, and doubt, the entropy of the probabilities.
    """
    job, view = state.require_result(id)
    style = TileStyle(size, classes, outlines, low, high, channel)
    picture = state.tiles.draw(job, view, layer, level, column, row, style)
    return Response(picture, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})
