"""The processes beside the first one of a training: each trains its share of the batches that the first one orders.

What comes before and after the steps (check, plan, prepare, measure, report) is done by the first process alone. The
others wait for its orders, however long that takes.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from unetpp.data.store import StoredCase
from unetpp.errors import LOG, Interrupted, Problem, UnetppError, UsageError
from unetpp.measure.validation import DepthValidation
from unetpp.model.build import build_from_plan
from unetpp.model_notes import Training
from unetpp.plan import Plan
from unetpp.results import PARTLY, UNUSABLE, Followed
from unetpp.runtime.device import keep_freed_memory
from unetpp.runtime.ranks import LostRank, Ranks, joined
from unetpp.runtime.synchronized_norm import has_batch_norm
from unetpp.train.trainer import Extension, FoldTraining

END = "end"
"""Key of the last order, with the exit code of all."""
Arrays = list[tuple[str, str, str]]
"""Prepared cases: id, stem and first stage of each."""


@dataclass(frozen=True)
class Order:
    """What the other ranks need to train as the first one does."""

    plan: str
    folder: str
    cases: Arrays
    validated: Arrays | None
    """Cases that a validation scores; None: there is none."""
    trained: Arrays
    """Training cases that it scores as well."""
    budget_s: float | None
    resume: bool
    more: dict[str, Any] | None
    """Further training, after the end of a schedule."""


def require_trainable(*plans: Plan | None) -> None:
    """Refuse plans that the ranks of this training cannot train.

    Raises:
        UsageError: more ranks than a batch has patches, of which one would have nothing to do; or a network that is
            compiled, whose batch normalizations read all ranks: torch.compile does not trace that.
    """
    size = joined().size
    for plan in filter(None, plans):
        if plan.train.batch < size:
            got, expected = f"{plan.train.batch} for {size} ranks", "a patch for each rank at least"
            action = f"Start at most {plan.train.batch} processes, or set `train.batch={size}`: it counts all of them."
            raise UsageError("train.batch", got, expected, action)
        if size > 1 and plan.train.compile and has_batch_norm(build_from_plan(plan.model)):
            got = f"true for {size} ranks and a network with batch normalization"
            action = "Set `train.compile=false`, or another normalization: `model.norm=group`."
            raise UsageError("train.compile", got, "a network without it, or one that is not compiled", action)


def train_together(training: FoldTraining, resume: bool = False, more: Extension | None = None) -> Training:
    """Run a training in all ranks; with none but this one, as it is. Arguments and errors as `FoldTraining.run`."""
    ranks = training.ranks
    if not ranks.is_alone:
        validation = training.validate if isinstance(training.validate, DepthValidation) else None
        order = Order(
            training.plan.to_json(),
            str(training.folder.absolute()),
            _list_arrays(training.cases),
            _list_arrays(validation.cases) if validation else None,
            _list_arrays(validation.training_cases if validation else ()),
            training.state.budget_s,
            resume,
            asdict(more) if more else None,
        )
        ranks.tell(asdict(order))
        _let_signals_stop(training)
    return training.run(resume, more)


def follow(ranks: Ranks, device: torch.device) -> Followed:
    """Do what the first rank orders, until it has ended; it alone shows anything.

    Raises:
        LostRank: the first rank is lost, and nobody before this one can say so.
    """
    keep_freed_memory()
    code = PARTLY
    try:
        while END not in (message := ranks.listen()):
            _obey(Order(**message), ranks, device)
        code = message[END]
    except LostRank:
        if 0 in ranks.find_lost() and ranks.speaks:
            raise
    except (KeyboardInterrupt, Interrupted):
        LOG.debug("stopped", exc_info=True)
    except Exception as error:
        LOG.debug("rank %d", ranks.rank, exc_info=True)
        ranks.fail(f"{type(error).__name__}: {error}" if not isinstance(error, UnetppError) else str(error))
        code = UNUSABLE
    finally:
        ranks.leave()
    return Followed(code)


def _obey(order: Order, ranks: Ranks, device: torch.device) -> None:
    """Train this rank's share of a training."""
    plan = Plan.from_json(order.plan)
    cases = _find_arrays(order.cases)
    validation = None
    if order.validated is not None:
        validation = DepthValidation(
            _find_arrays(order.validated), plan, device, _find_arrays(order.trained), ranks=ranks
        )
    training = FoldTraining(
        plan, cases, Path(order.folder), device=device, validate=validation, budget_s=order.budget_s, ranks=ranks
    )
    _let_signals_stop(training)
    training.run(order.resume, Extension(**order.more) if order.more else None)


def _let_signals_stop(training: FoldTraining) -> None:
    """Let a signal to any rank break a validation off, between two cases."""
    with suppress(AttributeError):  # a training without validation
        training.validate.is_stopped = lambda: bool(training.interruption.requested)  # type: ignore[union-attr]


def _list_arrays(cases: Any) -> Arrays:
    return [(case.id, str(case.stem.absolute()), case.first_stage) for case in cases]


def _find_arrays(names: Arrays) -> list[StoredCase]:
    """Find prepared cases that the first rank has; raises UnetppError where this machine does not see them."""
    found = [StoredCase(name, Path(stem), first) for name, stem, first in names]
    for case in found:
        if not case.is_complete():
            got, expected = "no such prepared case on this machine", "the run folder on a disk that all machines share"
            problem = Problem(str(case.stem), got, expected, "Choose another `out`.")
            raise UnetppError(str(problem), [problem])
    return found
