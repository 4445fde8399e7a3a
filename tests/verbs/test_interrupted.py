"""What a stopped command says is there, is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tiny import run_cli

from unetpp.errors import Interrupted
from unetpp.files import write_text
from unetpp.verbs.interrupted import telling_what_is_there


def test_it_says_what_is_there(tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    with pytest.raises(Interrupted, match="nothing was written"), telling_what_is_there(out):
        raise KeyboardInterrupt
    write_text(out, "old")
    with pytest.raises(Interrupted, match=r"model\.onnx is the file that was there before"), telling_what_is_there(out):
        raise KeyboardInterrupt
    with pytest.raises(Interrupted, match=r"model\.onnx is written and complete"), telling_what_is_there(out):
        write_text(out, "new")
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("function", "tokens"),
    [
        ("unetpp.deploy.export.export_file", ("export", "RUN", "--out", "OUT.onnx")),
        ("unetpp.deploy.prune.prune_file", ("prune", "RUN", "--depth", 1, "--out", "OUT.safetensors")),
        ("unetpp.peers.import_file", ("import", "RUN", "--out", "OUT.safetensors")),
    ],
)
def test_a_stopped_command_that_wrote_nothing_says_so(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, tokens: tuple[str, ...]
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(function, stop)
    places = {"RUN": str(trained), "OUT": str(tmp_path / "out")}
    answer = run_cli(*(str(token).replace("OUT", places["OUT"]).replace("RUN", places["RUN"]) for token in tokens))
    assert answer.code == 1
    assert "Stopped: nothing was written." in answer.stderr


def test_reading_writes_nothing_that_could_be_complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("unetpp.verbs.check.check", stop)
    assert "No file is half written" in run_cli("check", tmp_path).stderr
