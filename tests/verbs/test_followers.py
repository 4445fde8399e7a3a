"""What ranks cannot train is refused; what they do together is tested in test_launch.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tests.plans import small_plan

from unetpp.errors import UsageError
from unetpp.verbs import followers


@pytest.mark.parametrize(
    ("norm", "compile", "batch", "words"),
    [
        ("batch", True, 4, "train.compile: got true for 2 ranks and a network with batch normalization"),
        ("group", True, 4, None),
        ("batch", False, 4, None),
        ("group", False, 1, "train.batch: got 1 for 2 ranks"),
    ],
)
def test_ranks_are_refused_what_they_cannot_train(
    norm: str, compile: bool, batch: int, words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small_plan(settings={"train.compile": compile, "train.batch": batch}, norm=norm)
    followers.require_trainable(plan if batch > 1 else None)  # one process trains all of them
    monkeypatch.setattr(followers, "joined", lambda: SimpleNamespace(size=2))
    if words is None:
        followers.require_trainable(None, plan)
    else:
        with pytest.raises(UsageError, match=words):
            followers.require_trainable(None, plan)
