"""Counts of weights that exist, against masks, against the closed form, and in what is told of files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings

from tests.model.test_shells import networks, shelled
from tests.plans import small_plan
from unetpp.deploy.export.graph import SizeProbabilities
from unetpp.deploy.prune import prune_file
from unetpp.errors import ModelFileError
from unetpp.measure import depth_table
from unetpp.measure.roofline import count_macs_and_bytes
from unetpp.model.build import build_from_plan, build_model, model_plan
from unetpp.model.file import load_model, read_tensors, save_model, write_tensors
from unetpp.model.header import read_header, read_safetensors_header
from unetpp.model.shells import separate_shells
from unetpp.model.weight_count import (
    count_exact_macs,
    count_parameters,
    count_size_weights,
    count_weights,
    list_convolutions,
)
from unetpp.size_names import SizeNames
from unetpp.sizes import find_size


@given(fields=networks)
@settings(max_examples=20, deadline=None)
def test_weights_that_exist_are_those_that_are_not_masked(fields: dict[str, Any]) -> None:
    network = shelled(**fields)
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(1)
    separate_shells(network)
    assert network.plan is not None

    def count(each: torch.nn.Module) -> int:
        return sum(int(weight.count_nonzero()) for weight in each.parameters())

    assert count_weights(network) == count_parameters(network.plan) == count(network)
    for number in network.head_depths:
        assert count_size_weights(network, number) == count(network.prune(number))
        kept = network.prune(number, keep_heads=True)
        assert count_weights(kept) == count(kept)


@given(fields=networks)
@settings(max_examples=5, deadline=None)
def test_multiply_adds_are_those_of_the_weights_that_exist(fields: dict[str, Any]) -> None:
    """Counted by weights that are not zero; of an inner size, which has no zeros, they are those that are executed."""
    network = shelled(**fields)
    image = torch.zeros(1, 3, *(12, 9, 7)[: fields["dims"]])
    for number in network.head_depths:
        pruned, found = network.prune(number), 0
        size, executed = find_size(number, network.depth), round(1e9 * count_macs_and_bytes(pruned, image)[0])

        def count(layer: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            nonlocal found
            found += int(layer.weight.count_nonzero()) * (inputs[0] if layer.transposed else output)[:, 0].numel()

        for _, layer in list_convolutions(pruned):
            layer.register_forward_hook(count)
        with torch.no_grad():  # gradients are recorded by parts of the input, in other calls
            pruned(image)
        assert count_exact_macs(network, image, number) == found
        assert found == executed if size.shell == 0 else found < executed
    assert count_exact_macs(network, image) >= found


@pytest.mark.parametrize(("shells", "share"), [((0.5, 1), 0.75), ((0.25, 0.5, 1), 0.6875), ((1,), 1)])
def test_the_count_has_a_closed_form(shells: tuple[float, ...], share: float) -> None:
    """A U-Net of depth 1: all but what reads the image, the biases and the heads is divided."""
    a, b, taps = 8, 16, 9
    network = build_model(
        topology="unet",
        depth=1,
        widths=(a, b),
        block="plain",
        norm="none",
        up="transposed",
        up_bias=False,
        shells=shells,
    )
    divided = taps * (a * a + a * b + b * b + 2 * a * a + a * a) + 4 * b * a
    undivided = taps * a + 2 * (a + b + a)
    heads = sum(2 * round(a * each) + 2 for each in shells)
    assert count_weights(network) == divided * share + undivided + heads


def test_parameters_are_counted_without_allocating() -> None:
    plan = model_plan(preset="paper", in_channels=1, out_channels=1, dims=3, deep_supervision=False)
    assert count_parameters(plan) == 26_198_273


def test_one_count_is_told_of_a_size_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth_table, "SECONDS_PER_DEPTH", 0.0)
    plan, file = small_plan(widths=(8, 16, 24), shells=(0.5, 1), norm="batch"), tmp_path / "model.safetensors"
    network = build_from_plan(plan.model).eval()
    save_model(file, network.state_dict(), plan)
    dense = sum(weight.numel() for weight in network.parameters())
    assert read_header(file).parameters == count_weights(network) < 0.8 * dense
    table = depth_table.measure_depths(file, tile=[16, 16], batch=1, memory=False)
    assert {number: row.parameters for number, row in table.depths.items()} == {
        number: count_size_weights(network, number) for number in network.head_depths
    }
    assert table.mean_of_heads is not None and table.mean_of_heads.parameters == count_weights(network)
    pruned = prune_file(file, tmp_path / "pruned.safetensors", size="2x8")
    assert read_header(pruned.out).parameters == pruned.parameters == table.depths[4].parameters
    assert pruned.parameters_before == count_weights(network)
    again = prune_file(pruned.out, tmp_path / "again.safetensors", depth=2)
    alone, cut = load_model(pruned.out)[0], pruned.parameters
    assert (again.parameters, again.parameters_before, count_weights(alone)) == (cut, cut, cut)
    row = depth_table.measure_depths(pruned.out, tile=[16, 16], batch=1, memory=False).depths[2]
    assert row.parameters == SizeProbabilities([alone], SizeNames.of_depths((2,))).parameter_count == cut
    sizes = SizeNames((3, 4), 2, plan.model.shell_channels)
    assert SizeProbabilities([network], replace(sizes, numbers=(4,))).parameter_count == table.depths[4].parameters
    assert SizeProbabilities([network, network], sizes).parameter_count == 2 * count_weights(network)


def test_a_file_that_does_not_tell_its_count_is_counted(tmp_path: Path) -> None:
    plan, file = small_plan(widths=(8, 16, 24), shells=(0.5, 1), norm="batch"), tmp_path / "model.safetensors"
    save_model(file, build_from_plan(plan.model).state_dict(), plan)
    metadata, _ = read_safetensors_header(file)
    told = metadata.pop("parameters")
    write_tensors(file, read_tensors(file), metadata)
    assert read_header(file).parameters == int(told) == count_parameters(plan.model)
    write_tensors(file, read_tensors(file), {**metadata, "parameters": "many"})
    with pytest.raises(ModelFileError, match="a header that cannot be used"):
        read_header(file)
