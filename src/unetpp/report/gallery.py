"""The pictures of a report, as many as fit into a page of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from unetpp.measured import ScoredCase
from unetpp.report.pictures import draw_view
from unetpp.report.run_record import RunRecord
from unetpp.report.views import View, read_view
from unetpp.run_folder import FoldName

PICTURE_CHARACTERS = 3_000_000
"""Largest number of characters of all pictures of cases in a page."""


@dataclass(frozen=True)
class Picture:
    """The picture of a case."""

    number: int
    """Place of the case among all, from the worst, 1."""
    case: ScoredCase
    fold: FoldName
    rank: str
    """worst, median or best; empty for all others."""
    slice: str
    shape_ratio: float
    svg: str


class Pencil:
    """Draws pictures, and remembers those that no numbers or files were found for."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def draw(self, what: str, draw: Callable[..., Any], *arguments: Any) -> Any:
        """Draw a picture; None if it fails, such as for times of 1e300 in a damaged log, or for a damaged file."""
        try:
            return draw(*arguments)
        except Exception:  # archives raise anything, and so does matplotlib
            self.failed.append(what)
            return None


def draw_pictures(run: RunRecord, pencil: Pencil, most: int | None = None) -> list[Picture]:
    """Draw the worst, the median and the best case, then the others, worst first, until the page is large enough.

    Args:
        run: the run.
        pencil: what is drawn with.
        most: largest number of pictures; None: as many as the size of the page allows.
    """
    files = {(fold.number, name): path for fold in run.folds for name, path in fold.views.items()}
    found = [number for number, (fold, case) in enumerate(run.ranked, start=1) if (fold, case.id) in files]
    ranks = _choose_ranks(found, sum(case.mean.dice is not None for _, case in run.ranked))
    pictures, size, num_classes = list[Picture](), 0, run.plan.data.num_classes
    for number in [*ranks, *(each for each in found if each not in ranks)][:most]:
        fold, case = run.ranked[number - 1]
        path = files[fold, case.id]
        view: View | None = pencil.draw("/".join(path.parts[-3:]), read_view, path)
        if view is None:
            continue
        svg: str | None = pencil.draw(f"the picture of {case.id}", draw_view, view, num_classes, f"image-{number}")
        if svg is None:
            continue
        size += len(svg)
        if size > PICTURE_CHARACTERS:
            break
        pictures.append(Picture(number, case, fold, ranks.get(number, ""), view.slice, view.shape_ratio, svg))
    return pictures


def _choose_ranks(found: Sequence[int], scored: int) -> dict[int, str]:
    """Choose the worst, the median and the best of the places that have views: place -> rank."""
    places = [place for place in found if place <= scored]
    if not places:
        return {}
    median = min(places, key=lambda place: abs(place - (scored // 2 + 1)))
    ranks = {median: "median", places[-1]: "best", places[0]: "worst"}  # of fewer than three, the later ones count
    return {place: ranks[place] for place in sorted(ranks)}
