"""Nested U-Nets for medical and biological images: train once, deploy at the size you can afford.

    run = unetpp.train("data/nuclei", "runs/nuclei", minutes=20)
    predictor = unetpp.load("runs/nuclei")
    segmentation = predictor.predict(image)

All public names are here. Each is imported when it is first used, so that `import unetpp` is fast. Every command of the
command line is a function of the same name with the same arguments (`import` is `import_checkpoint`).
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from unetpp.version import __version__
from unetpp.waiting_threads import limit_spinning

if TYPE_CHECKING:
    from unetpp import peers
    from unetpp.deploy.hub import HubModel
    from unetpp.deploy.save import save
    from unetpp.errors import (
        DataError,
        Interrupted,
        MissingExtraError,
        ModelFileError,
        PlanError,
        Problem,
        UnetppError,
        UsageError,
        WriteError,
    )
    from unetpp.infer.exported_predictor import ExportedPredictor
    from unetpp.infer.loading import load
    from unetpp.infer.prediction import Prediction
    from unetpp.infer.predictor import Predictor
    from unetpp.infer.selected import SelectedPredictor
    from unetpp.losses.supervision import DeepSupervisionLoss
    from unetpp.model.build import build_model
    from unetpp.model.network import HeadOutputs, UNetPlusPlus
    from unetpp.plan import ModelPlan, Normalization, Plan
    from unetpp.results import (
        Adapted,
        Checked,
        Cleaned,
        CleanedRun,
        Demonstrated,
        Evaluated,
        Exported,
        ExportInfo,
        Imported,
        ModelInfo,
        Planned,
        Predicted,
        PredictedBlocks,
        Prepared,
        Pruned,
        Reported,
        Run,
        RunInfo,
        Selected,
        SelectionInfo,
        Served,
        TrainedFold,
    )
    from unetpp.verbs.adapt import adapt
    from unetpp.verbs.check import check
    from unetpp.verbs.clean import clean
    from unetpp.verbs.demo import demo
    from unetpp.verbs.evaluate import evaluate
    from unetpp.verbs.export import export
    from unetpp.verbs.import_checkpoint import import_checkpoint
    from unetpp.verbs.info import info
    from unetpp.verbs.plan import plan
    from unetpp.verbs.predict import predict
    from unetpp.verbs.prune import prune
    from unetpp.verbs.report import report
    from unetpp.verbs.select import select
    from unetpp.verbs.serve import serve
    from unetpp.verbs.train import train

_VERBS = "adapt check clean demo evaluate export import_checkpoint info plan predict prune report select serve train"
_HOMES = {
    **{f"verbs.{verb}": verb for verb in _VERBS.split()},
    "infer.prediction": "Prediction",
    "deploy.hub": "HubModel",
    "deploy.save": "save",
    "infer.exported_predictor": "ExportedPredictor",
    "infer.loading": "load",
    "infer.predictor": "Predictor",
    "infer.selected": "SelectedPredictor",
    "losses.supervision": "DeepSupervisionLoss",
    "model.build": "build_model",
    "model.network": "HeadOutputs UNetPlusPlus",
    "plan": "ModelPlan Normalization Plan",
    "results": (
        "Adapted Checked Cleaned CleanedRun Demonstrated Evaluated Exported ExportInfo Imported ModelInfo Planned "
        "Predicted PredictedBlocks Prepared Pruned Reported Run RunInfo Selected SelectionInfo Served TrainedFold"
    ),
    "errors": (
        "DataError Interrupted MissingExtraError ModelFileError PlanError Problem UnetppError UsageError WriteError"
    ),
}
"""Module -> public names in it."""
_HOME_OF = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names.split()}

# in the order of use: verbs, models, results, errors
__all__ = ["demo", "check", "plan", "train", "report", "predict", "evaluate", "serve"]  # noqa: RUF022
__all__ += ["select", "prune", "adapt", "export", "import_checkpoint", "info", "clean"]  # noqa: RUF022
__all__ += ["build_model", "DeepSupervisionLoss", "save", "load", "Plan", "ModelPlan", "Normalization"]  # noqa: RUF022
__all__ += ["Prediction", "Predictor", "SelectedPredictor", "ExportedPredictor", "UNetPlusPlus"]  # noqa: RUF022
__all__ += ["HeadOutputs", "HubModel"]
__all__ += ["Demonstrated", "Checked", "Planned", "Run", "TrainedFold", "Reported", "Predicted", "PredictedBlocks"]  # noqa: RUF022
__all__ += ["Evaluated", "Pruned", "Adapted", "Exported", "Imported", "ModelInfo", "ExportInfo"]  # noqa: RUF022
__all__ += ["RunInfo", "Selected", "SelectionInfo", "Served", "Cleaned", "CleanedRun", "Prepared"]  # noqa: RUF022
__all__ += ["__version__", "peers"]
__all__ += ["DataError", "Interrupted", "MissingExtraError", "ModelFileError", "PlanError"]
__all__ += ["Problem", "UnetppError", "UsageError", "WriteError"]


class _LazyModule(ModuleType):
    """Imports public names on first use, and keeps `plan` and `train` the verbs.

    Importing a submodule sets it as an attribute of its package; here that would hide the verb of the same name.
    `from unetpp.plan import Plan` works as usual.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME_OF and name != "peers":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        from unetpp.errors import naming_missing

        with naming_missing(f"{self.__name__}.{name}"):
            if name == "peers":  # a package, with to_smp and to_monai
                return importlib.import_module(f"{self.__name__}.{name}")
            value = getattr(importlib.import_module(_HOME_OF[name]), name)
        super().__setattr__(name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted(__all__)


limit_spinning()
sys.modules[__name__].__class__ = _LazyModule
