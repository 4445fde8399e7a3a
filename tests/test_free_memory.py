from pathlib import Path

import psutil
import pytest

from unetpp.free_memory import measure_free_bytes

MB = 10**6


def write_group(folder: Path, **values: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / f"memory.{name}").write_text(f"{value}\n")


def test_without_groups_it_is_what_the_machine_has_left(tmp_path: Path) -> None:
    found = measure_free_bytes(tmp_path / "nothing", tmp_path)
    assert found == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_the_tightest_limit_counts_and_cached_files_do_not(tmp_path: Path) -> None:
    process = tmp_path / "cgroup"
    process.write_text("0::/jobs/7\n")
    write_group(tmp_path / "jobs/7", max="max", current=50 * MB, stat="inactive_file 0")
    write_group(tmp_path / "jobs", max=200 * MB, current=90 * MB, stat=f"anon 1\ninactive_file {30 * MB}")
    assert measure_free_bytes(process, tmp_path) == 140 * MB


def test_groups_of_version_1_and_paths_of_the_host_are_read(tmp_path: Path) -> None:
    process = tmp_path / "cgroup"
    process.write_text("5:cpu:/docker/abc\n4:memory:/docker/abc\n0::/docker/abc\n")
    stat = f"total_inactive_file {MB}"
    write_group(tmp_path / "memory", limit_in_bytes=60 * MB, usage_in_bytes=70 * MB, stat=stat)
    assert measure_free_bytes(process, tmp_path) == 0
    write_group(tmp_path / "memory", limit_in_bytes=100 * MB, usage_in_bytes=70 * MB, stat=stat)
    assert measure_free_bytes(process, tmp_path) == 31 * MB
