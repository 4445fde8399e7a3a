"""Table of the timm models that work as encoders, in docs/encoders.md: each is built, trained for one step and pruned.

python benchmarks/encoders.py [MODEL ...] [--records FILE] [--largest MILLIONS]

Weights are random; nothing is downloaded. For each model, every weight has to receive a gradient from a batch of one
image, and at an odd size the output of each pruned network has to equal that of the full one at the same depth, bit for
bit. Results are appended to --records, so that an interrupted sweep continues. Without names: all of MODELS.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from unetpp.errors import UnetppError
from unetpp.model.build import build_model
from unetpp.model.encoders import Encoder
from unetpp.model.timm_models import find_unused_weights, inspect_timm_model

DOCUMENT = Path(__file__).parents[1] / "docs" / "encoders.md"
MARKS = ("<!-- table: written by benchmarks/encoders.py -->", "<!-- end of the table -->")
COLUMNS = (
    "model",
    "channels at level 0, 1, 2, ...",
    "multiples of",
    "M weights of the encoder at depth 1, 2, 3, ...",
    "remarks",
)
TRAINED, ODD = (64, 64), (49, 65)
"""Sizes of the images; they are padded if the encoder divides by more."""

MODELS = {
    "of the papers and of the authors' Keras code": """
        vgg16 vgg19 resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x4d densenet121
        densenet169 densenet201 inception_v3 inception_resnet_v2
    """,
    "convolutions": """
        vgg11 vgg16_bn vgg19_bn resnet26d resnetv2_50 resnetv2_50x1_bit resnetrs50 seresnet50 legacy_seresnet18
        legacy_senet154 ecaresnet26t skresnet18 resnest14d res2net50_26w_4s resnext101_32x8d densenet161 dpn48b
        dla46x_c selecsls42 ese_vovnet19b_slim hrnet_w18_small hrnet_w18 inception_v4 legacy_xception xception41
        nasnetalarge pnasnet5large efficientnet_b0 efficientnet_b4 efficientnetv2_s efficientnet_lite0
        tf_efficientnet_b0 mixnet_s mnasnet_100 fbnetc_100 mobilenetv2_100 mobilenetv3_small_050 mobilenetv3_large_100
        mobilenetv4_conv_small mobilenetv5_base hardcorenas_b lcnet_035 lcnetv2_small tinynet_e ghostnet_050
        ghostnetv2_100 repghostnet_050 rexnet_100 regnetx_002 regnety_002 regnetz_b16 nf_resnet26 nf_regnet_b1
        dm_nfnet_f0 eca_nfnet_l0 cspresnet50 cspdarknet53 cs3darknet_focus_s cspnext_tiny darknet53 gernet_s repvgg_a0
        mobileone_s0 tresnet_m hgnet_tiny hgnetv2_b0 convnext_atto convnext_tiny convnextv2_atto convnextv2_tiny
        inception_next_atto rdnet_tiny starnet_s1 fasternet_t0 repvit_m0_9 mambaout_femto focalnet_tiny_srf
        convmixer_768_32 poolformerv2_s12 bat_resnext26ts
    """,
    "attention, and both": """
        vit_tiny_patch16_224 vit_small_patch14_dinov2 vit_small_patch16_dinov3 vit_tiny_r_s16_p8_224
        vit_relpos_small_patch16_224 vit_srelpos_small_patch16_224 samvit_base_patch16 deit_tiny_patch16_224
        deit3_small_patch16_224 beit_base_patch16_224 eva02_tiny_patch14_224 naflexvit_base_patch16_parfac_gap
        cait_xxs24_224 convit_tiny crossvit_tiny_240 tnt_s_patch16_224 xcit_nano_12_p16_224 volo_d1_224 pit_ti_224
        visformer_tiny levit_128s mixer_s32_224 gmlp_ti16_224 resmlp_12_224 sequencer2d_s swin_tiny_patch4_window7_224
        swin_s3_tiny_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224 maxvit_tiny_tf_224 maxxvit_rmlp_nano_rw_256
        coatnet_nano_rw_224 coatnet_0_rw_224 coat_tiny twins_pcpvt_small twins_svt_small pvt_v2_b0 mvitv2_tiny
        davit_tiny gcvit_xxtiny nest_tiny hiera_tiny_224 sam2_hiera_tiny vitamin_small_224 nextvit_small caformer_s18
        convformer_s18 edgenext_xx_small efficientformer_l1 efficientformerv2_s0 efficientvim_m1 efficientvit_b0
        efficientvit_m0 fastvit_t8 iformer_t lowformer_b0 cpubone_nano mobilevit_xxs mobilevitv2_050 shvit_s1
        swiftformer_xs tiny_vit_5m_224 halonet26t botnet26t_256 lambda_resnet26t sehalonet33ts csatv2
    """,
}
"""Title -> names of models."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--records", type=Path, default=Path("encoders.jsonl"))
    parser.add_argument("--largest", type=float, default=150, help="millions of weights above which a model is not run")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    records = read_records(arguments.records)
    for name in arguments.models or [name for names in MODELS.values() for name in names.split()]:
        if name not in records or arguments.models:
            records[name] = measure_model(name, arguments.largest)
            with arguments.records.open("a") as file:
                file.write(json.dumps({"model": name, **records[name]}) + "\n")
            print(name, records[name], flush=True)
            gc.collect()
    before, rest = DOCUMENT.read_text().split(MARKS[0])
    DOCUMENT.write_text(before + MARKS[0] + "\n" + make_table(records) + MARKS[1] + rest.split(MARKS[1])[1])


def read_records(path: Path) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {line.pop("model"): line for line in lines}


def measure_model(name: str, largest: float) -> dict[str, Any]:
    """Return the facts of a model, or a message about the first thing that does not work."""
    started = time.perf_counter()
    try:
        model = inspect_timm_model(name)
        with torch.device("meta"):
            millions = sum(weight.numel() for weight in model.create(3).parameters()) / 1e6
        levels = {each.halvings: each.channels for each in model.maps}
        facts: dict[str, Any] = {
            "levels": levels,
            "divisor": model.divisor,
            "window": model.window,
            "aligned": model.aligned,
        }
        if millions > largest:
            return {**facts, "problem": f"not run: {millions:.0f} M weights"}
        try:
            facts |= check(name, 4)
        except RuntimeError:
            facts |= check(name, 3) | {"colour_only": True}
    except UnetppError as error:
        return {"problem": str(error)}
    except (RuntimeError, ValueError, AssertionError, TypeError, NotImplementedError) as error:
        return {"problem": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    return {**facts, "seconds": round(time.perf_counter() - started, 1)}


def check(name: str, in_channels: int) -> dict[str, Any]:
    torch.manual_seed(0)
    network = build_model(encoder=name, in_channels=in_channels, out_channels=2, first_width=4)
    encoder = network.encoder
    assert isinstance(encoder, Encoder)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    loss = torch.stack(
        [
            ((logits + 1) ** 2).mean()
            for logits in network.train()(torch.randn(1, in_channels, *TRAINED), heads=True).logits
        ]
    ).sum()
    loss.backward()
    problems = [] if loss.isfinite() else ["the loss is not finite"]
    missing = [name for name, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]
    problems += [f"no gradient for {missing[0]} and {len(missing) - 1} more"] if missing else []
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    parameters, image = {}, torch.randn(1, in_channels, *ODD)
    network.eval()
    with torch.no_grad():
        full = network(image, heads=True)
        for depth in network.head_depths:
            pruned = network.prune(depth)
            output = pruned(image)
            parameters[depth] = sum(weight.numel() for weight in pruned.encoder.parameters()) if pruned.encoder else 0
            if not (torch.equal(output, network(image, depth=depth)) and torch.equal(output, full.at(depth))):
                difference = float((output - full.at(depth)).abs().max())
                problems.append(f"pruned to depth {depth} its output differs by {difference:.1g}")
    untrained = {depth: count_unused(encoder, depth) for depth in network.head_depths}
    return {
        "network_parameters": sum(weight.numel() for weight in network.parameters()),
        "encoder_parameters": parameters,
        "untrained": {depth: number for depth, number in untrained.items() if number},
        "problem": "; ".join(problems),
    }


def count_unused(encoder: Encoder, depth: int) -> int:
    """Count the weights of a network of this depth that no feature map depends on."""
    pruned = encoder.pruned(depth)
    names = find_unused_weights(encoder.model.name, tuple(pruned.numbers.values())) if pruned else ()
    return sum(pruned.body.get_parameter(name).numel() for name in names) if pruned else 0


def make_table(records: dict[str, dict[str, Any]]) -> str:
    problems = sum(bool(record["problem"]) for record in records.values())
    versions = f"timm {importlib.metadata.version('timm')} and torch {torch.__version__.split('+')[0]}"
    lines = [f"Measured with {versions}: {len(records) - problems} models work, {problems} do not."]
    for title, names in MODELS.items():
        lines += [
            "",
            f"**{title[0].upper() + title[1:]}**",
            "",
            "| " + " | ".join(COLUMNS) + " |",
            "|---" * len(COLUMNS) + "|",
        ]
        lines += [format_row(name, records[name]) for name in names.split() if name in records]
    return "\n".join(lines) + "\n"


def format_row(name: str, record: dict[str, Any]) -> str:
    if "levels" not in record:
        return f"| {name} | | | | {record['problem']} |"
    levels = {int(level): channels for level, channels in record["levels"].items()}
    channels = " ".join(str(levels.get(level, "-")) for level in range(max(levels) + 1))
    millions = " ".join(
        f"{number / 1e6:.2g}" if number < 1e8 else f"{number / 1e6:.0f}"
        for number in record.get("encoder_parameters", {}).values()
    )
    return f"| {name} | {channels} | {record['divisor']} | {millions} | {describe(record)} |"


def describe(record: dict[str, Any]) -> str:
    texts = [record["problem"]] if record["problem"] else []
    if record.get("colour_only"):
        texts.append("takes three channels only")
    if record["window"]:
        texts.append(f"sees windows of {record['window']} x {record['window']}, each by itself")
    if not record["aligned"]:
        texts.append("feature maps are interpolated to the grid")
    untrained = record.get("untrained", {})
    deepest = max(record.get("encoder_parameters", {"0": 0}), key=int)
    if str(deepest) in map(str, untrained):
        texts.append("holds some weights that no feature map depends on")
    elif untrained:
        texts.append(
            f"with model.depth {', '.join(map(str, untrained))} it holds some weights that no feature map depends on"
        )
    return "; ".join(texts)


if __name__ == "__main__":
    main()
