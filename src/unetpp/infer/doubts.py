"""What is said of a model wherever it is used: how its training stands, and why no Dice is expected. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable

from unetpp.model_notes import Verdict

_FINDING = re.compile(r"(?:Fold (\w+): )?([^:]*)")
"""The finding of a verdict; its figures come after a colon."""


def describe_verdicts(verdicts: Iterable[Verdict | None]) -> tuple[str, ...]:
    """Repeat in one line each verdict on the training of a model that is not good, without its figures.

    Args:
        verdicts: on the training of each network.
    """
    return tuple(dict.fromkeys(text for verdict in verdicts if verdict and (text := _describe(verdict))))


def _describe(verdict: Verdict) -> str:
    if verdict.learned and verdict.is_settled:
        return ""
    match = _FINDING.match(verdict.reason)
    fold, finding = match.groups() if match else (None, verdict.reason)
    finding = f"{finding[:1].lower()}{finding[1:]}".rstrip(".")
    whole = f"the full network, {verdict.trained_size}" if verdict.trained_size else "the model"
    of_fold = f", fold {fold}" if fold else ""
    text = f"verdict on the training of {whole}{of_fold}: {finding}. {verdict.advice}".strip()
    return text if verdict.learned else f"the model has hardly learned: look at the results; {text}"


def describe_doubts(verdicts: Iterable[Verdict | None], no_expected_dice: str) -> tuple[str, ...]:
    """Repeat the verdicts on a model, and say why no Dice is expected of its predictions.

    Args:
        verdicts: on the training of each network.
        no_expected_dice: why no Dice is expected; empty if one is. Of a network that has hardly learned, it is clear.
    """
    found = list(verdicts)
    is_clear = any(verdict and not verdict.learned for verdict in found)
    reason = (f"no expected Dice: {no_expected_dice}",) if no_expected_dice and not is_clear else ()
    return (*describe_verdicts(found), *reason)
