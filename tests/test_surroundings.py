"""Odd surroundings: closed and full streams, names that no encoding has, pipes, links that go round, lost folders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.images import write_nifti
from tests.infer.test_predict_files import Thresholding, write
from tests.tiny import Answer, run_cli
from unetpp.errors import DataError, WriteError
from unetpp.formats.readers import read_image
from unetpp.infer.predict_files import predict_to_files

FULL = Path("/dev/full")


def run_shell(words: str, **more: str) -> Answer:
    """Run `unetpp WORDS` in a shell of its own."""
    command = f"{sys.executable} -m unetpp {words}"
    found = subprocess.run(command, shell=True, capture_output=True, timeout=300, env={**os.environ, **more})
    return Answer(found.returncode, found.stdout.decode(errors="replace"), found.stderr.decode(errors="replace"))


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    ("streams", "code"),
    [
        (">&-", 0),
        ("2>&-", 0),
        (">&- 2>&- <&-", 0),
        ("2> /dev/full", 0),
        ("> /dev/full", 2),
        ("--json > /dev/full", 2),
        ("--json > /dev/full 2> /dev/full", 2),
        ("| true", 0),
    ],
)
def test_closed_and_full_streams(make_model: Callable[..., Path], streams: str, code: int) -> None:
    answer = run_shell(f"info {make_model()} {streams}")
    assert answer.code == code
    assert "Traceback" not in answer.stderr
    assert "Exception ignored" not in answer.stderr
    if code and "2>" not in streams:
        assert "standard output: got No space left on device" in answer.stderr


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_that_no_encoding_has_are_printed_with_escapes(
    make_model: Callable[..., Path], tmp_path: Path, encoding: str
) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.safetensors")
    shutil.copy(make_model(), path)
    answer = run_shell(f"info '{path}'", PYTHONIOENCODING=encoding)
    assert answer.code == 0, answer.stderr
    assert "\\udce9" in answer.stdout


def test_pipes_and_links_that_go_round_are_no_models(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, word in (("p", "pipe"), ("loop", "symbolic links")):
        answer = run_cli("info", tmp_path / name)
        assert answer.code == 2
        assert word in answer.stderr


def test_links_that_go_round_among_images_and_as_a_data_set(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.png")
    (tmp_path / "in/b.png").symlink_to("b.png")
    os.mkfifo(tmp_path / "in/c.png")
    written = predict_to_files(Thresholding(), [tmp_path / "in"], tmp_path / "out")
    assert [path.name for path in written.files] == ["a.png"]
    assert len(written.failed) == 2
    (tmp_path / "loop").symlink_to("loop")
    for words in (["check", tmp_path / "loop"], ["evaluate", tmp_path / "loop", tmp_path / "loop"]):
        answer = run_cli(*words)
        assert answer.code == 2
        assert "Unexpected" not in answer.stdout + answer.stderr


class Failing(Thresholding):
    """Does something before each image."""

    def __init__(self, do: Callable[[], Any]) -> None:
        super().__init__()
        self._do = do

    def predict_source(self, *arguments: Any, **options: Any) -> Any:
        self._do()
        return super().predict_source(*arguments, **options)


def fail(error: BaseException) -> Callable[[], None]:
    def do() -> None:
        raise error

    return do


@pytest.mark.parametrize("kind", ["loop", "file", "pipe"])
def test_results_into_what_is_no_folder_are_refused_at_once(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "in", "a.png")
    if kind == "loop":
        (tmp_path / "out").symlink_to("out")
    elif kind == "file":
        (tmp_path / "out").write_text("")
    else:
        os.mkfifo(tmp_path / "out")
    with pytest.raises(WriteError, match="expected a folder for the results"):
        predict_to_files(Failing(lambda: pytest.fail("predicted")), [tmp_path / "in"], tmp_path / "out")


def test_a_folder_of_results_that_vanishes_is_not_made_anew(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.png", "b.png", "c.png")
    moments = iter([lambda: None, lambda: (tmp_path / "out").rename(tmp_path / "moved"), lambda: None])
    with pytest.raises(WriteError, match="a folder that has vanished"):
        predict_to_files(Failing(lambda: next(moments)()), [tmp_path / "in"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "moved/a.png").is_file()


def test_any_exception_of_one_image_is_its_failure_and_an_interruption_is_not(tmp_path: Path) -> None:
    class OddError(Exception):
        pass

    write(tmp_path / "in", "a.png", "b.png", "c.png", "d.png")
    errors = [fail(OddError("odd")), fail(MemoryError()), fail(RuntimeError("can't start new thread")), lambda: None]
    moments = iter(errors)
    written = predict_to_files(Failing(lambda: next(moments)()), [tmp_path / "in"], tmp_path / "out")
    assert [path.name for path in written.files] == ["d.png"]
    found = [problem.got.partition(" (")[0] for problem in written.failed]
    assert found == ["an unexpected error", "out of memory", "out of memory"]
    with pytest.raises(KeyboardInterrupt):
        predict_to_files(Failing(fail(KeyboardInterrupt())), [tmp_path / "in"], tmp_path / "out")


def test_a_header_with_voxels_as_large_as_a_world_is_refused(tmp_path: Path, cases: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.float32), np.diag([1e30, 1, 1, 1]))
    for each in (path, cases / "bad/spacing-of-another-world/volumes/two.nii"):
        with pytest.raises(DataError, match=r"1e\+09 mm"):
            read_image(each)


def test_a_run_folder_that_may_not_be_entered_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unetpp.run_folder.os.access", lambda *arguments: False)
    answer = run_cli("info", tmp_path)
    assert answer.code == 2
    assert "may not be entered (permission denied)" in answer.stderr


def test_an_error_of_the_system_is_told_with_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = PermissionError(13, "Permission denied", str(tmp_path / "plan.json"))
    monkeypatch.setattr("unetpp.verbs.info.info", lambda *arguments, **options: fail(denied)())
    answer = run_cli("info", tmp_path, "--json")
    assert answer.code == 2
    assert json.loads(answer.stdout)["error"]["message"].startswith(f"{tmp_path / 'plan.json'}: got Permission denied")


def test_debug_shows_the_traceback_of_what_one_file_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unetpp.data.inspect.measure_intensities", lambda *arguments: fail(KeyError("a mistake"))())
    write(tmp_path / "data", "images/a.png", "images/b.png", "masks/a.png", "masks/b.png")
    plain, debug = run_cli("check", tmp_path / "data"), run_cli("check", tmp_path / "data", "--debug")
    assert "an unexpected error (KeyError" in plain.stdout
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr
    assert "fail" in debug.stderr
