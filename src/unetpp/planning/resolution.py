"""Whether there is a low resolution, and the section `data` of a plan with it."""

from __future__ import annotations

from collections.abc import Callable

from unetpp.errors import PlanError
from unetpp.plan import Axes, DataPlan
from unetpp.planning import geometry_rules, stages
from unetpp.planning.choice import Decisions
from unetpp.planning.fingerprint import Fingerprint
from unetpp.planning.patches import Sizes


def plan_resolution(
    f: Fingerprint,
    data: DataPlan,
    decisions: Decisions,
    plan_sizes: Callable[[DataPlan], Sizes],
    minutes: float | None,
    is_first: bool,
) -> DataPlan:
    """Choose whether there is a low resolution, and make voxels larger for one that is alone.

    Args:
        f: the data set.
        data: the section without a low resolution.
        decisions: what the user set; reasons are noted there.
        plan_sizes: returns patch and typical shape for a section.
        minutes: wall time of the training; None: not limited.
        is_first: it is the first stage of a cascade; then low resolution may be as fine as that of the images.

    Raises:
        PlanError: the user asks for one where there can be none.
    """

    def find_sizes(mm: tuple[float, ...]) -> tuple[Axes, Axes]:
        found = plan_sizes(data.model_copy(update={"spacing_mm": mm, "voxel_mm": mm}))
        return found.shape, found.patch

    mm, is_started = data.voxel_mm, bool(decisions.settings.get("train.start"))
    patches = 1.0
    if data.dims == 3:
        sizes = plan_sizes(data)
        patches = stages.count_patches(sizes.shape, sizes.patch)
    choice = stages.choose_resolution(patches, mm, 0 if is_started else f.cases, minutes)
    resolution = decisions.choose("data.resolution", choice)
    if resolution == "full":
        return data
    obstacle = stages.find_obstacle(data.dims, patches, mm, is_started and resolution == "cascade")
    if resolution == "low" and "data.spacing_mm" in decisions.settings:
        obstacle = "with `data.spacing_mm`, which it chooses"
    if obstacle and not (is_first and patches <= stages.LOW_RESOLUTION_FROM):
        raise PlanError("data.resolution", f"{resolution} {obstacle}", "full", "Leave it out.")
    if resolution == "cascade" or mm is None:
        return data.model_copy(update={"resolution": resolution})
    low = decisions.choose("data.spacing_mm", stages.choose_low_spacing(mm, find_sizes))
    typical = (f.median_spacing_mm,)
    resampling = decisions.choose("data.resampling", geometry_rules.choose_resampling(True, typical, low))
    changes = {"resolution": resolution, "spacing_mm": low, "voxel_mm": low, "resampling": resampling}
    return data.model_copy(update=changes)
