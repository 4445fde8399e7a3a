"""What listens to a training: functions and experiment trackers, none of which can stop it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import unetpp
from tests.plans import small_plan
from tests.tiny import TINY, run_cli, set_options
from unetpp.data.demo import write_demo_data
from unetpp.errors import MissingExtraError, UsageError
from unetpp.train.listeners import Event, Listeners, find_scalars
from unetpp.train.log import Log

TRAINED = {"step": 3, "loss": 0.5, "learning_rate": 0.1, "images_per_second": 2.0}
SENT = [
    ({"train/loss": 0.5, "train/learning_rate": 0.1, "train/images_per_second": 2.0}, 3),
    ({"validation/dice_depth_1": 0.7, "train/dice": 0.9, "validation/loss": 0.5}, 3),
    ({"measured/dice_depth_1": 0.8}, 5),
]


def tell(listeners: Listeners) -> None:
    listeners.begin(1, small_plan())
    listeners(kind="start", step=0)
    listeners(kind="train", **TRAINED)
    listeners(kind="validation", step=3, depths={1: 0.7, 2: None}, train_dice=0.9, loss=0.5)
    listeners(kind="end", step=5, reason="finished")
    listeners(kind="measured", step=5, depths={1: 0.8})


def module(name: str, monkeypatch: pytest.MonkeyPatch, **members: Any) -> None:
    made = ModuleType(name)
    vars(made).update(members)
    monkeypatch.setitem(sys.modules, name, made)


def test_a_function_hears_each_event_with_its_fold(tmp_path: Path) -> None:
    heard: list[Event] = []
    tell(Listeners(heard.append, tmp_path, print))
    assert [event["kind"] for event in heard] == ["plan", "start", "train", "validation", "end", "measured"]
    assert {event["fold"] for event in heard} == {1}
    assert heard[0]["plan"]["model"]["depth"] == small_plan().model.depth


def test_each_line_of_the_log_is_an_event(tmp_path: Path) -> None:
    heard: list[Event] = []
    log = Log(tmp_path / "log.jsonl", Listeners(heard.append, tmp_path, print))
    log.begin()
    log.write("train", step=3)
    assert heard == [{"kind": "train", "step": 3, "fold": 0}]


def test_one_that_fails_is_left_out_with_one_note(tmp_path: Path) -> None:
    notes: list[str] = []
    heard: list[Event] = []

    def broken(event: Event) -> None:
        raise ConnectionError("no network")

    tell(Listeners([broken, heard.append], tmp_path, notes.append))
    assert notes == ["note: broken failed and gets no more events (ConnectionError: no network)"]
    assert len(heard) == 6


def test_the_folder_of_tensorboard_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    writer = SimpleNamespace(
        add_text=lambda *words: None, add_scalar=lambda *words: None, flush=lambda: None, close=lambda: None
    )
    module("tensorboard", monkeypatch)
    module(
        "torch.utils.tensorboard", monkeypatch, SummaryWriter=lambda folder, purge_step: made.append(folder) or writer
    )
    for given, folder in (("tensorboard", tmp_path / "a run/tensorboard"), ("tensorboard:all logs", Path("all logs"))):
        listeners = Listeners([given, print], tmp_path / "a run", print)
        tell(listeners)
        assert [shlex.split(command) for command in listeners.commands] == [["tensorboard", "--logdir", str(folder)]]
        assert Path(made[-1]).parent == folder


def test_weights_and_biases_gets_the_plan_and_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    run = SimpleNamespace(
        log=lambda scalars, step: sent.append((scalars, step)), finish=lambda: sent.append("finished")
    )
    module("wandb", monkeypatch, init=lambda **given: sent.append(given) or run)
    tell(Listeners("wandb:nuclei", tmp_path / "run", print))
    assert (sent[0]["project"], sent[0]["name"], sent[0]["dir"]) == ("nuclei", "run_fold_1", str(tmp_path / "run"))
    assert sent[0]["config"]["train"]["batch"] == small_plan().train.batch
    assert sent[1:] == [*SENT, "finished"]


def test_mlflow_gets_the_plan_and_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    given: dict[str, Any] = {}
    module(
        "mlflow",
        monkeypatch,
        set_tracking_uri=lambda uri: given.update(uri=uri),
        set_experiment=lambda name: given.update(experiment=name),
        start_run=lambda run_name: given.update(run=run_name),
        log_params=given.update,
        log_metrics=lambda scalars, step: sent.append((scalars, step)),
        end_run=lambda: sent.append("ended"),
    )
    tell(Listeners("mlflow:http://localhost:5000", tmp_path / "run", print))
    assert (given["uri"], given["experiment"], given["run"]) == ("http://localhost:5000", "unetpp", "run_fold_1")
    assert given["train.batch"] == str(small_plan().train.batch)
    assert sent == [*SENT, "ended"]


def test_tensorboard_writes_files_that_can_be_read(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tell(Listeners("tensorboard", tmp_path, print))
    found = EventAccumulator(str(tmp_path / "tensorboard" / f"{tmp_path.name}_fold_1"))
    found.Reload()
    assert set(found.Tags()["scalars"]) == {name for scalars, _ in SENT for name in scalars}
    assert [(each.step, each.value) for each in found.Scalars("train/loss")] == [(3, 0.5)]
    assert "plan/text_summary" in found.Tags()["tensors"]


@pytest.mark.parametrize(
    ("name", "package"), [("tensorboard", "torch.utils.tensorboard"), *[(each,) * 2 for each in ("wandb", "mlflow")]]
)
def test_an_absent_package_names_its_extra(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"unetpp\[{name}\]"):
        Listeners(name, Path("run"), print)


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(UsageError, match=r"log_to: got 'neptune'; expected tensorboard"):
        Listeners(["neptune"], Path("run"), print)


def test_events_without_numbers_have_none() -> None:
    assert find_scalars({"kind": "start", "step": 0}, {}) == {}


def test_sizes_of_a_network_with_shells_are_named() -> None:
    settings = small_plan(shells=(0.5, 1), norm="instance").model_dump(mode="json")
    event = {"kind": "validation", "step": 1, "depths": {1: 0.5, 4: 0.75}}
    names = small_plan(shells=(0.5, 1), norm="instance").model.list_sizes()
    assert find_scalars(event, settings) == {f"validation/dice_{names[1]}": 0.5, f"validation/dice_{names[4]}": 0.75}


def test_a_training_is_heard_from_python_and_the_command_line(tmp_path: Path) -> None:
    write_demo_data(tmp_path / "data", 2, cases=5, shape=(64, 80))
    heard: list[Event] = []
    unetpp.train(tmp_path / "data", tmp_path / "run", epochs=1, set=TINY, log_to=heard.append)
    kinds = [event["kind"] for event in heard]
    assert kinds[0] == "plan"
    assert {"start", "train", "validation", "end"} <= set(kinds)
    assert heard[-1]["kind"] == "measured"
    assert set(heard[-1]["depths"]) == {1, 2}
    answer = run_cli("train", tmp_path / "data", "--out", tmp_path / "b", "--log-to", "neptune", *set_options(TINY))
    assert answer.code == 2
    assert "--log-to: got 'neptune'" in answer.stderr
