"""Every module has tests: in the file of its name, or where the map says."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "unetpp"

COVERED_IN = {
    "__init__": "test_public_names",
    "__main__": "test_cli",
    "model_notes": "test_measured",
    "progress": "test_console",
    "run_folder": "verbs/test_journey",
    **{
        f"results/{name}": "results/test_results"
        for name in ("__init__", "data", "models", "predictions", "result", "runs", "tables")
    },
    **{
        f"deploy/select/{name}": "deploy/test_select"
        for name in (
            "__init__",
            "calibrating",
            "candidates",
            "folder",
            "post_processing",
            "runs",
            "scoring",
            "study",
        )
    },
    **{
        f"verbs/{verb}": "verbs/test_journey"
        for verb in (
            "arguments",
            "demo",
            "check",
            "plan",
            "train",
            "training_here",
            "training_request",
            "trained_run",
            "predict",
            "evaluate",
            "report",
            "prune",
            "info",
        )
    },
    "verbs/fold": "verbs/test_journey",
    "verbs/cluster_training": "cluster/test_verbs_on_cluster",
    "infer/block_plan": "infer/test_zarr_prediction",
    "infer/block_tasks": "infer/test_zarr_prediction",
    "infer/label_store": "infer/test_zarr_prediction",
    "cluster/__init__": "cluster/test_opening",
    "cluster/address": "cluster/test_opening",
    "cluster/loaded": "cluster/test_worker",
    "infer/case_result": "infer/test_sharing",
    "infer/record_writing": "infer/test_sharing",
    "infer/model_digest": "infer/test_remote",
    "data/case_runs": "cluster/test_verbs_on_cluster",
    "verbs/fold_job": "verbs/test_first_stage",
    "infer/first_stage": "verbs/test_first_stage",
    "verbs/missing_cases": "verbs/test_clean",
    "verbs/plan_page": "report/test_plan_page",
    "verbs/rest": "verbs/test_begun_folds",
    "deploy/exit_costs": "deploy/test_adapt",
    "verbs/adapt": "deploy/test_adapt",
    "verbs/select": "deploy/test_select",
    "infer/selected": "deploy/test_select",
    "report/select_page": "deploy/test_select",
    "results/selected": "deploy/test_select",
    "verbs/export": "deploy/test_export",
    "verbs/import_checkpoint": "peers/test_import",
    "settings": "test_plan",
    "data_plan": "test_plan",
    "model_plan": "test_plan",
    "train_plan": "test_plan",
    "layouts/__init__": "layouts/test_cases",
    "slabs": "data/test_preprocess",
    "version": "test_public_names",
    "data/arrays": "infer/test_predictor",
    "data/case_facts": "data/test_known_cases",
    "data/case_worker": "data/test_workers",
    "verbs/request": "test_cli",
    "layouts/dataset": "layouts/test_cases",
    "layouts/dataset_json": "layouts/test_cases",
    "layouts/case_names": "layouts/test_inputs",
    "layouts/label_names": "layouts/test_volumes",
    "data/demo": "layouts/test_cases",
    "layouts/case_groups": "layouts/test_named_folders",
    "layouts/cell_tracking": "layouts/test_named_folders",
    "layouts/folders": "layouts/test_cases",
    "layouts/label_folders": "layouts/test_named_folders",
    "layouts/label_places": "layouts/test_named_folders",
    "layouts/names": "layouts/test_pairing",
    "layouts/paired_files": "layouts/test_named_folders",
    "layouts/split_lists": "layouts/test_named_folders",
    "layouts/tree": "layouts/test_named_folders",
    "formats/__init__": "formats/test_formats",
    "formats/axes": "formats/test_npy",
    "formats/bmp": "formats/test_pillow",
    "formats/gif": "formats/test_pillow",
    "formats/heif": "formats/test_pillow",
    "formats/jpeg2000": "formats/test_pillow",
    "formats/pixels": "formats/test_tiff_samples",
    "formats/tiff_pages": "formats/test_tiff",
    "formats/webp": "formats/test_pillow",
    "formats/format": "formats/test_formats",
    "layouts/manifest": "layouts/test_cases",
    "formats/nifti_place": "formats/test_nifti",
    **{
        f"annotations/{name}": "annotations/test_annotations"
        for name in ("__init__", "coco", "cvat", "documents", "imagej", "imagescope", "labelme", "qupath", "yolo")
    },
    "layouts/outlines": "annotations/test_annotations",
    "deploy/export/__init__": "deploy/test_export",
    "deploy/export/choice": "deploy/test_export",
    "deploy/export/graph": "deploy/test_export",
    "deploy/export/model_card": "deploy/test_export",
    "deploy/export/quantization": "deploy/test_export",
    "deploy/export/samples": "deploy/test_export",
    "deploy/export/selected": "deploy/test_select",
    "infer/bands": "infer/test_sliding",
    "infer/case_predictor": "infer/test_predictor",
    "infer/hub_file": "deploy/test_hub",
    "infer/loading": "infer/test_exported_predictor",
    "infer/record": "test_damaged_records",
    "infer/prediction": "infer/test_predictor",
    "labels/__init__": "labels/test_classes",
    "labels/coding": "labels/test_classes",
    "labels/coding_torch": "labels/test_classes",
    "labels/colors": "labels/test_find_meaning",
    "labels/counts": "labels/test_find_meaning",
    "labels/encoding": "labels/test_find_meaning",
    "labels/facts": "labels/test_find_meaning",
    "labels/gray": "labels/test_find_meaning",
    "labels/inversion": "labels/test_find_meaning",
    "labels/meaning": "labels/test_find_meaning",
    "labels/numbers": "labels/test_find_meaning",
    "labels/outlines": "labels/test_find_meaning",
    "labels/pieces": "labels/test_find_meaning",
    "labels/views": "labels/test_find_meaning",
    "labels/matching": "measure/test_quality",
    "measure/folder_scores": "measure/test_quality",
    "measure/prediction_files": "measure/test_quality",
    "measure/reference_files": "measure/test_quality",
    "measure/curves": "measure/test_verdict",
    "measure/training_rules": "measure/test_verdict",
    "measure/verdict_words": "measure/test_verdict",
    "measure/memory_probe": "measure/test_depth_table",
    "measure/stored_cases": "deploy/test_adapt",
    "model/encoder_weights": "model/test_encoders",
    "model/fields": "model/test_build",
    "model/foreign": "peers/test_import",
    "model/header": "model/test_file",
    "model/pruned_plan": "model/test_family",
    "model/resampling": "model/test_blocks",
    "model/selfsupervised": "model/test_blocks",
    "model/timm_models": "model/test_encoders",
    "model/shell_parts": "model/test_incremental",
    "model/widths": "model/test_shells",
    "peers/__init__": "peers/test_import",
    "peers/checkpoint": "peers/test_import",
    "peers/exporting": "peers/test_way_back",
    "peers/import_settings": "peers/test_import",
    "peers/importing": "peers/test_import",
    "peers/nested_unet": "peers/test_import",
    "peers/pms": "peers/test_import",
    "peers/smp_encoders": "peers/test_smp",
    "peers/transfer": "peers/test_import",
    "peers/unet_version": "peers/test_import",
    "planning/choice": "planning/test_rules",
    "report/__init__": "report/test_html",
    "report/colors": "report/test_html",
    "report/gallery": "report/test_html",
    "report/pictures": "report/test_views",
    "report/page": "report/test_html",
    "report/plan_plots": "report/test_plan_page",
    "report/plan_record": "report/test_plan_page",
    "report/plan_words": "report/test_plan_page",
    "report/plots": "report/test_html",
    "report/run_record": "report/test_html",
    "report/tables": "report/test_html",
    "runtime/cuda_graph": "test_cuda",
    "runtime/exported_file": "infer/test_exported_predictor",
    "runtime/rank_watch": "runtime/test_ranks",
    "runtime/runner": "runtime/test_openvino",
    "runtime/scratch": "runtime/test_live_memory",
    "runtime/synchronized_norm": "runtime/test_ranks",
    "planning/data_section": "planning/test_planner",
    "planning/networks": "planning/test_planner",
    "planning/resolution": "planning/test_planner",
    **{
        f"serve/{name}": "serve/test_app"
        for name in (
            "data_cases",
            "events",
            "job",
            "limits",
            "problems",
            "routes_jobs",
            "routes_server",
            "server_metrics",
            "state",
            "uploads",
            "worker",
        )
    },
    "serve/job_prediction": "serve/test_app",
    "serve/job_records": "serve/test_app",
    "serve/job_ends": "serve/test_app",
    "serve/routes_leases": "serve/test_leases",
    "serve/model_file": "serve/test_trainings",
    "serve/model_card": "serve/test_model_shelf",
    "serve/routes_corrections": "serve/test_corrections",
    "serve/strokes": "serve/test_corrections",
    "serve/routes_views": "serve/test_tiles",
    "serve/suggestions": "serve/test_quick_answer",
    "serve/routes_run": "serve/test_live_run",
    "serve/run_pictures": "serve/test_live_run",
    "serve/routes_comparisons": "serve/test_comparisons",
    "serve/routes_suggestions": "serve/test_quick_answer",
    "serve/views": "serve/test_tiles",
    "serve/sample": "serve/test_page",
    "serve/routes_page": "serve/test_page",
    "verbs/serve": "serve/test_http_server",
    "results/served": "serve/test_http_server",
    "train/interruption": "train/test_trainer",
    "train/loop": "train/test_trainer",
    "train/speed": "planning/test_planner",
    "planning/step_times": "planning/test_planner",
}
"""Module -> the test file that covers it, for those without a test file of their own."""

MODULES = sorted(
    str(path.relative_to(SOURCE).with_suffix("")) for path in SOURCE.rglob("*.py") if path.read_text(encoding="utf-8")
)


def own_file(module: str) -> Path:
    room, _, name = module.rpartition("/")
    return TESTS / room / f"test_{name}.py"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_a_test_file(module: str) -> None:
    if module in COVERED_IN:
        assert not own_file(module).exists(), "it has a test file of its own: remove its line from the map"
        assert (TESTS / f"{COVERED_IN[module]}.py").is_file()
    else:
        assert own_file(module).is_file(), f"write {own_file(module)}, or say in the map where {module} is covered"


def test_the_map_names_modules_that_exist() -> None:
    assert set(COVERED_IN) <= set(MODULES)
