"""Comparison of uncertainty estimates from heads, mirrored copies and several trainings.

python benchmarks/uncertainty.py DATA RUN [RUN ...] --out FILE.json

RUNs are trainings on the same split with different seeds; the validation cases of fold 0 are predicted.

For each case: the expected Dice (soft Dice confidence of the deepest head, of the mean of heads, of mirrored copies, of
the mean of the RUNs) and the agreement of predictions (Dice between the two deepest heads; mean Dice of the deepest
head with each other one; of mirrored copies and of each of the other RUNs with the first). Reported are the rank
correlation with the true Dice of the first RUN's deepest head (Spearman, with a bootstrap interval over cases), and the
fraction of the worst tenth of the cases that is in the most uncertain tenth.

For each voxel: the area under the ROC curve with which an uncertainty map finds wrong voxels (mean over cases that have
some; every tenth voxel).
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

from unetpp.data.case_files import read_case_classes
from unetpp.data.folds import read_splits
from unetpp.infer.confidence import SoftDice
from unetpp.infer.options import PredictOptions
from unetpp.infer.prediction import MEAN, Prediction
from unetpp.infer.predictor import Predictor, load_predictor
from unetpp.labels.coding_torch import CLASSES
from unetpp.layouts.cases import Case, find_cases
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
        if (row := estimate_uncertainty(predictors, cases[case_id], spent))
    ]
    found = {"cases": len(rows), "seconds": spent, "by_case": summarize_cases(rows), "by_voxel": summarize_voxels(rows)}
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))
    print(to_markdown(options.data.name, found))


def estimate_uncertainty(predictors: list[Predictor], case: Case, spent: dict[str, float]) -> dict[str, Any] | None:
    """Compute all estimates for one case; None if it has no Dice to compare with.

    Args:
        predictors: of the RUNs; the first one's deepest head is judged.
        case: to predict.
        spent: seconds of each kind of prediction, added to.
    """

    def predict(name: str, predictor: Predictor, **options: Any) -> Mapping[int, Prediction]:
        started = time.perf_counter()
        prediction = predictor.predict_case(case, PredictOptions(probabilities=True, **options))
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - started
        return prediction

    first = predictors[0]
    classes, deepest = first.plan.data.num_classes, first.depths[-1]
    settings: dict[str, Any] = {"depth": deepest, "uncertainty": "disagreement"}
    heads = predict("heads", first, depth="all and mean")
    disagreement = predict("heads, disagreement", first, **settings)[deepest]
    mirrored = predict("mirrored", first, tta=True, **settings)[deepest]
    runs = [heads[deepest], *(predict("runs", other, depth=deepest)[deepest] for other in predictors[1:])]
    segmentation = heads[deepest].segmentation
    label = read_case_classes(case, first.plan.data)
    true = fast_dice(segmentation, label, classes)
    if true is None:
        return None
    expected = estimate_dice(heads, mirrored, runs, classes)
    maps: dict[str, Any] = {
        "entropy, deepest head": compute_entropy(heads[deepest].probabilities),
        "entropy, mean of heads": compute_entropy(heads[MEAN].probabilities),
        "disagreement of heads": disagreement.uncertainty,
        "entropy, mirrored": compute_entropy(mirrored.probabilities),
        "disagreement of heads and mirrored copies": mirrored.uncertainty,
    }
    if len(runs) > 1:
        together = Predictor([predictor.network for predictor in predictors], first.plan)
        every = predict("runs, disagreement", together, **settings)[deepest]
        maps["entropy, mean of runs"] = compute_entropy(average_probabilities(runs))
        maps["disagreement of heads and runs"] = every.uncertainty
    wrong = (segmentation != label).ravel()[::10]
    voxels = {name: compute_auroc(found.ravel()[::10], wrong) for name, found in maps.items()}
    return {"true": true, "expected": expected, "voxels": voxels}


def estimate_dice(
    heads: Mapping[int, Prediction], mirrored: Prediction, runs: list[Prediction], classes: int
) -> dict[str, float | None]:
    """Compute the expected Dice and the agreement of predictions for one case.

    Args:
        heads: prediction of each depth and of the mean of heads.
        mirrored: prediction with mirrored copies.
        runs: deepest head of each RUN, the judged one first.
        classes: number of classes.
    """
    judged, *others = [run.segmentation for run in runs]
    shallower = [heads[depth].segmentation for depth in sorted(heads) if depth != MEAN][:-1]

    def agree(segmentations: list[np.ndarray]) -> float:
        return float(np.mean([fast_dice(each, judged, classes) or 0.0 for each in segmentations]))

    expected = {
        "expected Dice, deepest head": runs[0].confidence,
        "expected Dice, mean of heads": compute_expected_dice(heads[MEAN].probabilities),
        "expected Dice, mirrored": compute_expected_dice(mirrored.probabilities),
        "two deepest heads agree": fast_dice(shallower[-1], judged, classes),
        "all heads agree": agree(shallower),
        "mirrored copies agree": fast_dice(mirrored.segmentation, judged, classes),
    }
    if others:
        expected["expected Dice, mean of runs"] = compute_expected_dice(average_probabilities(runs))
        expected["runs agree"] = agree(others)
    return expected


def average_probabilities(runs: list[Prediction]) -> Any:
    return np.mean([run.probabilities for run in runs if run.probabilities is not None], axis=0)


def compute_expected_dice(probabilities: Any) -> float | None:
    """Compute the expected Dice of whole arrays of probabilities (classes, *spatial)."""
    confidence = SoftDice()
    values = torch.from_numpy(probabilities)
    confidence.add(values if len(values) > 2 else values[1:], values.argmax(dim=0))
    return confidence.value()


def compute_entropy(probabilities: Any) -> np.ndarray:
    found: np.ndarray = CLASSES.entropy(torch.from_numpy(probabilities)).numpy()
    return found


def compute_auroc(uncertainty: np.ndarray, wrong: np.ndarray) -> float | None:
    """Compute the AUROC of uncertainty for wrong voxels (Mann and Whitney); None if all or no voxels are wrong."""
    count = int(wrong.sum())
    if count in (0, len(wrong)):
        return None
    return float((rankdata(uncertainty)[wrong].sum() - count * (count + 1) / 2) / (count * (len(wrong) - count)))


def summarize_cases(rows: list[dict[str, Any]]) -> dict[str, Any]:
    true = np.array([row["true"] for row in rows])
    tenth = max(1, len(rows) // 10)
    worst = set(np.argsort(true)[:tenth])
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(rows), size=len(rows)) for _ in range(1000)]
    found = {}
    for name in rows[0]["expected"]:
        guess = np.array([row["expected"][name] if row["expected"][name] is not None else 0.0 for row in rows])
        drawn = [correlate(guess[draw], true[draw]) for draw in draws]
        flagged = worst & set(np.argsort(guess)[:tenth])
        found[name] = {
            "correlation": correlate(guess, true),
            "interval": list(np.nanquantile(drawn, [0.025, 0.975])),
            "worst_found": len(flagged) / tenth,
        }
    return found


def correlate(one: np.ndarray, other: np.ndarray) -> float:
    return float(spearmanr(one, other).statistic) if np.ptp(one) and np.ptp(other) else float("nan")


def summarize_voxels(rows: list[dict[str, Any]]) -> dict[str, float]:
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
    lines += [
        "| estimate for each case | rank correlation with the true Dice | of the worst tenth found |",
        "|---|---|---|",
    ]
    for key, row in found["by_case"].items():
        low, high = row["interval"]
        lines.append(f"| {key} | {row['correlation']:.2f} [{low:.2f}, {high:.2f}] | {row['worst_found']:.0%} |")
    lines += [
        "",
        "| estimate for each voxel | area under the ROC curve |",
        "|---|---|",
        *(f"| {key} | {value:.3f} |" for key, value in found["by_voxel"].items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
