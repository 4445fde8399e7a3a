from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cluster.test_worker import see
from tests.infer.test_predict_files import write

from unetpp.errors import UsageError, WriteError
from unetpp.files import digest_file
from unetpp.infer.case_result import CaseJob, CaseUnit
from unetpp.infer.journal import Journal
from unetpp.infer.model_digest import digest_model, list_model_files
from unetpp.infer.options import PredictOptions
from unetpp.infer.remote import RemoteModel
from unetpp.layouts.dataset import Case


def test_a_worker_loads_the_model_once_and_writes_a_case(tmp_path: Path, make_model: Callable[..., Path]) -> None:
    write(tmp_path, "a.png")
    model = RemoteModel(str(make_model()), "cpu", "torch", 0.3)
    assert model.load() is model.load()
    journal = Journal(tmp_path / "out")
    journal.out.mkdir()
    journal.begin()
    task = model.predict(CaseJob({2: journal.out}, {2: "key"}, PredictOptions(), False, journal))
    unit = CaseUnit(Case("a", (tmp_path / "a.png",)), "source")
    name, entry = task(unit).entries[2]
    assert (journal.out / name).is_file() and entry["source"] == "source"
    (finished,) = journal.read()
    assert finished == ("", "key", "a.png", entry)
    for path in [*journal.folder.iterdir(), journal.folder, journal.out / name, journal.out]:
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(WriteError, match=r"worker on .*: got no .*/out"):
        task(unit)  # not mounted: nothing takes its place
    assert not journal.out.exists()


def test_each_worker_loads_the_model_on_its_own_gpu(
    monkeypatch: pytest.MonkeyPatch, make_model: Callable[..., Path]
) -> None:
    seen: list[str] = []
    monkeypatch.setattr("unetpp.infer.remote.load", lambda path, device, *_: seen.append(device) or device)
    model = RemoteModel(str(make_model()), "auto", "torch")
    for number in (2, 3):
        see(monkeypatch, f"w-{number}", gpus=4)
        assert model.load() == f"cuda:{number}"
    assert seen == ["cuda:2", "cuda:3"]


def test_a_model_that_a_worker_does_not_see_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"worker on .*: got no .*/run; expected the model"):
        RemoteModel(str(tmp_path / "run"), "cpu", "torch", 0.3).load()


def test_a_model_is_read_once_for_all_its_digests(
    make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, read = make_model(), list[Path]()

    def digest(path: Path) -> str:
        read.append(path)
        return digest_file(path)

    monkeypatch.setattr("unetpp.infer.model_digest.digest_file", digest)
    first = digest_model(model)
    assert digest_model(model) == first and read == [model.absolute()]
    os.utime(model, ns=(1, 1))
    assert digest_model(model) == first and len(read) == 2


def test_the_digest_of_a_model_is_that_of_its_content(tmp_path: Path, make_model: Callable[..., Path]) -> None:
    model = make_model()
    before = digest_model(model)
    assert before and digest_model(model.parent.parent) == before  # its run
    assert list_model_files(model) == [model]
    moved = model.rename(tmp_path / "moved.safetensors")
    assert digest_model(moved) == before
    with moved.open("ab") as file:
        file.write(b" ")
    assert digest_model(moved) != before
    assert digest_model(tmp_path / "none") is None
