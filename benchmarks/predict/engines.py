"""Three ways to predict a volume, to be compared.

Each reads a NIfTI file, covers it with the same tiles, runs the same network, and writes a NIfTI file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from unetpp.infer.predictor import Predictor
from unetpp.model.network import UNetPlusPlus
from unetpp.plan import Plan
from unetpp.runtime.device import keep_freed_memory

Engine = Callable[[UNetPlusPlus, Plan, Path, Path], None]
"""Function of a network, its plan, the image and the folder for the segmentation."""


def unetpp(network: UNetPlusPlus, plan: Plan, image: Path, out: Path) -> None:
    keep_freed_memory()  # as `load_predictor` does, by which users come to a predictor
    written = Predictor([network], plan).predict_files([image], out)
    if written.failed:
        raise RuntimeError(str(written.failed[0]))


def monai(network: nn.Module, plan: Plan, image: Path, out: Path) -> None:
    """Predict with `sliding_window_inference` and the transforms of MONAI's own tutorials.

    The logits are resampled back, then the class with the largest is chosen.
    """
    from monai.data import decollate_batch, list_data_collate
    from monai.inferers import sliding_window_inference
    from monai.transforms import (
        AsDiscreted,
        Compose,
        EnsureChannelFirstd,
        Invertd,
        LoadImaged,
        NormalizeIntensityd,
        SaveImaged,
        Spacingd,
    )

    before = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            NormalizeIntensityd("image"),
            Spacingd("image", pixdim=plan.data.spacing_mm, mode="bilinear"),
        ]
    )
    after = Compose(
        [
            Invertd("pred", transform=before, orig_keys="image", nearest_interp=False, to_tensor=True),
            AsDiscreted("pred", argmax=True),
            SaveImaged(
                "pred", output_dir=out, output_postfix="", separate_folder=False, output_dtype=np.uint8, print_log=False
            ),
        ]
    )
    batch = list_data_collate([before({"image": str(image)})])
    with torch.inference_mode():
        batch["pred"] = sliding_window_inference(
            batch["image"],
            plan.predict.tile,
            plan.predict.batch,
            network,
            overlap=plan.predict.overlap,
            mode="gaussian",
        )
    for each in decollate_batch(batch):
        after(each)


def nnunet(network: nn.Module, plan: Plan, image: Path, out: Path) -> None:
    """Predict with nnU-Net's predictor in a single process, with the numbers that its planner would write."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    resampling = "resample_data_or_seg_to_shape"
    separate = {"force_separate_z": None, "order_z": 0}
    configuration = {
        "data_identifier": "benchmark",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": plan.predict.batch,
        "patch_size": list(plan.predict.tile),
        "spacing": list(plan.data.spacing_mm or ()),
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": resampling,
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **separate},
        "resampling_fn_seg": resampling,
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **separate},
        "resampling_fn_probabilities": resampling,
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **separate},
        "architecture": {},
    }
    plans = {
        "dataset_name": "benchmark",
        "plans_name": "benchmark",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {}},
        "configurations": {"3d_fullres": configuration},
    }
    manager = PlansManager(plans)
    dataset = {
        "channel_names": {"0": "image"},
        "labels": dict(zip(plan.data.classes, plan.data.label_values, strict=True)),
        "file_ending": ".nii.gz",
    }
    predictor = nnUNetPredictor(
        tile_step_size=1 - plan.predict.overlap,
        use_gaussian=True,
        use_mirroring=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        network, manager, manager.get_configuration("3d_fullres"), [network.state_dict()], dataset, "benchmark", None
    )
    out.mkdir(parents=True, exist_ok=True)
    predictor.predict_from_files_sequential(
        [[str(image)]], [str(out / "image")], save_probabilities=False, overwrite=True
    )


IMPORTS = {
    "unetpp": "unetpp.infer.predictor",
    "monai": "monai.transforms",
    "nnunet": "nnunetv2.inference.predict_from_raw_data",
}
"""Module that each engine imports before its time is measured."""
ENGINES: dict[str, Engine] = {"unetpp": unetpp, "monai": monai, "nnunet": nnunet}
