"""Post-training quantization of exported files to 8-bit integers, by NNCF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unetpp.errors import optional_package
from unetpp.progress import mute_libraries
from unetpp.runtime.exported_file import IMAGE, disable_telemetry, load_openvino, openvino_core

QUANTIZABLE = (".onnx", ".xml")


@mute_libraries("nncf", "torch.utils.cpp_extension")  # NNCF makes torch search for a CUDA compiler, and torch logs that
def quantize_file(path: Path, tiles: Sequence[np.ndarray]) -> None:
    """Quantize a file in place.

    Args:
        path: exported file, .onnx or .xml.
        tiles: normalized (C, *spatial) float32, to calibrate the ranges of activations.

    Raises:
        MissingExtraError: without the extra `int8`.
    """
    openvino = load_openvino("8-bit integers") if path.suffix == ".xml" else None
    disable_telemetry()
    with optional_package("nncf", "int8", "8-bit integers"):
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet
    images = [tile[None] for tile in tiles]
    # the default, mean ranges over images, clips images of high contrast: that cost 8 points of Dice (docs/log.md)
    ranges = RangeEstimatorParametersSet.HISTOGRAM
    advanced = nncf.AdvancedQuantizationParameters(activations_range_estimator_params=ranges)
    options = {"subset_size": len(images), "preset": nncf.QuantizationPreset.MIXED, "advanced_parameters": advanced}
    if path.suffix == ".onnx":
        import onnx

        model: Any = onnx.load(path)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        model = nncf.quantize(model, nncf.Dataset(images, lambda image: {IMAGE: image}), **options)
        onnx.helper.set_model_props(model, metadata)
        onnx.save(model, path)
    elif openvino:
        model = nncf.quantize(openvino_core().read_model(path), nncf.Dataset(images), **options)
        quantized = path.with_name(f"int8{path.name}")  # the model that was read maps the weights from its file
        openvino.save_model(model, quantized, compress_to_fp16=False)
        del model
        for suffix in (".bin", ".xml"):
            quantized.with_suffix(suffix).replace(path.with_suffix(suffix))
