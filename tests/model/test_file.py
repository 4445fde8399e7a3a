from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.plans import small_plan
from unetpp.errors import ModelFileError
from unetpp.model.build import build_from_plan, build_model
from unetpp.model.file import load_model, save_model
from unetpp.model.header import read_header
from unetpp.model_notes import Notes


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    plan = small_plan()
    path = tmp_path / "model.safetensors"
    save_model(path, build_from_plan(plan.model).state_dict(), plan, Notes(dice=0.5))
    return path


def test_a_model_comes_back_as_it_was(model_file: Path) -> None:
    torch.manual_seed(0)
    original = build_from_plan(small_plan().model).eval()
    loaded, header = load_model(model_file)
    x = torch.randn(1, 1, 16, 16)
    assert torch.equal(loaded(x), original(x))
    assert header.plan == small_plan()
    assert header.notes == Notes(dice=0.5)
    assert header.parameters == sum(weight.numel() for weight in original.parameters())
    assert header.file_bytes == model_file.stat().st_size


STORED = """
{"preset":"default","topology":"unet++","dims":2,"in_channels":1,"out_channels":2,"depth":2,"widths":[4,6,8],
"nested_widths":null,"node_widths":{},"shells":[1.0],"strides":[[2,2],[2,2]],"kernel_sizes":[[3,3],[3,3],[3,3]],
"nested_kernel_sizes":null,"convs_per_node":2,"hidden_fraction":1.0,"block":"projected","norm":"group",
"nested_norm":null,"norm_groups":null,"activation":"leaky_relu","leaky_slope":0.01,"conv_bias":null,"dropout":0.0,
"attention":"none","down":"pool","odd_sizes":"ceil","up":"transposed","up_widths":null,"up_bias":true,
"up_projection":false,"align_corners":false,"concat":"skips_up","deep_supervision":true,"head_kernel":1,
"head_bias":true,"fusion":"none","encoder":null,"encoder_weights":null,"encoder_blocks":null,"stem":true,
"divisor":null,"output_stride":1}
"""
"""The section `model` in the header of a file that was written when the preset "default" was a UNet++ of one width."""


@pytest.mark.parametrize("unknown", [(), ("shells",), ("shells", "topology", "preset")])
def test_files_of_earlier_versions_are_the_network_that_they_were(tmp_path: Path, unknown: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    original, path = build_model(topology="unet++", widths=(4, 6, 8)).eval(), tmp_path / "model.safetensors"
    stored = {name: value for name, value in json.loads(STORED).items() if name not in unknown}
    plan = json.loads(small_plan().model_dump_json()) | {"model": stored}
    save_file(original.state_dict(), path, metadata={"unetpp": "1", "plan": json.dumps(plan)})
    loaded, header = load_model(path)
    assert header.plan.model == original.plan
    x = torch.randn(1, 1, 16, 16)
    assert torch.equal(loaded(x, depth=1), original(x, depth=1)) and torch.equal(loaded(x), original(x))


def test_every_truncation_is_noticed(model_file: Path) -> None:
    content = model_file.read_bytes()
    for length in (0, 4, 8, 50, len(content) // 2, len(content) - 1):
        model_file.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match="Copy it again"):
            read_header(model_file)


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 a zip", b"\x80\x02 a pickle", b"{}", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]"]
)
def test_files_that_are_no_models_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        read_header(path)


def test_other_versions_and_foreign_weights_are_named(tmp_path: Path, model_file: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"w": torch.zeros(2)}, foreign)
    with pytest.raises(ModelFileError, match="without unetpp's plan"):
        read_header(foreign)
    save_file({"w": torch.zeros(2)}, foreign, metadata={"unetpp": "99", "plan": "{}"})
    with pytest.raises(ModelFileError, match="format version 99"):
        read_header(foreign)
    save_file({"w": torch.zeros(2)}, foreign, metadata={"unetpp": "1", "plan": small_plan().model_dump_json()})
    with pytest.raises(ModelFileError, match="do not fit the plan"):
        load_model(foreign)
    plan = json.loads(small_plan().model_dump_json()) | {"surprise": 1}
    save_file({"w": torch.zeros(2)}, foreign, metadata={"unetpp": "1", "plan": json.dumps(plan)})
    with pytest.raises(ModelFileError, match="surprise"):
        read_header(foreign)
    for notes, where in (
        ("[]", "notes: "),
        ("{", "notes: "),
        ('{"depths": {"1": {"dice": "good"}}}', r"notes\.depths\.1\.dice: "),
    ):
        damaged = {"unetpp": "1", "plan": small_plan().model_dump_json(), "notes": notes}
        save_file({"w": torch.zeros(2)}, foreign, metadata=damaged)
        with pytest.raises(ModelFileError, match=rf"got a header that cannot be used \({where}.*this version"):
            read_header(foreign)


@pytest.mark.parametrize("damage", ["nan", "type"])
def test_damaged_weights_are_refused(model_file: Path, damage: str) -> None:
    plan, weights = small_plan(), load_model(model_file)[0].state_dict()
    name = next(iter(weights))
    weights[name] = weights[name].half() if damage == "type" else weights[name] * float("nan")
    save_model(model_file, weights, plan)
    with pytest.raises(ModelFileError, match=f"the weight {name}.*The file is damaged"):
        load_model(model_file)


@pytest.mark.parametrize(
    "entry", [{}, {"dtype": "F32", "shape": "7", "data_offsets": [0, 4]}, {"dtype": "F32", "shape": 7}, 3, None]
)
def test_entries_of_other_types_are_refused(tmp_path: Path, entry: object) -> None:
    header = json.dumps({"a": entry}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ModelFileError, match="a file that is no model"):
        read_header(tmp_path / "a.safetensors")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        read_header(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.pt2", b"PK\x03\x04 export", r"an export for torch\.export\.load; .*export it to \.onnx or \.xml"),
        ("m.pth", b"PK\x03\x04 weights", r"a checkpoint of torch\.save; .*`unetpp import .*m\.pth --out"),
        ("m.pt", b"\x80\x02 weights", r"a checkpoint of torch\.save"),
        ("m.txt", b"some words", r"a file that is no model; .*Check the path\.$"),
    ],
)
def test_what_is_no_model_file_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=said):
        load_model(path)
