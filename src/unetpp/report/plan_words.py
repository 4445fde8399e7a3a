"""What the page of a plan says in sentences: its short form, what was left out, and what was not done."""

from __future__ import annotations

from collections.abc import Iterator

from unetpp.data_plan import describe_regions
from unetpp.plan import Plan
from unetpp.planning import rules
from unetpp.report.plan_record import PlanRecord, describe_air, join_sizes
from unetpp.results import list_choices
from unetpp.words import count_noun, find_value, format_value, list_some

SECTIONS = {"data": "Data", "model": "Network", "train": "Training", "predict": "Prediction"}
SMALL_SHARE = 0.25
"""Fraction of the median image in a patch below which it is said that there is no stage of low resolution."""


def summarize_record(record: PlanRecord) -> tuple[str, ...]:
    """Write the short form of the page: a line for each of data, ceiling, patch, folds and odd cases."""
    f, study = record.fingerprint, record.study
    sizes = _describe_span(f.smallest_shape, f.largest_shape)
    unknown = f", size of {record.voxels} unknown"
    spacing = f" of {join_sizes(f.median_spacing_mm)} mm" if f.median_spacing_mm else unknown
    spacing += " (they differ)" if f.spacing_varies else ""
    shares = [f"{name} {share:.2%}" for name, share in zip(f.classes[1:], f.class_fractions[1:], strict=True)]
    regions = record.planned.plan.data.regions or ()
    lines = [
        f"Sizes:    {sizes} {record.voxels}{spacing}",
        f"Classes:  {list_some(shares, 4)} of the labeled {record.voxels}",
        *([f"Regions:  {describe_regions(regions)}"] if regions else []),
    ]
    if air := describe_air(record):
        lines.append(f"Channels: {air}")
    if study and study.ceiling:
        scores = [
            f"{name} Dice {'-' if score.dice is None else format(score.dice, '.3f')}"
            for name, score in study.ceiling.classes.items()
        ]
        lines.append(f"Ceiling:  {list_some(scores, 4)}, by resampling {count_noun(study.resampled, 'label')} alone")
    lines.append(f"Patch:    {record.patch_share:.0%} of the median image; {describe_patch(record)}")
    if len(considered := record.planned.plan.considered) > 1:
        lines.append(f"Stages:   {'; '.join(line.partition(':')[0] for line in considered)}")
    lines.append(f"Folds:    {describe_proof(record)}")
    lines += [f"Kinds:    {count} {reason}" for count, reason in list_kinds(record)[:1]]
    if odd := record.odd.cases:
        names = list_some([case.id for case in odd], 3)
        lines.append(f"Odd:      {names}: {odd[0].reasons[0]}" + ("; ..." if len(odd) > 1 else ""))
    return tuple(lines)


def describe_patch(record: PlanRecord) -> str:
    """Write the size of a patch in voxels and, where it is known, in mm."""
    plan = record.planned.plan
    text = f"{join_sizes(plan.train.patch)} {record.voxels}"
    if plan.data.voxel_mm:
        sizes = (size * mm for size, mm in zip(plan.train.patch, plan.data.voxel_mm, strict=True))
        text += f", {join_sizes(sizes)} mm"
    return text


def describe_proof(record: PlanRecord) -> str:
    """Say how many groups are on both sides of a fold."""
    proof = record.proof
    noun = "group" if proof.groups < proof.cases else "case"
    text = f"{proof.shared} of {count_noun(proof.groups, noun)} on both sides of a fold"
    if proof.groups == proof.cases:
        text += "; which cases are of one patient is not known"
    if proof.equal_images:
        text += f"; {count_noun(proof.equal_images, 'image')} of a validation also train under another name"
    return text


def list_kinds(record: PlanRecord) -> list[tuple[str, str]]:
    """List cases that differ alike from the others, the largest group first: how many of all, and how they differ."""
    total = len(record.inspection.facts)
    return [(f"{len(kind.ids)} of {total} cases:", kind.reason) for kind in record.odd.kinds]


def list_excluded(record: PlanRecord) -> list[str]:
    """List what of the data set is not used, and why."""
    cases = record.dataset.cases
    without, tests = [c.id for c in cases if not c.labels], [c.id for c in cases if c.split == "test"]
    named = {case.id for case in cases if case.labels and case.split != "test"}
    rest = len(named) - record.proof.cases
    texts = [f"{count_noun(len(without), 'case')} without a label: {list_some(without)}"] if without else []
    texts += [f"{count_noun(len(tests), 'test case')}, kept for a last evaluation: {list_some(tests)}"] if tests else []
    texts += [f"{count_noun(rest, 'labeled case')} in no fold of splits.json"] if rest > 0 else []
    return texts


def list_not_done(record: PlanRecord) -> list[str]:
    """List what the plan does not do, and what nobody has checked, with the reasons."""
    plan, texts = record.planned.plan, []
    if plan.data.spacing_mm is None:
        texts.append(f"Nothing is resampled: {plan.reasons.get('data.spacing_mm', 'the plan says so')}.")
    if record.patch_share < SMALL_SHARE and plan.data.resolution != "cascade":
        texts.append(
            f"No stage of low resolution: the network sees {record.patch_share:.1%} of the median image "
            "at once, and no more around it."
        )
    if not plan.train.augment.mirror:
        reason = plan.reasons.get("train.augment.mirror", "the plan says so")
        texts.append(f"Patches are not mirrored: {reason}.")
    if rules.NOT_TIMED in plan.reasons.get("train.minutes", ""):
        texts.append("No training step was timed: the GPU that is planned for is not in the machine of this page.")
    texts.append("No other network was trained beside this one: that a plan has reasons does not show that it is best.")
    texts += [
        "Manufacturers, scanners and protocols are not read from the files: name them beside the signature.",
        "No image of another place was seen. Scores on held-out cases of this data set say little of those of another.",
    ]
    return [*texts, *(f"Not on this page: {text}." for text in record.left_out)]


def describe_range(plan: Plan) -> str:
    """Say which images `predict` flags as unlike the training; empty if the plan does not know."""
    known = plan.data.training_range
    if known is None:
        return ""
    parts = []
    if known.smallest_mm and known.largest_mm:
        parts.append(f"voxel sizes far from {_describe_span(known.smallest_mm, known.largest_mm)} mm")
    for name, own, scale in zip(plan.data.channels, known.intensities, plan.data.normalization, strict=True):
        unit = " standard deviations from the mean" if scale.per_case else ""
        low, high = f"{own.low[0]:.3g} to {own.low[1]:.3g}", f"{own.high[0]:.3g} to {own.high[1]:.3g}"
        parts.append(f"{name} whose percentiles 1 and 99 are not about {low} and {high}{unit}")
    return "; ".join(parts)


def group_choices(plan: Plan) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Group the settings that have a reason by section: title, then dotted name, value and reason of each."""
    choices = list_choices(plan, plan.reasons)
    groups = [
        (title, [choice for choice in choices if choice[0].startswith(f"{section}.")])
        for section, title in SECTIONS.items()
    ]
    return [(title, found) for title, found in groups if found]


def list_defaults(plan: Plan) -> list[tuple[str, str]]:
    """List the settings without a reason, which do not depend on the data: dotted name and value."""
    values = plan.model_dump(mode="json")
    names = [name for section in SECTIONS for name in _flatten(values[section], section, plan)]
    return [(name, format_value(find_value(values, name))) for name in names]


def _flatten(section: object, prefix: str, plan: Plan) -> Iterator[str]:
    if prefix in plan.reasons:
        return
    if isinstance(section, dict) and section:
        for key, value in section.items():
            yield from _flatten(value, f"{prefix}.{key}", plan)
    else:
        yield prefix


def _describe_span(smallest: tuple[float, ...], largest: tuple[float, ...]) -> str:
    first, last = join_sizes(smallest), join_sizes(largest)
    return first if first == last else f"{first} to {last}"
