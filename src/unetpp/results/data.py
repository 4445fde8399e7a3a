"""Results of what looks at data and plans a training."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from unetpp.errors import Problem, list_problems, merge_problems, shorten_lines
from unetpp.plan import Plan
from unetpp.results.result import DONE, PARTLY, UNUSABLE, Result
from unetpp.results.tables import WIDTH
from unetpp.words import count_noun, list_some, wrap, write_command


@dataclass(frozen=True, repr=False)
class Checked(Result):
    """A data set, and every problem with it."""

    data: Path
    layout: str
    """Name of the layout; empty where none was recognized."""
    cases: int
    dims: int | None
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    labels: str = ""
    """What the values of the labels mean, and why."""
    settings: tuple[str, ...] = ()
    """Settings with which it was read, as `section.key=value`."""
    regions: str = ""
    """Regions that the data set declares, as "1+2+3 = whole, 2+3 = core"; empty: it declares none."""

    @property
    def exit_code(self) -> int:
        return UNUSABLE if self.problems else DONE

    def to_text(self) -> str:
        dims = f", {self.dims}D" if self.dims else ""
        lines = [f"{self.data}: {count_noun(self.cases, 'case')}{dims}, layout {self.layout}"] if self.layout else []
        gray = " (grey images are read as RGB)" if self.channels == ("red", "green", "blue") else ""
        lines += (
            [f"channels: {', '.join(self.channels)}{gray}; classes: {', '.join(self.classes)}"] if self.classes else []
        )
        lines += [f"labels: {self.labels}"] if self.labels and self.cases else []
        lines += [f"regions: {self.regions}"] if self.regions else []
        problems = enumerate(merge_problems(self.problems), start=1)
        lines += shorten_lines([f"{number}. {problem}" for number, problem in problems])
        lines += shorten_lines([f"note: {note}" for note in self.notes])
        found = f"{count_noun(len(self.problems), 'problem')} to fix."
        settings = ["--set", *self.settings] if self.settings else []
        next_step = f"Next: {write_command('train', self.data, '--minutes', 20, *settings)}"
        return "\n".join([*lines, *([found] if self.problems else ["No problems.", next_step])])


@dataclass(frozen=True, repr=False)
class Prepared(Result):
    """Cases that were prepared for a training, which is still to begin."""

    data: Path
    run: Path
    part: str
    cases: int
    """Those of the part."""
    total: int
    """Those of all parts."""
    problems: tuple[Problem, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        return PARTLY if self.problems else DONE

    def to_text(self) -> str:
        lines = [f"part {self.part}: {self.cases} of {count_noun(self.total, 'case')} prepared in {self.seconds:.1f} s"]
        lines += [f"  {problem}" for problem in list_problems(self.problems)]
        return "\n".join([*lines, f"When all parts are done: {write_command('train', self.data, '--out', self.run)}"])


@dataclass(frozen=True, repr=False)
class Planned(Result):
    """A plan, and the time and memory that training takes."""

    data: Path
    run: Path
    plan: Plan
    parameters: int
    train_memory_mb: float
    """Estimated memory of a training step, in MB."""
    predict_memory_mb: float | None
    """Estimated memory of a prediction beside the image, in MB; None: not estimated, for a training of few minutes."""
    train_minutes: float | None
    """Minutes of all folds, or of what is left of them: given, or those of the steps as measured; None: unknown."""
    folds: int
    training_cases: int
    validation_cases: int
    written: bool = True
    """False after a dry run."""
    page: Path | None = None
    """The page of the plan; None: it was not written, or is there already."""
    summary: tuple[str, ...] = ()
    """Its short form, a sentence each."""
    rest: str = ""
    """What is left of a training that is continued, in words; empty: it has not begun."""
    steps: int | None = None
    """Steps of all folds, or what is left of them, if the length is counted in steps; None: in minutes."""
    from_start: bool = True
    """Whether the minutes count from the start of the command; False: from the end of its start-up."""
    longer: str = ""
    """Of a finished training: the command that trains it longer."""
    first: Plan | None = None
    """Plan of the first stage of a cascade."""
    vram_gb: float | None = None
    """Memory in GB of the GPU that the user named."""

    def to_text(self) -> str:
        lines = [self.summarize(), *(wrap(line, WIDTH) for line in self.summary)]
        if not self.written:
            longer = [f"Train it longer: {self.longer}"] if self.longer else []
            return "\n".join([*lines, "Dry run: nothing was written.", *longer])
        lines += [f"Written:  {self.run / 'plan.json'}: every choice with its reason; you may edit it."]
        lines += [f"Page:     {self.page}"] if self.page else []
        lines += [f"Next: {write_command('train', self.data, '--out', self.run)}"]
        if self.plan.train.minutes is None:
            shorter = write_command("plan", self.data, "--out", self.run, "--minutes", 20)
            lines += [f"or, for a time of your choice: {shorter}"]
        return "\n".join(lines)

    def summarize(self, ends: datetime | None = None) -> str:
        """Describe in four lines what is trained, in five that of a cascade.

        Args:
            ends: when the command ends; None: not known, or it has not begun.
        """
        model, train, data = self.plan.model, self.plan.train, self.plan.data
        element = "image" if data.dims == 2 else "volume"
        channels = f" with {len(data.channels)} channels" if len(data.channels) > 1 else ""
        patch = " x ".join(map(str, train.patch))
        return "\n".join(
            [
                f"Data:     {count_noun(self.training_cases, element)}{channels} to train on, "
                f"{self.validation_cases} to validate; {list_some(data.outputs, 4)}",
                f"Network:  {model.topology} of depth {model.depth}, {self.parameters:,} parameters; "
                f"patches of {patch}{self._describe_resolution()}; {self.train_memory_mb:,.0f} MB"
                + (f" of {self.vram_gb:g} GB" if self.vram_gb else ""),
                *([f"Before:   {self.describe_first()}"] if self.first else []),
                f"Training: {self.rest or self._describe_length()}{self._describe_scoring()}",
                f"Ends:     {self._describe_end(ends)}; results in {self.run}",
            ]
        )

    def _describe_resolution(self) -> str:
        """Name the voxels of low resolution; empty for the grid of the images."""
        if self.plan.data.resolution != "low":
            return ""
        return f" at low resolution, {' x '.join(f'{mm:.3g}' for mm in self.plan.data.voxel_mm or ())} mm"

    def describe_first(self) -> str:
        """Describe the first stage of a cascade; empty without one."""
        if self.first is None:
            return ""
        patch, mm = (
            " x ".join(f"{each:g}" for each in sizes)
            for sizes in (self.first.train.patch, self.first.data.voxel_mm or ())
        )
        minutes = self.first.train.minutes
        share = f"each in {count_noun(float(f'{minutes:.2g}'), 'minute')}" if minutes else "each in as many epochs"
        return f"two networks at {mm} mm, on a half of the cases each and {share}; patches of {patch}"

    def _describe_length(self) -> str:
        train = self.plan.train
        steps = train.epochs * train.steps_per_epoch
        length = count_noun(train.minutes, "minute") if train.minutes else count_noun(steps, "step")
        return f"{self.folds} folds of {length}" if self.folds > 1 else length

    def _describe_scoring(self) -> str:
        if self.train_minutes == 0:  # of a finished training nothing is left
            return ""
        if not self.validation_cases:
            return "; no case is left to score"
        noun = "depth" if len(self.plan.model.shells) == 1 else "size"
        return ", scoring included" if self.steps is None else f", then every {noun} is scored and timed"

    def describe_minutes(self) -> str:
        """Say how long training takes; empty if that is not known."""
        if self.train_minutes is None:
            return ""
        length = count_noun(float(f"{self.train_minutes:.2g}"), "minute")
        return f"about {length}{'' if self.steps is None else ' of steps on this machine'}"

    def _describe_end(self, ends: datetime | None) -> str:
        if ends is None and self.train_minutes is None:
            return "the progress display tells when"
        if self.train_minutes == 0:
            return "at once"
        if ends is None:
            return f"{self.describe_minutes()} after the start{'' if self.from_start else '-up'}"
        return f"about {ends:%H:%M}" + f" on {ends:%A %d %B}" * (ends.date() != datetime.now().date())
