"""Models on the Hugging Face hub, or in folders laid out as its repositories are: model.safetensors, config.json and a model card."""

from __future__ import annotations

import shutil
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetpp.deploy.export.about import model_card, stated_licence
from unetpp.errors import optional_package
from unetpp.files import write_json
from unetpp.infer.hub_file import download
from unetpp.infer.predictor import Predictor, load_predictor
from unetpp.model.header import read_header
from unetpp.run_folder import MODEL, find_model_file

with optional_package("huggingface_hub", "hub", "models on the Hugging Face hub"):
    from huggingface_hub import ModelCard, ModelHubMixin

if TYPE_CHECKING:
    from typing import Self

METADATA = "---\nlibrary_name: unetpp\npipeline_tag: image-segmentation\ntags: [unet++, image-segmentation, medical-imaging, microscopy, model_hub_mixin]\n---\n\n"


class HubModel(ModelHubMixin):
    """A trained model as a repository.

        HubModel("runs/nuclei").push_to_hub("name/nuclei")             # or save_pretrained(folder)
        predictor = unetpp.load("hf://name/nuclei")                    # or HubModel.from_pretrained("name/nuclei").predictor()

    Args:
        model: run folder of one fold, or a model file.

    Raises:
        ModelFileError: no model there, or one that cannot be used.
        UsageError: a run of several folds.
    """

    def __init__(self, model: str | PathLike[str]) -> None:
        self.file = find_model_file(Path(model))
        self.header = read_header(self.file)
        self._licence = stated_licence(self.file.with_name("README.md"))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **wishes: Any) -> Self:
        """Load a folder or a repository of the hub; `wishes` are those of huggingface_hub: revision, token, cache_dir, local_files_only, ...

        Raises:
            ModelFileError: there is none, it cannot be reached, or its model cannot be used.
        """
        name = str(pretrained_model_name_or_path)
        local = Path(name) / MODEL
        return cls(local if local.is_file() else download(name, **wishes))

    def predictor(self, device: str = "auto", backend: str = "auto") -> Predictor:
        """What segments images; arguments as those of `unetpp.load`."""
        return load_predictor(self.file, device, backend)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Data, scores of every depth, limits, licence."""
        plan = self.header.plan
        how = f'Every depth is in it: `unetpp.load("hf://NAME").predict(image, depth=1)`, 1 to {plan.model.depth}'
        return ModelCard(
            METADATA + model_card(Path(MODEL), plan, self.header.notes, plan.predict.depth, how, self._licence)
        )

    def _save_pretrained(self, save_directory: Path) -> None:
        target = save_directory / MODEL
        if target.resolve() != self.file.resolve():
            shutil.copyfile(self.file, target)
        write_json(
            save_directory / "config.json", {"library_name": "unetpp", "plan": self.header.plan.model_dump(mode="json")}
        )
