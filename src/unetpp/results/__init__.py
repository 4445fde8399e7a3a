"""Results of the verbs: typed, with a dictionary for programs and a text for people. Imports nothing heavy."""

from unetpp.results.blocks import BlockPlan, PredictedBlocks
from unetpp.results.data import Checked, Planned, Prepared
from unetpp.results.models import Adapted, Exported, ExportInfo, Imported, ModelInfo, Pruned
from unetpp.results.predictions import LOW, NOTHING, REVIEWED, SPECKLED, UNLIKE, Evaluated, Predicted
from unetpp.results.result import DONE, LONGEST_REPR, PARTLY, UNUSABLE, Result
from unetpp.results.runs import Cleaned, CleanedRun, Demonstrated, Followed, Reported, Run, RunInfo, TrainedFold
from unetpp.results.selected import Selected, SelectionInfo
from unetpp.results.served import Served
from unetpp.results.tables import (
    NEW_IMAGES,
    WIDTH,
    WORST,
    describe_depths,
    describe_parameters,
    describe_plan,
    describe_scores,
    describe_worst,
    find_worst,
    list_choices,
    suggest_prediction,
    table,
)

__all__ = [
    "DONE",
    "LONGEST_REPR",
    "LOW",
    "NEW_IMAGES",
    "NOTHING",
    "PARTLY",
    "REVIEWED",
    "SPECKLED",
    "UNLIKE",
    "UNUSABLE",
    "WIDTH",
    "WORST",
    "Adapted",
    "BlockPlan",
    "Checked",
    "Cleaned",
    "CleanedRun",
    "Demonstrated",
    "Evaluated",
    "ExportInfo",
    "Exported",
    "Followed",
    "Imported",
    "ModelInfo",
    "Planned",
    "Predicted",
    "PredictedBlocks",
    "Prepared",
    "Pruned",
    "Reported",
    "Result",
    "Run",
    "RunInfo",
    "Selected",
    "SelectionInfo",
    "Served",
    "TrainedFold",
    "describe_depths",
    "describe_parameters",
    "describe_plan",
    "describe_scores",
    "describe_worst",
    "find_worst",
    "list_choices",
    "suggest_prediction",
    "table",
]
