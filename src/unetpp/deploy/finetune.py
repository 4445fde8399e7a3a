"""A short training that goes on from the weights of a network, on the cases that its own training has left."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from unetpp.errors import UsageError
from unetpp.measure.stored_cases import find_stored_split
from unetpp.measure.validation import DepthValidation, choose_evenly
from unetpp.measured import FineTuning
from unetpp.model.file import load_model
from unetpp.model.network import UNetPlusPlus
from unetpp.plan import Plan
from unetpp.run_folder import MODEL
from unetpp.train.trainer import FoldTraining, Status

RATE = 0.3
"""Share of the plan's learning rates: the weights are good already."""
VALIDATIONS = 4


def finetune(
    network: UNetPlusPlus,
    plan: Plan,
    model: Path,
    minutes: float,
    device: torch.device,
    show: Callable[[Status], None] = lambda status: None,
) -> tuple[UNetPlusPlus, FineTuning]:
    """Train a network further, and give the best weights that were seen on validation cases, those before it among them.

    Args:
        plan: of the network.
        model: the file in a run folder whose cases are used: those of its fold.
        minutes: of training.
        show: called now and then.

    Raises:
        UsageError: the prepared cases of the run are not there.
        Interrupted: stopped by a signal.
    """
    cases, held_out = find_stored_split(model, plan.data)
    if not cases or not held_out:
        expected = "prepared cases to train on beside it (RUN/splits.json, RUN/cache)"
        raise UsageError("minutes", str(model), expected, "Name the model in its run folder, or leave out `minutes`.")
    if not minutes > 0:
        raise UsageError("minutes", f"{minutes:g}", "more than 0", "Or leave it out.")
    train = plan.train
    slower = plan.changed(
        {
            "train.learning_rate": RATE * train.learning_rate,
            "train.kernel_learning_rate": RATE * train.kernel_learning_rate,
            "train.freeze_encoder": 0.0,
            "train.validations": VALIDATIONS,
        }
    )
    validation = DepthValidation(choose_evenly(held_out, train.validation_cases), slower, device)
    before = validation(copy.deepcopy(network).to(device).eval()).dice
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        training = FoldTraining(
            slower,
            cases,
            folder,
            device=device,
            validate=validation,
            budget_s=60 * minutes,
            weights=network.state_dict(),
            show=show,
        )
        result = training.run()
        if result.best_dice <= before:
            return network, FineTuning(dice_before=before, dice=before, steps=result.steps)
        better = FineTuning(dice_before=before, dice=result.best_dice, steps=result.steps)
        return load_model(folder / MODEL)[0], better
