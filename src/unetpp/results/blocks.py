"""Results of a prediction from one store into another, block by block."""

from __future__ import annotations

from dataclasses import dataclass

from unetpp.errors import Problem, list_problems, shorten_lines
from unetpp.results.result import DONE, PARTLY, Result
from unetpp.words import count_noun, list_some


@dataclass(frozen=True)
class BlockPlan:
    """What predicting an image block by block takes; the times are those of this machine."""

    block: tuple[int, ...]
    """Voxels of a block along each axis of the labels."""
    layers: int
    """Tasks that measure the image; 0: it need not be measured."""
    blocks: int
    """Tasks that predict a block."""
    shrunk: int
    """Tasks that make a block of a further level."""
    layer_seconds: float
    block_seconds: float
    hours: float
    """Of one worker for its part: layers and blocks."""
    parts: int
    memory_gb: float
    """Largest memory of this process, with the model and one block."""
    read_gb: float
    """Size of the image, uncompressed and without what neighboring blocks read twice."""
    written_gb: float
    """Size of the labels of all levels, uncompressed."""
    objects: int
    """Files or objects that are written, at most: empty ones are not."""

    @property
    def tasks(self) -> int:
        """Number of tasks; only a few at a time are known to an engine."""
        return self.layers + self.blocks + self.shrunk

    def to_lines(self) -> list[str]:
        """Describe the plan."""
        size = " x ".join(map(str, self.block))
        share = f" for each of {self.parts} parts" if self.parts > 1 else ""
        lines = [
            f"{count_noun(self.blocks, 'block')} of {size}: {self.block_seconds:.2f} s each here, with "
            f"{self.memory_gb:.2f} GB of memory",
            f"{count_noun(self.tasks, 'task')}: {self.layers:,} measure the image ({self.layer_seconds:.2f} s each), "
            f"{self.blocks:,} predict, {self.shrunk:,} make the other levels; a few at a time are in the graph",
            f"{self.hours:,.2f} hours of one worker like this{share}",
            f"reads {_round(self.read_gb)} GB, writes {_round(self.written_gb)} GB before compression, in at most "
            f"{count_noun(self.objects, 'object')}",
        ]
        return lines


@dataclass(frozen=True, repr=False)
class PredictedBlocks(Result):
    """Labels that were written into a store."""

    out: str
    """Folder or address, without secrets."""
    labels: tuple[str, ...]
    """Names of the labels in it, one for each size."""
    blocks: int = 0
    """Blocks of this command, or of its part."""
    done: int = 0
    """Those that were predicted now."""
    earlier: int = 0
    """Those that an earlier command had finished."""
    failed: tuple[Problem, ...] = ()
    complete: bool = False
    """All blocks and levels are there."""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    plan: BlockPlan | None = None
    """After a dry run: what it would take."""
    job_script: str = ""
    """After a dry run: the script of a job of the batch system."""

    @property
    def exit_code(self) -> int:
        return PARTLY if self.failed else DONE

    def to_text(self) -> str:
        names = list_some((f"labels/{name}" for name in self.labels), 5)
        if self.plan is not None:
            title = f"Dry run: {names} would be predicted into {self.out}:"
            plan = [f"  {line}" for line in self.plan.to_lines()]
            return "\n".join([title, *plan, *([self.job_script] if self.job_script else []), *self._describe_rest()])
        done = f"{self.done:,} of {count_noun(self.blocks, 'block')} predicted"
        before = f", {self.earlier:,} were there" if self.earlier else ""
        state = f"{names} in {self.out}: {done}{before}, in {self.seconds:.1f} s"
        lines = [state]
        if not self.complete:
            lines.append("not complete: run the same command with --resume (or the other parts) for the rest")
        return "\n".join([*lines, *self._describe_rest()])

    def _describe_rest(self) -> list[str]:
        problems = [f"{len(self.failed)} failed:", *(f"  {problem}" for problem in list_problems(self.failed))]
        return [*shorten_lines([f"note: {note}" for note in self.notes]), *(problems if self.failed else [])]


def _round(value: float) -> str:
    """Write three digits of a number: 2,000 and 0.0044."""
    return f"{float(f'{value:.3g}'):,.10g}"
