"""What corrections are worth: a model of 20 images, trained further on five more that a person corrects.

python -m benchmarks.serve.learning_loop ../shared/data/nuclei --out FOLDER --seeds 0 1 2

For each seed a model learns from 20 images. Then it is trained further as the page does it, on five more images of
which the true masks stand for the corrections of a person, mixed with those that it knows: the five most doubtful of
the images that nobody has labeled, by the same measure as the list "to review first" of the page, or five at random.
All trainings go on for the same number of steps, so that other work on the machine changes nothing; the
seconds of one core that they took are in their lines. Each training appends a line to FOLDER/results.jsonl; those found
there are skipped. The validation cases are the same for all.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import unetpp
from unetpp.data.folds import Split, write_splits
from unetpp.files import write_json
from unetpp.infer.record import read_record
from unetpp.layouts.dataset_json import describe_data
from unetpp.model.header import read_header
from unetpp.plan import DataPlan
from unetpp.serve.job import Job, SizeResult

ARMS = ("doubtful", "random")
CORRECTED = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with images/ and instances/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, "spread"], default=list(ARMS))
    parser.add_argument("--images", type=int, default=20, help="number that the first model learns from")
    parser.add_argument("--validation", type=int, default=40, help="number of validation cases")
    parser.add_argument("--pool", type=int, default=100, help="number of images that may be corrected")
    parser.add_argument("--epochs", type=int, default=20, help="of the first training; an epoch has 20 steps")
    parser.add_argument("--further", type=int, default=20, help="epochs of the further training")
    parser.add_argument("--set", nargs="+", default=[], metavar="SETTING", help="settings of the model")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    settings = [*given.set, "train.steps_per_epoch=20", "train.validations=2"]
    for seed in given.seeds:
        study = Study(given.data, given.out, seed, (given.images, given.validation, given.pool), settings)
        study.add("start", lambda study=study: study.begin(given.epochs))  # type: ignore[misc]
        for arm in given.arms:
            study.add(arm, lambda study=study, arm=arm: study.go_on(arm, given.further))  # type: ignore[misc]
    print(make_table(read_rows(given.out)))


class Study:
    """One seed: its images, its first model, and what comes of it.

    Args:
        data: all images.
        out: folder of the results.
        seed: of the choice of images, weights and patches; the validation cases are those of all seeds.
        counts: numbers of images to learn from, to validate on and to choose from.
        settings: of the trainings.
    """

    def __init__(self, data: Path, out: Path, seed: int, counts: tuple[int, int, int], settings: list[str]) -> None:
        self.data, self.out, self.seed, self.settings = data, out, seed, settings
        learned, validated, pool = counts
        names = sorted(path.stem for path in (data / "images").iterdir())
        order = [str(name) for name in np.random.default_rng(0).permutation(names)]
        rest = [str(name) for name in np.random.default_rng(1 + seed).permutation(order[validated:])]
        self.split = Split(tuple(sorted(rest[:learned])), tuple(sorted(order[:validated])))
        self.pool = sorted(rest[learned : learned + pool])
        self.known = out / f"known_{seed}"
        self.run = out / f"run_{seed}"

    def add(self, arm: str, train: Callable[[], dict[str, Any]]) -> None:
        """Run a training unless its line is there, and append it."""
        key = {"seed": self.seed, "arm": arm}
        if any(key.items() <= row.items() for row in read_rows(self.out)):
            return
        row = key | train()
        with (self.out / "results.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print({name: value for name, value in row.items() if name != "cases"}, flush=True)

    def begin(self, epochs: int) -> dict[str, Any]:
        """Train the first model."""
        for kind in ("images", "instances"):
            (self.known / kind).mkdir(parents=True, exist_ok=True)
            for name in (*self.split.train, *self.split.validation):
                place = self.known / kind / f"{name}.png"
                if not place.exists():
                    place.symlink_to((self.data / kind / place.name).resolve())
        return self._train(self.known, self.run, self.settings, [self.split], epochs, None)

    def go_on(self, arm: str, epochs: int) -> dict[str, Any]:
        """Train the model further, on images that are chosen so."""
        doubts = self._find_doubts()
        chosen = choose(arm, doubts, self._describe_images, self.seed)
        model = self.run / "fold_0" / "model.safetensors"
        folder = self.out / f"corrected_{self.seed}_{arm}"
        self._correct(chosen, folder, read_header(model).plan.data)
        row = self._train(folder, self.out / f"run_{self.seed}_{arm}", self.settings, None, epochs, model)
        return row | {"chosen": chosen, "doubts": [doubts[name] for name in chosen]}

    def _train(
        self,
        data: Path,
        run: Path,
        settings: list[str],
        splits: Sequence[Split] | None,
        epochs: int,
        start: Path | None,
    ) -> dict[str, Any]:
        shutil.rmtree(run, ignore_errors=True)
        if splits:
            run.mkdir()
            write_splits(run / "splits.json", splits)
        started = time.process_time()
        kept = {"from_": start, "replay": start is not None, "epochs": epochs, "seed": self.seed, "set": settings}
        fold = unetpp.train(data, run, **kept).folds[0]
        dice = {case.id.removeprefix("known_"): case.mean.dice for case in fold.metrics.cases}
        shutil.rmtree(run / "cache", ignore_errors=True)
        core_s = round(time.process_time() - started)
        return {"steps": fold.steps, "core_s": core_s, "dice": fold.metrics.mean.dice, "cases": dice}

    def _find_doubts(self) -> dict[str, float]:
        """Tell how doubtful the model's predictions are, as the list to review first has it."""
        out = self.out / f"predicted_{self.seed}"
        if not (out / "predictions.json").exists():
            unetpp.predict(self.run, [self.data / "images" / f"{name}.png" for name in self.pool], out)
        record = read_record(out)
        known = ("expected_dice", "confidence", "review")
        found = {}
        for file, entry in (record.cases if record else {}).items():
            result = SizeResult(size="", file=file, **{key: (entry or {}).get(key) for key in known[:2]})
            result.review = bool((entry or {}).get("review"))
            found[Path(file).stem] = Job(name=file, model="", sizes=[result]).doubt
        return found

    def _correct(self, names: Sequence[str], folder: Path, data: DataPlan) -> None:
        """Write the true masks of images as the page writes corrections."""
        entries = []
        (folder / "labels").mkdir(parents=True, exist_ok=True)
        for name in names:
            label = folder / "labels" / f"{name}.png"
            mask = np.asarray(Image.open(self.data / "instances" / f"{name}.png")) > 0
            Image.fromarray(np.asarray(data.label_values, np.uint8)[mask.astype(int)]).save(label)
            image = (self.data / "images" / f"{name}.png").absolute()
            entries.append({"image": str(image), "label": str(label.absolute())})
        write_json(folder / "dataset.json", {"name": "corrections", **describe_data(data), "training": entries})

    def _describe_images(self, names: Sequence[str]) -> np.ndarray:
        """Describe what images look like: mean and deviation of each color."""
        pictures = (
            np.asarray(Image.open(self.data / "images" / f"{name}.png").convert("RGB"), float) for name in names
        )
        found = np.stack([np.concatenate([each.mean((0, 1)), each.std((0, 1))]) for each in pictures])
        return (found - found.mean(axis=0)) / (found.std(axis=0) + 1e-9)


def choose(arm: str, doubts: dict[str, float], describe: Callable[[Sequence[str]], np.ndarray], seed: int) -> list[str]:
    """Choose the images to correct: the most doubtful, some at random, or doubtful ones that look unlike each other."""
    by_doubt = sorted(doubts, key=lambda name: -doubts[name])
    if arm == "doubtful":
        return by_doubt[:CORRECTED]
    if arm == "random":
        return [str(name) for name in np.random.default_rng(100 + seed).permutation(sorted(doubts))[:CORRECTED]]
    candidates = by_doubt[: 5 * CORRECTED]
    looks, chosen = describe(candidates), [0]
    while len(chosen) < CORRECTED:
        distances = np.linalg.norm(looks[:, None] - looks[chosen][None], axis=-1).min(axis=1)
        chosen.append(int(distances.argmax()))
    return [candidates[number] for number in chosen]


def read_rows(out: Path) -> list[dict[str, Any]]:
    """Read the lines of the trainings that are done."""
    path = out / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def make_table(rows: list[dict[str, Any]]) -> str:
    """Write what each way is worth: the gain over the first model, with the interval over cases."""
    start = {row["seed"]: row for row in rows if row["arm"] == "start"}
    lines = [
        "| corrected | seeds | Dice | gain in points (95 % interval over the validation cases) |",
        "|---|---|---|---|",
    ]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = [row for row in rows if row["arm"] == arm and row["seed"] in start]
        dice = np.mean([row["dice"] for row in mine])
        lines.append(f"| {arm} | {len(mine)} | {dice:.4f} | {describe_gain(mine, start)} |")
    return "\n".join(lines)


def describe_gain(mine: list[dict[str, Any]], start: dict[int, dict[str, Any]]) -> str:
    """Describe the gain of each case, averaged over seeds, over the validation cases."""
    common = sorted(set.intersection(*(set(row["cases"]) for row in [*mine, *start.values()])))
    common = [name for name in common if all(row["cases"][name] is not None for row in [*mine, *start.values()])]
    gains = np.array([[row["cases"][name] - start[row["seed"]]["cases"][name] for row in mine] for name in common])
    if not gains.any():
        return "-"
    means = gains.mean(axis=1)
    drawn = np.random.default_rng(0).choice(means, (2000, len(means))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    each = ", ".join(f"{100 * gain:+.1f}" for gain in gains.mean(axis=0))
    return f"{100 * means.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f}); of each seed {each}"


if __name__ == "__main__":
    main()
