"""Triton kernels without a GPU: their numbers in the interpreter, and that they compile.

The interpreter is chosen before they are imported, so that the tests of numbers run in a process of their own.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

triton = pytest.importorskip("triton")

from unetpp.model.blocks import crop_or_pad  # noqa: E402
from unetpp.model.build import build_model  # noqa: E402
from unetpp.runtime import cuda  # noqa: E402
from unetpp.runtime.device import CHANNELS_LAST  # noqa: E402
from unetpp.runtime.kernels import (  # noqa: E402
    Part,
    _apply_affine,
    _compute_affine,
    _place_part,
    _sum_channels,
    bias_leaky_relu,
    group_norm_leaky_relu,
    upsample_concat,
)

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="runs in a process of its own")


@pytest.mark.skipif(INTERPRETED, reason="starts it")
def test_the_numbers_in_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-p", "no:cacheprovider"]
    answer = subprocess.run(
        command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout[-3000:]
    assert " passed" in answer.stdout


@interpreted
@settings(max_examples=15, deadline=None)
@given(
    shape=st.sampled_from([(2, 24, 9, 7), (1, 6, 5, 4, 3), (3, 36, 40, 41), (2, 12, 2, 2)]),
    each=st.sampled_from([2, 3]),
    slope=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_a_norm_takes_the_bias_before_and_the_activation_behind(
    shape: tuple[int, ...], each: int, slope: float, seed: int
) -> None:
    torch.manual_seed(seed)
    x = (5 * torch.randn(*shape) + 3).contiguous(memory_format=CHANNELS_LAST[len(shape)])
    weight, bias, shift = torch.randn(3, shape[1])
    groups = shape[1] // each
    moved = x + shift.view(-1, *[1] * (x.ndim - 2))
    expected = functional.leaky_relu(functional.group_norm(moved, groups, weight, bias, 1e-5), slope)
    torch.testing.assert_close(
        group_norm_leaky_relu(copied(x), groups, weight, bias, 1e-5, slope, shift), expected, rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(bias_leaky_relu(copied(x), shift, slope), functional.leaky_relu(moved, slope))


def copied(x: Tensor) -> Tensor:
    """The kernels write in place."""
    return x.clone(memory_format=torch.preserve_format)


@interpreted
@pytest.mark.parametrize("factors", [(2, 2), (3, 2), (2, 2, 2), (1, 2, 2)])
def test_parts_are_enlarged_where_they_are_upsample_concat(factors: tuple[int, ...]) -> None:
    dims = len(factors)
    conv: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
    transposed: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
    scale, linear = tuple(map(float, factors)), {2: "bilinear", 3: "trilinear"}[dims]
    nearest = nn.Upsample(scale_factor=scale, mode="nearest")
    ups = [nearest, *(nn.Upsample(scale_factor=scale, mode=linear, align_corners=corners) for corners in (False, True))]
    ups += [
        transposed[dims](5, 4, factors, stride=factors),
        transposed[dims](5, 4, factors, stride=factors, bias=False),
        nn.Sequential(conv[dims](5, 6, 1), nearest),
    ]
    ups += [transposed[dims](5, 4, 4, stride=2, padding=1)] if set(factors) == {2} else []
    below = torch.randn(2, 5, *(3, 4, 5)[-dims:])
    for up, more in itertools.product(ups, (-1, 0, 1)):
        size = [length * factor + more for length, factor in zip(below.shape[2:], factors, strict=True)]
        skip = torch.randn(2, 3, *size)
        with torch.no_grad():
            expected = torch.cat([skip, crop_or_pad(up(below), size)], dim=1)
            torch.testing.assert_close(
                upsample_concat([Part(skip, 3), cuda._defer_upsampling(up, below)], size), expected
            )


@interpreted
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"dims": 3},
        {"preset": "paper"},
        {"concat": "up_skips_reversed", "up": "nearest"},
        {"topology": "unet"},
        {"topology": "unet+"},
    ],
)
def test_a_network_with_its_own_concatenation_answers_the_same(fields: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = build_model(**{"topology": "unet++", "widths": (8, 16, 24), **fields}).eval()
    faster = cuda.fuse_operations(network, torch.float32)
    faster.concatenate = cuda.concatenate_in_place
    image = torch.randn(2, 1, *(9, 13, 18)[: fields.get("dims", 2)])
    with torch.no_grad():
        for got, expected in zip(faster(image, heads=True).logits, network(image, heads=True).logits, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


BLOCK: dict[str, Any] = {"ROWS": 64, "WIDTH": 64}
COMPILED = [
    (_sum_channels, {"x": "*bf16", "partial": "*fp32"}, BLOCK),
    (
        _compute_affine,
        {"partial": "*fp32", "weight": "*bf16", "bias": "*bf16", "shift": "*bf16", "affine": "*fp32", "eps": "fp32"},
        {"SHIFTED": True, "EACH": 3, "EACH_WIDTH": 4, "SPLITS": 8},
    ),
    (_apply_affine, {"x": "*bf16", "scales": "*fp32", "shifts": "*fp32", "slope": "fp32"}, {"SCALED": True, **BLOCK}),
    *(
        (_place_part, {"x": "*bf16", "out": "*bf16"}, {"MODE": mode, "VOLUME": mode != "centers", **BLOCK})
        for mode in ("nearest", "shuffled", "corners", "centers")
    ),
]


@pytest.mark.skipif(INTERPRETED, reason="compiles nothing")
@pytest.mark.parametrize(
    ("kernel", "types", "constants"),
    COMPILED,
    ids=[f"{kernel.__name__} {constants.get('MODE', '')}" for kernel, _, constants in COMPILED],
)
def test_they_compile_for_gpus(kernel: Any, types: dict[str, str], constants: dict[str, Any]) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    signature = {name: types.get(name, "constexpr" if name in constants else "i32") for name in names}
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in constants.items()})
    assert "cubin" in triton.compile(source, target=GPUTarget("cuda", 80, 32)).asm
