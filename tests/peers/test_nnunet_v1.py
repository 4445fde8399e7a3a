"""Generic_UNetPlusPlus of the fork of nnU-Net v1, with its plans as JSON and without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.peers.fixtures.networks import GenericUNetPlusPlus
from tests.peers.reading import PLAIN, differences, read, run, trained

from unetpp.errors import UsageError

WIDTHS = (4, 6, 8, 10, 12, 12)
STRIDES = ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2))
KERNELS = ((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
PATCH = (8, 32, 64)


def network(dims: int = 3, channels: int = 1) -> GenericUNetPlusPlus:
    torch.manual_seed(0)
    strides, kernels = ([axes[3 - dims :] for axes in values] for values in (STRIDES, KERNELS))
    theirs = trained(GenericUNetPlusPlus(channels, 3, WIDTHS, strides, kernels))
    assert isinstance(theirs, GenericUNetPlusPlus)
    return theirs


def plans(**changes: Any) -> dict[str, Any]:
    stage = {"current_spacing": [3.0, 1.0, 0.5], "patch_size": PATCH, "pool_op_kernel_sizes": STRIDES}
    intensities = {"0": {"percentile_00_5": -900.0, "percentile_99_5": 300.0, "mean": -50.0, "sd": 200.0}}
    values = {
        "plans_per_stage": {"0": {**stage, "pool_op_kernel_sizes": ((2, 2, 2),) * 5}, "1": stage},
        "transpose_forward": [0, 1, 2],
        "modalities": {"0": "CT"},
        "normalization_schemes": {"0": "CT"},
        "dataset_properties": {"intensityproperties": intensities},
        "all_classes": [1, 5],
    }
    return {**values, **changes}


def write_plans(folder: Path, values: object) -> Path:
    """Write plans; return the path of a checkpoint beside them."""
    (folder / "plans.json").write_text(values if isinstance(values, str) else json.dumps(values))
    return folder / "model_best.model"


@pytest.mark.parametrize("dims", [2, 3])
def test_every_head_is_the_same(dims: int) -> None:
    theirs = network(dims, channels=2)
    said = {"data.normalization": [PLAIN] * 2, **({"data.spacing_mm": None} if dims == 3 else {})}
    ours, plan, ignored = read(theirs.state_dict(), said)
    image = torch.randn(2, 2, *PATCH[3 - dims :])
    assert differences(run(theirs, image), run(ours, image, heads=True).logits) == [0.0] * 5
    assert ignored == {}
    assert (plan.model.depth, plan.model.widths, plan.model.strides) == (
        5,
        WIDTHS,
        tuple(axes[3 - dims :] for axes in STRIDES),
    )
    for depth in (1, 3):
        assert differences([run(theirs, image)[depth - 1]], [run(ours.prune(depth), image)]) == [0.0]


def test_plans_beside_the_checkpoint_provide_all_settings(tmp_path: Path) -> None:
    _, plan, _ = read(network().state_dict(), path=write_plans(tmp_path, plans()))
    (normalization,) = plan.data.normalization
    assert (
        normalization.per_case,
        normalization.lower,
        normalization.upper,
        normalization.mean,
        normalization.std,
    ) == (False, -900, 300, -50, 200)
    assert plan.data.spacing_mm == (3.0, 1.0, 0.5)
    assert plan.data.channels == ("CT",)
    assert plan.data.label_values == (0, 1, 5)
    assert plan.predict.tile == PATCH


def test_the_choice_between_several_stages_is_required(tmp_path: Path) -> None:
    two = plans()
    two["plans_per_stage"]["0"] = {**two["plans_per_stage"]["1"], "current_spacing": [6.0, 2.0, 1.0]}
    path = write_plans(tmp_path, two)
    with pytest.raises(
        UsageError,
        match=r"`data\.spacing_mm=\.\.\.` .*several stages .*\[\[6\.0, 2\.0, 1\.0\], \[3\.0, 1\.0, 0\.5\]\]",
    ):
        read(network().state_dict(), path=path)
    _, plan, _ = read(network().state_dict(), {"data.spacing_mm": [6, 2, 1]}, path=path)
    assert plan.data.spacing_mm == (6.0, 2.0, 1.0)
    two["plans_per_stage"]["0"]["conv_kernel_sizes"] = [[1, 1, 1]] * 6  # another network
    _, plan, _ = read(network().state_dict(), path=write_plans(tmp_path, two))
    assert plan.data.spacing_mm == (3.0, 1.0, 0.5)


def test_plans_are_found_above_the_folder_of_a_fold(tmp_path: Path) -> None:
    write_plans(tmp_path, plans(normalization_schemes={"0": "nonCT"}))
    _, plan, _ = read(network().state_dict(), path=tmp_path / "fold_0" / "model_best.model")
    assert plan.data.normalization[0].per_case


def test_axes_that_nnunet_permuted_are_permuted_back(tmp_path: Path) -> None:
    theirs = network()
    ours, plan, _ = read(theirs.state_dict(), path=write_plans(tmp_path, plans(transpose_forward=[2, 0, 1])))
    image = torch.randn(1, 1, *PATCH)
    turned = image.permute(0, 1, 3, 4, 2)  # the axis that nnU-Net puts first is the last one in the files
    heads = [logits.permute(0, 1, 4, 2, 3) for logits in run(ours, turned, heads=True).logits]
    assert max(differences(run(theirs, image), heads)) < 1e-5
    assert plan.predict.tile == (32, 64, 8)
    assert plan.data.spacing_mm == (1.0, 0.5, 3.0)
    assert plan.model.strides[0] == (2, 2, 1)


def test_one_error_names_all_that_is_missing_without_plans() -> None:
    with pytest.raises(UsageError, match=r"(?s)`data\.normalization=\.\.\.` .*plans\.json.*`data\.spacing_mm=\.\.\.` "):
        read(network().state_dict())
    with pytest.raises(UsageError) as error:
        read(network(dims=2).state_dict())
    assert "data.spacing_mm" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{", "got a file that cannot be read"),
        ([], "got JSON without plans_per_stage"),
        ({"plans_per_stage": {}}, "got plans with other poolings than the checkpoint's"),
        (plans(normalization_schemes={}), "got incomplete plans"),
        (plans(plans_per_stage={"0": {"pool_op_kernel_sizes": STRIDES}}), "got incomplete plans"),
    ],
)
def test_plans_that_do_not_fit_are_refused(tmp_path: Path, values: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(network().state_dict(), path=write_plans(tmp_path, values))


def test_differences_from_nnunet_are_reported(tmp_path: Path) -> None:
    from unetpp.peers.importing import import_file

    checkpoint = write_plans(tmp_path, plans(normalization_schemes={"0": "nonCT"}, use_mask_for_norm={"0": True}))
    scores = [
        np.float64(0.5),
        np.float32(0.1),
    ]  # its log holds NumPy numbers, which weights-only reading refuses by default
    torch.save(
        {
            "state_dict": network().state_dict(),
            "epoch": 3,
            "plot_stuff": (scores, [], scores),
            "best_stuff": (1, np.float64(0.5), None),
        },
        checkpoint,
    )
    result = import_file(checkpoint, tmp_path / "ours.safetensors", None, {})
    assert "of the body with its holes, here of what is not 0" in result.assumed["data.normalization"]
    assert result.plan.data.normalization[0].nonzero
    assert "trains one head only" in result.assumed["predict.depth"]
    assert result.plan.model.depth == 5
