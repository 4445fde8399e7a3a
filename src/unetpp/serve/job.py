"""Jobs: what is asked for, how far it is, and what came of it."""

from __future__ import annotations

import secrets
import time
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, Field

from unetpp.serve.problems import ProblemItem


class JobState(StrEnum):
    """States of a job, in the order in which it passes them."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNDONE = (JobState.QUEUED, JobState.RUNNING)


class FoundClass(BaseModel):
    """What was found of one class, or region."""

    name: str
    voxels: int
    objects: int | None = None
    area_mm2: float | None = None
    volume_ml: float | None = None


class SizeResult(BaseModel):
    """The result at one size of the network."""

    size: str
    """Its name: a depth, or a depth and a width."""
    file: str
    """The segmentation, in the format of the input, relative to the folder of the results."""
    expected_dice: float | None = None
    """By the calibration on validation cases; null: nothing is known."""
    expected_dice_error: float | None = None
    confidence: float | None = None
    review: bool = False
    """Whether a person should look at it."""
    why: str = ""
    classes: list[FoundClass] = []
    probabilities: list[str] = []
    """Maps, one for each foreground class."""
    uncertainty: str | None = None
    dice: float | None = None
    """Against the label of the case, where there is one."""


class View(BaseModel):
    """The grid on which the page shows an image: axes x, y, z to the right, the front and the head (RAS+)."""

    kind: Literal["image", "large image", "volume"]
    shape: tuple[int, int, int]
    """Voxels along x, y, z; of an image z is 1, and y points up."""
    affine: list[list[float]]
    """4 x 4, from voxel (x, y, z) to millimeters, or to pixels where the file has none."""
    channels: int
    is_color: bool
    step: int = 1
    """Every how many voxels are shown, so that a browser can hold them."""


class JobOptions(BaseModel):
    """Options of one prediction; all sizes are always computed, in one pass."""

    tta: bool = Field(False, description="Average over mirrored copies: slower, slightly better.")
    probabilities: bool = Field(False, description="Also return a map of the probability of each class.")
    uncertainty: bool = Field(True, description="Also return a map of the entropy of the probabilities.")


class Job(BaseModel):
    """A prediction of one case."""

    id: str = Field(default_factory=lambda: secrets.token_urlsafe(9))
    name: str
    """Of the case, for people; never part of a path."""
    model: str
    state: JobState = JobState.QUEUED
    files: list[str] = []
    """Names of the uploaded files, as they are stored."""
    images: list[str] = []
    """Those of them that are channels of the image, in order."""
    case: str | None = None
    """Case of DATA, if it was not uploaded."""
    of: str | None = None
    """Job of the same image with another model, beside which it is shown."""
    options: JobOptions = JobOptions()
    voxels: int | None = None
    """Pixels or voxels of the image by its header; null: not known."""
    lease: str | None = None
    """Lease that holds it, with which it is removed."""
    created: float = Field(default_factory=time.time)
    started: float | None = None
    finished: float | None = None
    progress: float = 0.0
    """Fraction of the tiles that are done."""
    seconds_left: float | None = None
    position: int | None = None
    """Number of jobs before this one in the queue."""
    problem: ProblemItem | None = None
    sizes: list[SizeResult] = []
    """Smallest first."""
    notes: list[str] = []
    outside: list[str] = []
    """How the image is unlike those of the training."""
    view: View | None = None
    can_correct: bool = True
    """Whether corrections of it are saved: not of images that are folders or parts of files."""

    @property
    def is_done(self) -> bool:
        """Whether there is a result."""
        return self.state is JobState.DONE

    def is_small(self, voxels: int) -> bool:
        """Tell whether its image is known to have at most so many voxels."""
        return self.voxels is not None and self.voxels <= voxels

    @property
    def doubt(self) -> float:
        """How much it should be looked at: most first in the review list."""
        best = self.sizes[-1] if self.sizes else SizeResult(size="", file="")
        known = best.expected_dice if best.expected_dice is not None else best.confidence
        return (1.0 if best.review else 0.0) + (1.0 - (known if known is not None else 0.0))
