"""Models that are served: their cards, and as many of them loaded as the memory budget allows."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unetpp.plan import DataPlan
from unetpp.serve.limits import DEFAULT_LIMITS
from unetpp.serve.model_card import ModelCard, describe_model
from unetpp.serve.problems import Refused

if TYPE_CHECKING:
    from unetpp.infer.case_predictor import CasePredictor


class ModelShelf:
    """Models by id. Of those that are loaded, the one that was used least recently makes room for another.

    Args:
        paths: run folders and model files.
        budget_bytes: memory that loaded weights may take; one model is always loaded, however large.
        device: on which they run.
        backend: library that runs them.
        together: images in one pass, at most, of threads that predict at the same time.

    Raises:
        ModelFileError: one of them cannot be used.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        budget_bytes: float,
        device: str = "auto",
        backend: str = "auto",
        together: int = DEFAULT_LIMITS.together,
    ) -> None:
        self._budget, self._device, self._backend, self._together = budget_bytes, device, backend, together
        self._paths: dict[str, Path] = {}
        self._cards: dict[str, ModelCard] = {}
        self._data: dict[str, DataPlan] = {}
        self._loaded: OrderedDict[str, CasePredictor] = OrderedDict()
        self._lock = threading.RLock()
        self.pinned: frozenset[str] = frozenset()
        """Models that make room last."""
        for path in paths:
            self.add(path)

    def add(self, path: Path, name: str = "") -> ModelCard:
        """Add a model; its card says what it is.

        Args:
            path: run folder or model file.
            name: for people; empty: that of the file.
        """
        place = path.absolute()
        fallback = place.parent.parent.name if place.parent.name.startswith("fold_") else place.stem
        name = name or (place.name if place.is_dir() else fallback)
        with self._lock:
            id = base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"
            number = 1
            while id in self._paths:
                number += 1
                id = f"{base}-{number}"
            card, data = describe_model(place, id, name)
            self._paths[id], self._cards[id], self._data[id] = place, card, data
            return card

    def list(self) -> list[ModelCard]:
        """List the cards, in the order in which the models were given."""
        with self._lock:
            return [card.model_copy(update={"loaded": id in self._loaded}) for id, card in self._cards.items()]

    def card(self, id: str | None) -> ModelCard:
        """Find a card; None: the first. Raises Refused: there is no such model."""
        with self._lock:
            if id is None and self._cards:
                return next(iter(self._cards.values()))
            if id not in self._cards:
                known = ", ".join(self._cards) or "none: the server was started without a model"
                raise Refused(404, "model", repr(id), known, "Choose one of /v1/models.")
            return self._cards[id]

    def path(self, id: str) -> Path:
        """Return where a model lies."""
        return self._paths[self.card(id).id]

    def data(self, id: str) -> DataPlan:
        """Return how a model reads images, and what its classes are."""
        return self._data[self.card(id).id]

    def load(self, id: str) -> CasePredictor:
        """Load a model, unless it is; others make room first."""
        from unetpp.infer.exported_predictor import ExportedPredictor
        from unetpp.infer.loading import load

        with self._lock:
            if id in self._loaded:
                self._loaded.move_to_end(id)
                return self._loaded[id]
            card = self.card(id)
            while self._loaded and self.loaded_bytes + card.weight_bytes > self._budget:
                oldest = next((each for each in self._loaded if each not in self.pinned), next(iter(self._loaded)))
                del self._loaded[oldest]
            predictor = load(self._paths[id], self._device, self._backend)
            if self._together > 1 and not isinstance(predictor, ExportedPredictor):  # whose passes are of fixed sizes
                predictor.share_passes(self._together)
            self._loaded[id] = predictor
            return predictor

    @property
    def loaded_bytes(self) -> int:
        """Bytes of the weights that are loaded."""
        return sum(self._cards[id].weight_bytes for id in self._loaded)
