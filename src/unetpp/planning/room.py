"""Memory that there is for a training, and plans that stay within it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import torch

from unetpp.errors import PlanError
from unetpp.free_memory import measure_free_bytes
from unetpp.plan import Axes, ModelPlan, Plan, PredictPlan, TrainPlan
from unetpp.planning.geometry_rules import by
from unetpp.planning.memory import estimate_step_bytes

SHARE_OF_GPU = 0.85
"""Share of the memory of a GPU for which is planned: cuDNN's workspace and the holes between tensors have the rest."""
SHARE_OF_COMPUTER = 0.6
MANY_STEPS = 10_000
"""Number of steps beyond which time is better spent on larger patches and batches; chosen, not measured. nnU-Net makes
250,000 of all that its memory holds."""
LEAST_GROWTH = 2.0
"""Smallest factor on the voxels of a step for which another plan is made."""
MOST_COUNTS = 3
"""Number of plans whose memory is counted, which takes seconds each."""
MARGINS = (1.02, 1.3)
"""Factors by which the estimate is corrected beyond what a count shows: the last plan must fit."""
MemoryCount = Callable[[ModelPlan, TrainPlan], float]
"""Counts the bytes that a training takes at its peak."""
TileCount = Callable[[ModelPlan, PredictPlan], float]
"""Counts the bytes that a batch of tiles takes at its peak."""


@dataclass(frozen=True)
class Room:
    """Memory for a training."""

    limit: float
    """Bytes that it may take."""
    device: str
    """Whose memory it is: "cpu" or "cuda"."""
    grows: bool = False
    """Whether patches, batches and widths are made as large as it holds."""
    is_named: bool = False
    """Whether the user named it, so that no plan may exceed it."""
    is_elsewhere: bool = False
    """Whether it is that of a GPU that is not in this machine."""
    checkpointing: bool | str = False
    """Activation checkpointing, as the user set it."""
    correction: float = 1.0
    """Factor on what is estimated, by what was counted."""
    most_voxels: float = math.inf
    """Number of voxels of a step for which there is time."""

    def __str__(self) -> str:
        gigabytes = f"{self.limit / 1e9:.3g} GB"
        if self.device != "cuda":
            return gigabytes
        time = "" if self.most_voxels == math.inf else " and the time"
        return f"{gigabytes} ({SHARE_OF_GPU:.0%} of the memory of the GPU){time}"

    def estimate(self, model: ModelPlan, patch: Axes, batch: int, precision: str) -> float:
        """Estimate the bytes of a training step."""
        return self.correction * estimate_step_bytes(model, patch, batch, precision, self.checkpointing)

    def holds(self, model: ModelPlan, patch: Axes, batch: int, precision: str) -> bool:
        """Tell whether a training step fits."""
        return batch * prod(patch) <= self.most_voxels and self.estimate(model, patch, batch, precision) <= self.limit


def find_room(
    device: torch.device, vram_gb: float | None, minutes: float | None, checkpointing: bool | str = False
) -> Room:
    """Find out how much memory a training may take, and whether its sizes grow into it.

    On a GPU that is timed they do so only if asked to, by `vram_gb`, or in a long time (`grow_into_time`): in a short
    one more steps are worth more. On CPUs small patches are better (docs/log.md), so that memory is only a limit.

    Args:
        device: where training runs; with `vram_gb` a GPU, which need not be there.
        vram_gb: memory of the GPU in GB; on a machine that has one, no more than is free is taken.
        minutes: wall time of the training; None: not limited.
        checkpointing: activation checkpointing, as in `plan.train`.
    """
    if vram_gb is None:
        grows = device.type == "cuda" and minutes is None
        return Room(measure_memory(device), device.type, grows, checkpointing=checkpointing)
    wanted, elsewhere = SHARE_OF_GPU * vram_gb * 1e9, is_elsewhere(vram_gb)
    limit = wanted if elsewhere else min(wanted, measure_memory(device))
    return Room(limit, "cuda", True, True, elsewhere, checkpointing)


def grow_into_time(room: Room, plan: Plan, seconds: float) -> Room:
    """Let sizes grow on a GPU that has time for more than `MANY_STEPS`: the rest of it goes into larger steps.

    Args:
        room: for which the plan was made.
        plan: of the usual sizes, with minutes.
        seconds: time of one of its steps.

    Returns:
        The same room if there is no such time, or sizes grow already.
    """
    train = plan.train
    more = 60 * (train.minutes or 0.0) / seconds / MANY_STEPS
    if room.grows or room.device != "cuda" or more < LEAST_GROWTH:
        return room
    return replace(room, grows=True, most_voxels=more * train.batch * prod(train.patch))


def is_elsewhere(vram_gb: float | None) -> bool:
    """Tell whether the GPU whose memory the user named is not in this machine."""
    return vram_gb is not None and not torch.cuda.is_available()


def measure_memory(device: torch.device) -> float:
    """Return the bytes that a training may take: most of a GPU's, part of a computer's within a container's limit."""
    if device.type == "cuda":
        return SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0]
    return SHARE_OF_COMPUTER * measure_free_bytes()


def plan_within(
    room: Room, make: Callable[[Room], Plan], count_bytes: MemoryCount | None, warn: Callable[[str], None]
) -> Plan:
    """Make a plan that stays within the memory: a smaller one while the count of its memory says that it does not.

    Plans are made by a quick estimate. Where the count of one is above the memory, the estimate is corrected by it.

    Args:
        room: the memory.
        make: makes a plan for it.
        count_bytes: counts the memory of a plan; None: the estimate is taken for it.
        warn: is told where even the smallest plan may not fit the memory of this machine.

    Raises:
        PlanError: the smallest plan does not fit the memory that the user named.
    """
    made = make(room)
    for number in range(1, MOST_COUNTS + 1):
        step, last = (made.train.patch, made.train.batch, made.train.precision), made
        estimated = room.estimate(made.model, *step)
        needed = estimated if count_bytes is None else count_bytes(made.model, made.train)
        if needed <= room.limit:
            return made
        if number < MOST_COUNTS:
            room = replace(room, correction=room.correction * MARGINS[number - 1] * needed / estimated)
            made = make(room)
        if made == last:
            break
    text = f"patches of {by(step[0])}, batch {step[1]}, first width {last.model.widths[0]}"
    if room.is_named:
        raise _make_error(room, needed, text)
    found = f"A training step takes about {needed / 1e9:.2g} GB ({text})"
    warn(f"warning: {found}; {room.limit / 1e9:.2g} GB are planned for, of what is free here. {_SMALLER}")
    return last


_SMALLER = "Close other programs, or set `train.batch=1`, a smaller `train.patch`, or `train.checkpointing=True`."


def _make_error(room: Room, needed: float, text: str) -> PlanError:
    got = f"{room.limit / SHARE_OF_GPU / 1e9:.3g} GB, of which {SHARE_OF_GPU:.0%} are planned for"
    expected = f"at least {needed / SHARE_OF_GPU / 1e9:.3g} GB, for the smallest plan: {text}"
    action = "Name a larger GPU, set `train.checkpointing=True`, or set no sizes that a smaller plan would have."
    return PlanError("vram_gb", got, expected, action)
