"""Changes of intensities; MONAI's are the reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from monai.transforms import AdjustContrast, GaussianSmooth, RandSimulateLowResolution
from torch import Tensor

from unetpp.train import intensity_changes as change


def apply(how: Callable[[Tensor], None], image: Tensor) -> Tensor:
    varied = image.clone()
    how(varied)
    return varied


def make_image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("shape", "sigmas"), [((2, 40, 48), (0.4, 1.3)), ((1, 22, 24, 26), (0.3, 0.9, 1.2))])
def test_a_blur_is_that_of_monai_away_from_the_border(shape: tuple[int, ...], sigmas: tuple[float, ...]) -> None:
    image = make_image(*shape)
    expected = GaussianSmooth(sigma=sigmas)(image)
    inside = (slice(None), *(slice(6, -6) for _ in sigmas))
    assert torch.allclose(apply(partial(change.blur, sigmas=sigmas), image)[inside], expected[inside], atol=1e-3)


def test_a_blur_darkens_no_border_and_leaves_an_axis_of_no_width() -> None:
    assert torch.allclose(apply(partial(change.blur, sigmas=(2.0, 0.5)), torch.ones(1, 9, 9)), torch.ones(1, 9, 9))
    rows = torch.arange(5.0)[:, None].expand(1, 5, 9)
    assert torch.allclose(apply(partial(change.blur, sigmas=(0, 1.0)), rows), rows)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("gamma", [0.7, 1.0, 1.3])
def test_a_gamma_correction_is_that_of_monai(gamma: float, inverted: bool) -> None:
    image = make_image(2, 20, 20)
    expected = AdjustContrast(gamma, invert_image=inverted, retain_stats=True)(image)
    found = apply(partial(change.correct_gamma, gamma=gamma, inverted=inverted), image)
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_gamma_correction_keeps_an_empty_image() -> None:
    assert torch.equal(
        apply(partial(change.correct_gamma, gamma=0.7), torch.full((1, 4, 4), 3.0)), torch.full((1, 4, 4), 3.0)
    )


@pytest.mark.parametrize("shape", [(2, 17, 20), (1, 9, 10, 12)])
def test_a_low_resolution_is_that_of_monai(shape: tuple[int, ...]) -> None:
    image = make_image(*shape)
    modes = {"downsample_mode": "nearest-exact", "upsample_mode": "bilinear" if len(shape) == 3 else "trilinear"}
    peer = RandSimulateLowResolution(**modes)
    peer._do_transform, peer.zoom_factor = True, 0.6
    sizes = [round(size * 0.6) for size in shape[1:]]
    found = apply(partial(change.lower_resolution, sizes=sizes), image)
    assert torch.allclose(found, torch.as_tensor(peer(image, randomize=False)), atol=1e-5)
    assert torch.allclose(apply(partial(change.lower_resolution, sizes=shape[1:]), image), image)


def test_noise_has_its_strength_and_depends_on_its_seed_alone() -> None:
    empty = torch.zeros(1, 100, 100)
    noise = apply(partial(change.add_noise, std=0.3, seed=5), empty)
    torch.rand(3)
    assert noise.std().item() == pytest.approx(0.3, rel=0.05)
    assert torch.equal(apply(partial(change.add_noise, std=0.3, seed=5), empty), noise)
    assert not torch.equal(apply(partial(change.add_noise, std=0.3, seed=6), empty), noise)


def test_contrast_and_brightness_are_a_line() -> None:
    image = make_image(1, 5, 5)
    assert torch.allclose(apply(partial(change.scale, factor=1.2), image), image * 1.2)
    assert torch.allclose(apply(partial(change.shift, offset=-0.4), image), image - 0.4)
