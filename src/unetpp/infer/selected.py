"""Prediction with what `unetpp select` chose: members, mirrored copies, threshold, post-processing and temperature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from unetpp.data.preprocess import PreparedImage
from unetpp.data.training_range import find_outside
from unetpp.errors import ModelFileError, UsageError
from unetpp.formats.sources import ImageSource
from unetpp.infer.bands import Band, average_bands, collect
from unetpp.infer.case_predictor import CasePredictor
from unetpp.infer.first_stage import COMPARED
from unetpp.infer.options import DEFAULTS, PredictOptions
from unetpp.infer.prediction import Prediction
from unetpp.infer.predictor import Predictor, make_predictor
from unetpp.infer.tiles import TileProgress
from unetpp.labels.decision import make_decision
from unetpp.runtime.device import find_device, keep_freed_memory
from unetpp.selection import SELECTED, Selection, read_selection
from unetpp.size_names import choose_setting


class SelectedPredictor(CasePredictor):
    """Segments images with the average of one or two runs at the sizes that were chosen. Threads may share it.

    Args:
        members: the folds of each run, loaded once.
        selection: what was chosen.
        name: name of the folder, for errors and predictions.json.
    """

    def __init__(self, members: Sequence[Predictor], selection: Selection, name: str) -> None:
        first, number = members[0], selection.members[0].size
        self.members, self.selection, self.name = list(members), selection, name
        self.data, self.device, self.steps = first.data, first.device, selection.steps
        self.sizes = replace(first.sizes, numbers=(number,), words={})
        self.calibrations = {number: selection.calibration}
        self.verdicts = tuple(dict.fromkeys(text for member in members for text in member.verdicts))
        self.doubts = () if selection.calibration.expected_dice_slope is not None else first.doubts
        self.backend = first.backend
        self.decision = make_decision(selection, first.data)

    def share_passes(self, most: int) -> None:
        """Let threads share passes; see `Predictor.share_passes`."""
        for member in self.members:
            member.share_passes(most)

    def choose_sizes(self, options: PredictOptions) -> tuple[int, ...]:
        """Return the number of the only size.

        Raises:
            UsageError: another size, or a disagreement between two runs.
        """
        if options.wanted not in (None, "all") and self.sizes.find(options.wanted or "") is None:
            setting, runs = choose_setting(options.depth, options.size), " and ".join(self._list_runs())
            got, expected = (
                f"{options.wanted!r} for {self.name}",
                f"{self.selection.describe_what()}, which was selected",
            )
            raise UsageError(setting, got, expected, f"Leave it out, or name the run: {runs}.")
        if options.uncertainty == "disagreement" and len(self.members) > 1:
            got = f"disagreement for {self.name}, where two runs predict"
            raise UsageError("uncertainty", got, "entropy", "Change it, or name one of the runs.")
        if options.uncertainty == "disagreement":
            networks, copied = len(self.members[0].networks), replace(options, tta=options.tta or self.selection.tta)
            copied.choose_sizes(self.members[0].sizes, self.sizes.numbers[0], networks, self.name)
        return self.sizes.numbers

    def _list_runs(self) -> list[str]:
        return [member.run for member in self.selection.members]

    def stream_source(
        self,
        source: ImageSource,
        where: str = "image",
        options: PredictOptions = DEFAULTS,
        progress: TileProgress | None = None,
    ) -> tuple[PreparedImage, Iterator[Band]]:
        """Stream the averaged probabilities of an image, of a single depth; see `Predictor.stream_source`."""
        used = replace(options, tta=options.tta or self.selection.tta)
        shows = _join_progress(progress, len(self.members))
        pairs = [
            member.stream_source(source, where, (chosen.size,), used, show)
            for member, chosen, show in zip(self.members, self.selection.members, shows, strict=True)
        ]
        return pairs[0][0], average_bands([bands for _, bands in pairs])

    def predict_source(
        self,
        source: ImageSource,
        where: str = "image",
        options: PredictOptions = DEFAULTS,
        progress: TileProgress | None = None,
    ) -> dict[int, Prediction]:
        """Predict an image that is read in blocks; see `CasePredictor.predict_source`."""
        sizes = self.choose_sizes(options)
        image, bands = self.stream_source(source, where, options, progress)
        place = image.geometry, image.orientation
        found = collect(bands, image.image_shape, sizes, options, *place, self.members[0].coding, self.decision)
        outside, self.backend = find_outside(source, self.data), self.members[0].backend
        return {size: replace(prediction, outside=outside) for size, prediction in found.items()}


def _join_progress(progress: TileProgress | None, members: int) -> list[TileProgress | None]:
    """Make what each member calls with its tiles, and shows those of all."""
    if progress is None:
        return [None] * members
    counts = [(0, 1)] * members

    def make(number: int) -> TileProgress:
        def show(done: int, total: int) -> None:
            counts[number] = done, total
            progress(sum(each for each, _ in counts), sum(each for _, each in counts))

        return show

    return [make(number) for number in range(members)]


def load_selected(folder: Path, device: str = "auto", backend: str = "auto") -> SelectedPredictor:
    """Load a folder that `unetpp select` wrote; its weights are loaded once.

    Raises:
        ModelFileError: it cannot be used.
        UsageError: no such device, or a backend that does not run on it.
        MissingExtraError: OpenVINO is requested and not installed.
    """
    selection, place = read_selection(folder), find_device(device)
    if place.type == "cpu":
        keep_freed_memory()
    members = [
        make_predictor([folder / file for file in each.files], str(folder), place, backend)
        for each in selection.members
    ]
    require_fit(folder, selection, members)
    return SelectedPredictor(members, selection, str(folder))


def require_fit(folder: Path, selection: Selection, members: Sequence[Predictor]) -> None:
    """Raise ModelFileError where select.json does not fit the model files."""
    data = members[0].data
    problems = [
        f"a size {each.size} that {each.run} does not have"
        for each, member in zip(selection.members, members, strict=True)
        if each.size not in member.depths
    ]
    if any(getattr(member.data, name) != getattr(data, name) for member in members for name in COMPARED):
        problems.append("models of other classes or images")
    if any(index >= data.num_classes for step in selection.steps for index in step.classes):
        problems.append(f"a post-processing of more than {data.num_classes} classes")
    if problems:
        raise ModelFileError(folder / SELECTED, problems[0], "what fits its model files", "Run `unetpp select` again.")
