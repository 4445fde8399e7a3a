"""Cases that are shared between commands, continued after a kill, and given to an engine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.infer.test_predict_files import Thresholding, write

from unetpp.cluster.engine import Engine, HereEngine, Outcome
from unetpp.errors import Problem, UsageError
from unetpp.infer.case_result import CaseJob, CaseUnit, write_case
from unetpp.infer.journal import Journal
from unetpp.infer.options import PredictOptions
from unetpp.infer.predict_files import Sharing, Task, WrittenFiles, predict_to_files
from unetpp.infer.record_writing import digest_source
from unetpp.layouts.dataset import Case
from unetpp.parts import Part

NAMES = ("a.png", "b.png", "c.png", "d.png", "e.png")


class Counting(Thresholding):
    """Counts its images, and may be killed at one."""

    def __init__(self, killed_at: int = 0) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._killed_at = killed_at

    def predict_source(self, source: Any, where: str = "image", *arguments: Any, **options: Any) -> Any:
        self.seen.append(Path(where).stem)
        if len(self.seen) == self._killed_at:
            os._exit(9)
        return super().predict_source(source, where, *arguments, **options)


class Backwards(Engine):
    """An engine elsewhere, whose work ends in the opposite order; it gives one unit up."""

    is_remote = True

    def __init__(self, given_up: str = "") -> None:
        self._given_up, self.shared = given_up, tuple[Sequence[Path], Path | None]()

    def run(self, task: Any, units: Iterable[Any], *, name: str, alone: bool = False) -> Iterator[Outcome[Any, Any]]:
        for unit in reversed(list(units)):
            if unit.id == self._given_up:
                yield Outcome(unit, problems=(Problem(unit.id, "3 workers that died", "one", ""),))
            else:
                yield Outcome(unit, task(unit))

    def count_devices(self) -> int:
        return 1

    def require_shared(self, paths: Sequence[Path], out: Path | None = None) -> None:
        self.shared = paths, out


def make_task(job: CaseJob) -> Task:
    return lambda unit: write_case(Thresholding(), unit, job, lambda: None)


def predict(model: Thresholding, root: Path, out: str, options: Any = None, **sharing: Any) -> WrittenFiles:
    return predict_to_files(model, [root / "in"], root / out, options or PredictOptions(), sharing=Sharing(**sharing))


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kill(run: Callable[[], object]) -> None:
    """Run something in a process that is killed in it."""
    if (process := os.fork()) == 0:
        run()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9


def test_a_killed_command_goes_on_and_its_records_equal_those_of_one_that_ran_through(tmp_path: Path) -> None:
    write(tmp_path / "in", *NAMES)
    predict(Thresholding(), tmp_path, "whole")
    kill(lambda: predict(Counting(killed_at=4), tmp_path, "out"))
    assert not (tmp_path / "out/predictions.json").exists()
    model = Counting()
    written = predict(model, tmp_path, "out", resume=True)
    assert model.seen == ["d", "e"]
    assert [path.name for path in written.files] == list(NAMES)
    assert written.notes[0].startswith("3 images had been segmented before")
    assert read(tmp_path / "out") == read(tmp_path / "whole")
    model = Counting()
    predict(model, tmp_path, "out", resume=True)
    assert not model.seen
    assert read(tmp_path / "out") == read(tmp_path / "whole")


def test_what_has_changed_is_done_again(tmp_path: Path, make_model: Any) -> None:
    write(tmp_path / "in", *NAMES)
    model = Counting()
    model.name = str(make_model())
    predict(model, tmp_path, "out")
    (tmp_path / "out/b.png").unlink()
    os.utime(tmp_path / "in/c.png", ns=(1, 1))
    model.seen.clear()
    predict(model, tmp_path, "out", resume=True)
    assert model.seen == ["b", "c"]
    model.seen.clear()
    predict(model, tmp_path, "out", PredictOptions(probabilities=True), resume=True)
    assert model.seen == ["a", "b", "c", "d", "e"]  # their maps are missing
    with Path(model.name).open("ab") as file:
        file.write(b" ")  # other weights
    model.seen.clear()
    predict(model, tmp_path, "out", PredictOptions(probabilities=True), resume=True)
    assert model.seen == ["a", "b", "c", "d", "e"]
    model.seen.clear()
    predict(model, tmp_path, "out")  # without `resume` as ever
    assert len(model.seen) == 5


def test_images_whose_voxels_lie_beside_their_header_or_in_a_folder_are_done_again(tmp_path: Path) -> None:
    header = "ObjectType = Image\nNDims = 2\nDimSize = 2 2\nElementType = MET_UCHAR\nElementDataFile = a.raw\n"
    (tmp_path / "a.mhd").write_text(header)
    (tmp_path / "a.raw").write_bytes(b"1234")
    (tmp_path / "b.zarr/0").mkdir(parents=True)
    (tmp_path / "b.zarr/0/0").write_bytes(b"1234")
    for image, voxels in (("a.mhd", "a.raw"), ("b.zarr", "b.zarr/0/0")):
        case = Case("case", (tmp_path / image,))
        before = digest_source(case, ())
        assert digest_source(Case("case", (Path(os.path.relpath(tmp_path / image)),)), ()) == before
        os.utime(tmp_path / voxels, ns=(1, 1))
        assert digest_source(case, ()) != before


def test_parts_meet_in_one_folder_in_any_order(tmp_path: Path) -> None:
    write(tmp_path / "in", *NAMES)
    (tmp_path / "in/bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    (tmp_path / "in/f.czi").touch()
    predict(Thresholding(), tmp_path, "whole")
    seen, failed = [], 0
    for index in (3, 1, 2):
        model = Counting()
        failed += len(predict(model, tmp_path, "out", part=Part(index, 3)).failed)
        seen += model.seen
    assert sorted(seen) == ["a", "b", "c", "d", "e"]
    assert failed == 2
    assert read(tmp_path / "out") == read(tmp_path / "whole")


def test_a_killed_part_goes_on(tmp_path: Path) -> None:
    write(tmp_path / "in", *NAMES)
    predict(Thresholding(), tmp_path, "whole")
    kill(lambda: predict(Counting(killed_at=2), tmp_path, "out", part=Part(1, 2)))
    predict(Thresholding(), tmp_path, "out", part=Part(2, 2))
    model = Counting()
    predict(model, tmp_path, "out", part=Part(1, 2), resume=True)
    assert model.seen == ["c", "e"]
    assert read(tmp_path / "out") == read(tmp_path / "whole")


def test_an_engine_gives_the_same_in_the_order_of_the_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in", *NAMES)
    (tmp_path / "in/bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    monkeypatch.chdir(tmp_path)
    here = predict(Thresholding(), Path(), "whole")
    engine = Backwards()
    there = predict(Thresholding(), Path(), "out", engine=engine, make_task=make_task)
    assert engine.shared == ([tmp_path / "test", tmp_path / "in"], tmp_path / "out")
    assert [path.name for path in there.files] == [path.name for path in here.files]
    assert [problem.where for problem in there.failed] == ["in/bad.png"]  # as the user names it
    assert read(tmp_path / "out") == read(tmp_path / "whole")


def test_a_case_that_workers_die_of_is_given_up_and_the_rest_is_done(tmp_path: Path) -> None:
    write(tmp_path / "in", *NAMES)
    written = predict(Thresholding(), tmp_path, "out", engine=Backwards("c"), make_task=make_task)
    assert [path.name for path in written.files] == ["a.png", "b.png", "d.png", "e.png"]
    (problem,) = written.failed
    assert (problem.where, problem.got) == (str(tmp_path / "in/c.png"), "3 workers that died")
    record = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [each["id"] for each in record["failed"]] == ["c"]
    predict(Thresholding(), tmp_path, "out", resume=True)
    assert json.loads((tmp_path / "out/predictions.json").read_text())["failed"] == []


def test_two_commands_on_one_output_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "in", *NAMES)
    (tmp_path / "out").mkdir()
    with Journal(tmp_path / "out").hold(), pytest.raises(UsageError, match="another command predicts"):
        predict(Thresholding(), tmp_path, "out")
    assert not (tmp_path / "out/predictions.json").exists()


def test_all_depths_are_finished_together(tmp_path: Path, make_model: Any) -> None:
    from unetpp.infer.predictor import load_predictor

    write(tmp_path / "in", "a.png", "b.png")
    predictor, options = load_predictor(make_model(), device="cpu"), PredictOptions(depth="all")
    for name, sharing in (("whole", Sharing()), ("out", Sharing(engine=HereEngine(), part=Part(1, 2)))):
        predict_to_files(predictor, [tmp_path / "in"], tmp_path / name, options, sharing=sharing)
    (tmp_path / "out/depth_1/a.png").unlink()
    written = predict_to_files(predictor, [tmp_path / "in"], tmp_path / "out", options, sharing=Sharing(resume=True))
    assert len(written.files) == 4
    assert not [note for note in written.notes if "before" in note]
    assert read(tmp_path / "out") == read(tmp_path / "whole")


def test_a_unit_names_its_case(tmp_path: Path) -> None:
    assert CaseUnit(Case("p1/a", (tmp_path,)), "").id == "p1/a"
