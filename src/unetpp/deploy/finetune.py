"""Fine-tuning: a short training from the weights of a network, on the cached cases of its run."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from unetpp.errors import Interrupted, UsageError
from unetpp.measure.stored_cases import find_stored_split
from unetpp.measure.validation import DepthValidation, choose_evenly
from unetpp.model.file import load_model
from unetpp.model.network import UNetPlusPlus
from unetpp.model_notes import FineTuning
from unetpp.plan import Plan
from unetpp.planning.rules import FINE_TUNING_RATE
from unetpp.run_folder import MODEL
from unetpp.train.trainer import FoldTraining, Status

VALIDATIONS = 4
"""Number of validations."""


def finetune(
    network: UNetPlusPlus,
    plan: Plan,
    model: Path,
    minutes: float,
    device: torch.device,
    show: Callable[[Status], None] = lambda status: None,
) -> tuple[UNetPlusPlus, FineTuning]:
    """Train a network further.

    Args:
        network: the network.
        plan: its plan.
        model: model file in its run folder: the cases of its fold are used.
        minutes: length of the training.
        device: device to train on.
        show: called now and then with the status.

    Returns:
        The network with the best weights on the validation cases (the original weights compete too), and a summary.

    Raises:
        UsageError: the run has no cached cases, or `minutes` is not positive.
        Interrupted: stopped by a signal.
    """
    cases, held_out = find_stored_split(model, plan.data)
    if not cases or not held_out:
        expected = "prepared cases to train on, and to validate, in its run folder (RUN/splits.json, RUN/cache)"
        action = "Name the model in its run folder, or leave out `minutes`."
        raise UsageError("minutes", str(model), expected, action)
    if not minutes > 0:
        raise UsageError("minutes", f"{minutes:g}", "more than 0", "Increase it, or leave it out.")
    train = plan.train
    slower = plan.changed(
        {
            "train.learning_rate": FINE_TUNING_RATE * train.learning_rate,
            "train.kernel_learning_rate": FINE_TUNING_RATE * train.kernel_learning_rate,
            "train.freeze_encoder": 0.0,
            "train.validations": VALIDATIONS,
        }
    )
    validate = DepthValidation(choose_evenly(held_out, train.validation_cases), slower, device)
    before = validate(copy.deepcopy(network).to(device).eval()).dice
    weights, budget_s = network.state_dict(), 60 * minutes
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        training = FoldTraining(
            slower, cases, Path(name), device=device, validate=validate, budget_s=budget_s, weights=weights, show=show
        )
        try:
            result = training.run()
        except Interrupted as error:  # what it has saved goes with its folder
            kept = "nothing was written, and a file that was there before is intact"
            action = "Run the command again, with fewer `minutes` or without."
            raise Interrupted(f"Stopped while fine-tuning: {kept}. {action}") from error
        best_dice = result.best_dice or 0.0
        if best_dice > before:
            network = load_model(Path(name) / MODEL)[0]
    return network, FineTuning(dice_before=before, dice=max(before, best_dice), steps=result.steps)
