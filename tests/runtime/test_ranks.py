"""What ranks add up, gather, agree on and tell each other; batch normalization over all of them."""

from __future__ import annotations

import copy
import os
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist
from tests.train.rank_processes import spawn
from torch import Tensor, nn

from unetpp.errors import UsageError
from unetpp.model.build import build_model
from unetpp.rank_place import RankPlace
from unetpp.runtime import rank_watch, ranks
from unetpp.runtime.device import choose_rank_device
from unetpp.runtime.rank_watch import LostRank, RankWatch
from unetpp.runtime.ranks import ALONE, Ranks, join
from unetpp.runtime.synchronized_norm import synchronize_norms

CPU = torch.device("cpu")
SIZE = 3


def talk(found: Ranks) -> dict[str, Any]:
    """What a rank hears and computes."""
    weights = [torch.zeros(2, 3).contiguous(), torch.zeros(4)]
    weights[0].grad = torch.full((2, 3), float(found.rank))
    own = torch.arange(found.rank + 1, dtype=torch.float32)
    weight = torch.tensor([float(found.rank)])
    found.take_from_first([weight])
    found.sum_gradients(weights)
    if found.is_first:
        found.tell({"kind": "order", "text": "ä"})
        found.tell({"kind": "end"})
        heard = []
    else:
        heard = [found.listen(), found.listen()]
    return {
        "share": list(found.share(7)),
        "sum": found.add_up(torch.tensor([1.0, float(found.rank)])).tolist(),
        "gradient": weights[0].grad.flatten().tolist(),
        "gathered": [row.tolist() for row in found.gather(own, [1, 2, 3])],
        "agreed": found.agree(10.0 + found.rank, found.rank == 2),
        "heard": heard,
        "first": weight.item(),
        "sent": [found.added_bytes, found.gathered_bytes, found.messages],
        "normalized": normalize(found),
    }


def make_norms() -> list[nn.Module]:
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4, momentum=0.3), nn.ReLU(), nn.BatchNorm2d(4))
    with torch.no_grad():
        for weight in wide.parameters():
            weight.add_(0.3 * torch.randn(weight.shape))
    return [wide, build_model(topology="unet++", widths=(4, 6), in_channels=2, out_channels=2, norm="batch")]


def run_norm(network: nn.Module, found: Ranks, images: Tensor) -> list[Tensor]:
    """Gradients and statistics of a mean of outputs over the whole batch."""
    network.train()
    share = found.share(len(images))
    part = images[share.start : share.stop]
    with synchronize_norms(network, found):
        (network(part).square().sum() / images.numel()).backward()
    found.sum_gradients(list(network.parameters()))
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    return [each.detach().clone() for each in [*gradients, *network.buffers()]]


def normalize(found: Ranks) -> list[list[Tensor]]:
    images = 3 + torch.randn(5, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    return [run_norm(network, found, images) for network in make_norms()]


def test_ranks_agree(tmp_path: Path) -> None:
    talked = spawn(talk, SIZE, tmp_path)
    assert [each["share"] for each in talked] == [[0, 1], [2, 3], [4, 5, 6]]
    expected = normalize(ALONE)
    for rank, each in enumerate(talked):
        assert each["sum"] == [3.0, 3.0]
        assert each["gradient"] == [3.0] * 6
        assert each["gathered"] == [[0.0], [0.0, 1.0], [0.0, 1.0, 2.0]]
        assert each["agreed"] == (10.0, True)
        assert each["heard"] == ([{"kind": "order", "text": "ä"}, {"kind": "end"}] if rank else [])
        assert each["first"] == 0.0
        assert each["sent"] == [6 * 4 + 2 * 4 + 2 * 8, 4 + SIZE * 3 * 4, 5]
        for found, wanted in zip(each["normalized"], expected, strict=True):
            for a, b in zip(found, wanted, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_process_alone_talks_to_nobody() -> None:
    values = torch.ones(3)
    assert ALONE.add_up(values) is values
    assert ALONE.gather(values, [3]) == [values]
    assert ALONE.agree(0.5, True) == (0.5, True)
    assert list(ALONE.share(3)) == [0, 1, 2]
    ALONE.tell({})
    ALONE.leave()
    assert join(RankPlace(), CPU) is ALONE
    assert not dist.is_initialized()


def test_norms_that_need_no_other_rank_are_left_alone() -> None:
    network = make_norms()[0]
    before = copy.deepcopy(network)
    images = torch.randn(2, 2, 4, 4)
    with synchronize_norms(network, ALONE):
        assert torch.equal(network(images), before(images))


def test_ranks_that_do_not_come_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "JOIN_S", 1.0)
    from tests.train.rank_processes import find_port

    with pytest.raises(UsageError, match=r"WORLD_SIZE: got rank 0 on .*; expected all 2 ranks at 127.0.0.1"):
        join(RankPlace(0, 2, 0, "127.0.0.1", find_port()), CPU)


def wait_for_end(watch: RankWatch, ended: list[int]) -> None:
    for _ in range(1000):
        if ended:
            break
        watch._closed.wait(0.01)


class FakeStore(dict[str, Any]):
    """A store in this process; one that is gone raises what that of torch does."""

    gone = False

    def check(self, names: list[str]) -> bool:
        if self.gone:
            raise RuntimeError("Connection reset by peer")
        return all(name in self for name in names)

    def get(self, name: str) -> bytes:
        return str(self[name]).encode()

    def set(self, name: str, value: str) -> None:
        if self.gone:
            raise RuntimeError("Connection reset by peer")
        self[name] = value

    def compare_set(self, name: str, _: str, value: str) -> None:
        self.setdefault(name, value)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_watch, "BEAT_S", 0.01)
    monkeypatch.setattr(rank_watch, "SILENT_S", 0.1)
    monkeypatch.setattr(rank_watch, "LOST_S", 0.1)


HOSTS = ["n1 (process 1)", "n2 (process 2)", "n3 (process 3)"]


@pytest.mark.usefixtures("quick")
def test_a_rank_without_a_sign_of_life_is_named() -> None:
    store = FakeStore({"alive/2": "left"})
    watch = RankWatch(store, RankPlace(0, 3), HOSTS)
    reason = watch.explain(RuntimeError("Connection closed by peer"))
    assert str(reason) == "Lost rank 1 on n2 (process 2): got no sign of life; expected all 3 ranks."
    assert watch.speaks
    watch.close()
    assert store["alive/0"] == "left"


@pytest.mark.usefixtures("quick")
def test_a_rank_that_fails_says_why() -> None:
    store = FakeStore()
    failing, other = RankWatch(store, RankPlace(1, 2), HOSTS), RankWatch(store, RankPlace(0, 2), HOSTS)
    failing.fail("Out of memory.")
    assert str(other.explain(RuntimeError("closed"))) == "rank 1 on n2 (process 2) has ended: Out of memory."
    failing.close()
    other.close()


@pytest.mark.usefixtures("quick")
def test_a_store_that_is_gone_was_with_the_first_rank() -> None:
    store = FakeStore()
    watch = RankWatch(store, RankPlace(1, 2), HOSTS)
    store.gone = True
    assert str(watch.explain(RuntimeError("closed"))).startswith("Lost rank 0 on n1")
    with pytest.raises(LostRank, match="Lost rank 0"):
        watch.require_first()
    assert watch.speaks
    watch.close()


@pytest.mark.usefixtures("quick")
def test_a_rank_that_waits_in_vain_is_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(rank_watch.os, "_exit", ended.append)
    watch = RankWatch(FakeStore(), RankPlace(0, 2), HOSTS)
    with watch.waiting():
        wait_for_end(watch, ended)
    watch.close()
    assert ended[0] == 1
    assert "unetpp: Lost rank 1 on n2 (process 2)" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_a_store_that_hangs_is_with_a_frozen_rank(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, thawed, store = list[int](), threading.Event(), FakeStore()
    monkeypatch.setattr(rank_watch.os, "_exit", ended.append)
    monkeypatch.setattr(store, "check", lambda names: not thawed.wait(20))
    watch = RankWatch(store, RankPlace(1, 2), HOSTS)  # its main thread waits for an order, in that store
    wait_for_end(watch, ended)
    watch.close()
    thawed.set()
    assert ended[0] == 1
    assert "unetpp: Lost rank 0 on n1 (process 1)" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_a_store_that_hangs_while_this_rank_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, frozen, thawed, store = list[int](), threading.Event(), threading.Event(), FakeStore()
    monkeypatch.setattr(rank_watch.os, "_exit", ended.append)
    check = store.check
    monkeypatch.setattr(store, "check", lambda names: not thawed.wait(20) if frozen.is_set() else check(names))
    watch = RankWatch(store, RankPlace(1, 2), HOSTS)
    store.set("alive/0", "1")
    with watch.waiting():
        watch._waiting_since = time.monotonic() - 100  # longer than a lost rank is waited for
        frozen.set()
        wait_for_end(watch, ended)
    watch.close()
    thawed.set()
    assert ended


@pytest.mark.parametrize(("name", "words"), [("cuda:1", "expected a GPU for each rank"), ("tpu", "auto, cpu")])
def test_devices_of_ranks_that_cannot_be(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        choose_rank_device(name, RankPlace(0, 2))


def test_each_rank_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_rank_device("auto", RankPlace(3, 4, local_rank=1)) == torch.device("cuda:1")
    with pytest.raises(UsageError, match="at most 2 ranks on this machine"):
        choose_rank_device("auto", RankPlace(2, 4, local_rank=2))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_rank_device("cuda", RankPlace(1, 4, local_rank=1)) == torch.device("cuda:0")


@pytest.mark.parametrize(
    ("mine", "launcher", "chosen"),
    [
        ({}, {}, False),
        ({"OMP_NUM_THREADS": "4"}, {}, True),
        ({"OMP_NUM_THREADS": "1"}, {}, True),
        ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "a"}, {}, False),
        ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "a"}, {"OMP_NUM_THREADS": "1"}, True),
    ],
)
def test_threads_that_torchrun_sets_are_not_those_of_the_user(
    mine: dict[str, str], launcher: dict[str, str], chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_NUM_THREADS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(psutil.Process, "environ", lambda self: launcher)
    assert ranks._has_chosen_threads() == chosen
    assert ("OMP_NUM_THREADS" in os.environ) == chosen  # processes that measure costs have all cores


def test_cores_are_divided_among_the_ranks_that_share_them() -> None:
    before = torch.get_num_threads()
    mine = {"host": "a", "cores": [0, 1, 2, 3, 4, 5]}
    others = [{"host": "a", "cores": [0, 1, 2, 3, 4, 5]}, {"host": "b", "cores": mine["cores"]}, mine]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        ranks._divide_threads(mine, others)
        assert torch.get_num_threads() == 3
    torch.set_num_threads(before)
