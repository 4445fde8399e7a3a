"""Models as repositories of the Hugging Face hub, or as folders of the same files: model, config.json, model card."""

from __future__ import annotations

import shutil
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetpp.deploy.export.model_card import read_license, write_card
from unetpp.errors import optional_package
from unetpp.files import write_json
from unetpp.infer.first_stage import require_one_stage
from unetpp.infer.hub_file import download
from unetpp.infer.predictor import Predictor, load_predictor
from unetpp.model.header import read_header
from unetpp.plan import ModelPlan
from unetpp.run_folder import MODEL, find_model_file
from unetpp.size_names import SizeNames

with optional_package("huggingface_hub", "hub", "models on the Hugging Face hub"):
    from huggingface_hub import ModelCard, ModelHubMixin

if TYPE_CHECKING:
    from typing import Self

METADATA = """---
library_name: unetpp
pipeline_tag: image-segmentation
tags: [{tags}]
---

"""
TAGS = ("image-segmentation", "medical-imaging", "microscopy", "model_hub_mixin")


class HubModel(ModelHubMixin):
    """A trained model as a repository.

        HubModel("runs/nuclei").push_to_hub("name/nuclei")  # or save_pretrained(folder)
        predictor = unetpp.load("hf://name/nuclei")  # or HubModel.from_pretrained("name/nuclei").predictor()

    Args:
        model: run folder of one fold, or a model file.

    Attributes:
        file: the model file.
        header: its header: plan and notes.

    Raises:
        ModelFileError: no model file, or an unusable one.
        UsageError: a run of several folds.
    """

    def __init__(self, model: str | PathLike[str]) -> None:
        self.file = find_model_file(Path(model))
        self.header = read_header(self.file)
        require_one_stage(self.header.plan, self.file, "share as one file")
        self._license = read_license(self.file.with_name("README.md"))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Load a folder or a repository of the hub.

        Args:
            pretrained_model_name_or_path: folder, or OWNER/NAME on the hub.
            options: arguments of huggingface_hub: revision, token, cache_dir, local_files_only, ...

        Raises:
            ModelFileError: it does not exist, cannot be reached, or its model cannot be used.
        """
        name = str(pretrained_model_name_or_path)
        local = Path(name) / MODEL
        return cls(local if local.is_file() else download(name, **options))

    def predictor(self, device: str = "auto", backend: str = "auto") -> Predictor:
        """Load the model for prediction; arguments as in `unetpp.load`."""
        return load_predictor(self.file, device, backend)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Write the model card: data, scores of every size, limits, license."""
        plan = self.header.plan
        first, *rest = plan.model.list_sizes().values()
        choice = f"depth={first}" if len(plan.model.shells) == 1 else f'size="{first}"'
        usage = f'`unetpp.load("hf://NAME").predict(image, {choice})`'
        noun = choice.partition("=")[0]
        usage = f"Contains every {noun}: {usage}, {f'{first} to {rest[-1]}' if rest else f'its only {noun}'}"
        sizes = SizeNames((plan.predict.depth,), plan.model.depth, plan.model.shell_channels)
        card = write_card(Path(MODEL), plan, sizes, [self.header.notes], [usage], self._license)
        return ModelCard(METADATA.format(tags=", ".join(_list_tags(plan.model))) + card)

    def _save_pretrained(self, save_directory: Path) -> None:
        target = save_directory / MODEL
        if target.resolve() != self.file.resolve():
            shutil.copyfile(self.file, target)
        config = {"library_name": "unetpp", "plan": self.header.plan.model_dump(mode="json")}
        write_json(save_directory / "config.json", config)


def _list_tags(model: ModelPlan) -> list[str]:
    """List the tags of a model: which network it is, its axes, how its sizes are nested, and what all have."""
    nested = ["nested-widths"] if len(model.shells) > 1 else []
    return [model.topology.replace("_", "-"), f"{model.dims}d", *nested, *TAGS]
