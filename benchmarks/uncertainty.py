"""Which doubt knows best where a prediction is wrong: heads, mirrored copies, or several trainings.

python benchmarks/uncertainty.py DATA RUN [RUN ...] --out FILE.json

RUNs are trainings on the same split (other seeds); the validation cases of fold 0 are predicted. For each case: the Dice that is expected of it (soft Dice
confidence of the deepest head, of the mean of heads, of mirrored copies, of the mean of the RUNs) and how well answers agree (Dice between the two deepest
heads; mean Dice of the deepest head with each other one; of mirrored copies and of each of the other RUNs with the first). Their rank correlation with the true
Dice of the first RUN's deepest head (Spearman, with a bootstrap interval over cases), and how many of the worst tenth of the cases are among the tenth that is
most in doubt. For each voxel: the area under the ROC curve with which a map finds the voxels that are wrong (mean over cases that have some; every tenth voxel).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr

from unetpp.data.cases import Case, find_cases
from unetpp.data.folds import read_splits
from unetpp.data.preprocess import prepare_case_label
from unetpp.infer.confidence import SoftDice
from unetpp.infer.options import PredictOptions
from unetpp.infer.prediction import MEAN, Prediction
from unetpp.infer.predictor import Predictor, load_predictor
from unetpp.labels.classes_torch import entropy as entropy_of
from unetpp.metrics.scores import fast_dice
from unetpp.run_folder import MODEL, RunFolder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", nargs="+", type=lambda name: RunFolder(Path(name)))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    splits = {run.splits.read_text() for run in options.runs}
    if len(splits) > 1:
        parser.error("the runs have different splits")
    cases = {case.id: case for case in find_cases(options.data).cases}
    predictors = [load_predictor(run.fold(0) / MODEL, "cpu", "torch") for run in options.runs]
    spent: dict[str, float] = {}
    rows = [
        row
        for case_id in read_splits(options.runs[0].splits)[0].validation
        if (row := doubts_of(predictors, cases[case_id], spent))
    ]
    found = {"cases": len(rows), "seconds": spent, "by_case": by_case(rows), "by_voxel": by_voxel(rows)}
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))
    print(to_markdown(options.data.name, found))


def doubts_of(predictors: list[Predictor], case: Case, spent: dict[str, float]) -> dict[str, Any] | None:
    """Of one case; None where there is no Dice to compare with."""

    def timed(name: str, predictor: Predictor, **options: Any) -> Mapping[int, Prediction]:
        started = time.perf_counter()
        answer = predictor.predict_case(case, PredictOptions(probabilities=True, **options))
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - started
        return answer

    first = predictors[0]
    classes, deepest = first.plan.data.num_classes, first.depths[-1]
    heads = timed("heads", first, depth="all and mean")
    apart = timed("heads, disagreement", first, depth=deepest, uncertainty="disagreement")[deepest]
    mirrored = timed("mirrored", first, depth=deepest, tta=True, uncertainty="disagreement")[deepest]
    runs = [heads[deepest], *(timed("runs", other, depth=deepest)[deepest] for other in predictors[1:])]
    own = heads[deepest].segmentation
    label = prepare_case_label(case, first.plan.data.model_copy(update={"spacing_mm": None}), own.shape)
    true = fast_dice(own, label, classes)
    if true is None:
        return None
    means = {
        "mirrored": mirrored.probabilities,
        "mean of heads": heads[MEAN].probabilities,
        "runs": np.mean([run.probabilities for run in runs], axis=0),
    }
    shallower = [heads[depth].segmentation for depth in first.depths[:-1]]
    expected = {
        "expected Dice, deepest head": heads[deepest].expected_dice,
        "expected Dice, mean of heads": soft_dice(means["mean of heads"]),
        "expected Dice, mirrored": soft_dice(means["mirrored"]),
        "two deepest heads agree": fast_dice(shallower[-1], own, classes),
        "all heads agree": float(np.mean([fast_dice(other, own, classes) or 0.0 for other in shallower])),
        "mirrored copies agree": fast_dice(mirrored.segmentation, own, classes),
    }
    maps = {
        "entropy, deepest head": entropy(heads[deepest].probabilities),
        "entropy, mean of heads": entropy(means["mean of heads"]),
    }
    maps |= {
        "disagreement of heads": apart.uncertainty,
        "entropy, mirrored": entropy(means["mirrored"]),
        "disagreement of heads and mirrored copies": mirrored.uncertainty,
    }
    if len(runs) > 1:
        expected["expected Dice, mean of runs"] = soft_dice(means["runs"])
        expected["runs agree"] = float(
            np.mean([fast_dice(other.segmentation, own, classes) or 0.0 for other in runs[1:]])
        )
        together = Predictor([predictor.network for predictor in predictors], first.plan)
        every = timed("runs, disagreement", together, depth=deepest, uncertainty="disagreement")[deepest]
        maps |= {"entropy, mean of runs": entropy(means["runs"]), "disagreement of heads and runs": every.uncertainty}
    wrong = (own != label).ravel()[::10]
    return {
        "true": true,
        "expected": expected,
        "voxels": {name: auroc(found.ravel()[::10], wrong) for name, found in maps.items()},
    }


def soft_dice(probabilities: Any) -> float | None:
    """What Dice whole arrays of probabilities (classes, *spatial) promise."""
    confidence = SoftDice()
    values = torch.from_numpy(probabilities)
    confidence.add(values if len(values) > 2 else values[1:], values.argmax(dim=0))
    return confidence.value()


def entropy(probabilities: Any) -> np.ndarray:
    found: np.ndarray = entropy_of(torch.from_numpy(probabilities)).numpy()
    return found


def auroc(doubt: np.ndarray, wrong: np.ndarray) -> float | None:
    """Of finding the wrong voxels by their doubt (Mann and Whitney); None where all or none are wrong."""
    count = int(wrong.sum())
    if count in (0, len(wrong)):
        return None
    return float((rankdata(doubt)[wrong].sum() - count * (count + 1) / 2) / (count * (len(wrong) - count)))


def by_case(rows: list[dict[str, Any]]) -> dict[str, Any]:
    true = np.array([row["true"] for row in rows])
    tenth = max(1, len(rows) // 10)
    worst = set(np.argsort(true)[:tenth])
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(rows), size=len(rows)) for _ in range(1000)]
    found = {}
    for name in rows[0]["expected"]:
        guess = np.array([row["expected"][name] if row["expected"][name] is not None else 0.0 for row in rows])
        drawn = [correlation(guess[draw], true[draw]) for draw in draws]
        flagged = worst & set(np.argsort(guess)[:tenth])
        found[name] = {
            "correlation": correlation(guess, true),
            "interval": list(np.nanquantile(drawn, [0.025, 0.975])),
            "worst_found": len(flagged) / tenth,
        }
    return found


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(spearmanr(one, other).statistic) if np.ptp(one) and np.ptp(other) else float("nan")


def by_voxel(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {
        name: float(np.mean([row["voxels"][name] for row in rows if row["voxels"][name] is not None]))
        for name in rows[0]["voxels"]
    }


def to_markdown(name: str, found: Mapping[str, Any]) -> str:
    lines = [
        f"{name}, {found['cases']} cases; seconds: "
        + ", ".join(f"{key} {value:.0f}" for key, value in found["seconds"].items()),
        "",
    ]
    lines += ["| of each case | rank correlation with the true Dice | of the worst tenth found |", "|---|---|---|"]
    for key, row in found["by_case"].items():
        lines.append(
            f"| {key} | {row['correlation']:.2f} [{row['interval'][0]:.2f}, {row['interval'][1]:.2f}] | {row['worst_found']:.0%} |"
        )
    lines += [
        "",
        "| of each voxel | area under the ROC curve |",
        "|---|---|",
        *(f"| {key} | {value:.3f} |" for key, value in found["by_voxel"].items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
