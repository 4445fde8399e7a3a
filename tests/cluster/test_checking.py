from __future__ import annotations

from pathlib import Path

import pytest

from unetpp.cluster.checking import COMPARED, describe_difference, describe_unseen, probe, read_versions

PACKAGES = {"python": "3.11.7.final.0", "unetpp": "0.2", "torch": "2.8.0+cu128", "numpy": "2.1.0", "distributed": "1"}


def test_equal_versions_do_not_differ() -> None:
    mine = read_versions({"packages": PACKAGES})
    assert tuple(mine) == COMPARED
    others = {**PACKAGES, "python": "3.11.2.final.0", "torch": "2.8.0+cpu", "pandas": "9"}
    assert describe_difference(mine, read_versions({"packages": others})) is None


@pytest.mark.parametrize(
    ("change", "got", "expected"),
    [
        ({"python": "3.12.1.final.0"}, "python 3.12", "python 3.11"),
        ({"unetpp": None}, "unetpp not installed", "unetpp 0.2"),
        ({"torch": "2.9.0", "numpy": "2.3.0"}, "torch 2.9.0, numpy 2.3.0", "torch 2.8.0, numpy 2.1.0"),
    ],
)
def test_versions_that_differ_are_named(change: dict[str, str | None], got: str, expected: str) -> None:
    others = read_versions({"packages": {**PACKAGES, **change}})
    assert describe_difference(read_versions({"packages": PACKAGES}), others) == (got, expected)


def test_the_probe_is_there_and_gone(tmp_path: Path) -> None:
    with probe(tmp_path) as (path,):
        assert Path(path).is_file()
        assert f"got no {tmp_path};" in str(describe_unseen("1 on node7", path, tmp_path))
    assert not list(tmp_path.iterdir())
    with probe(None) as paths:
        assert paths == []
    assert "worker 1 on node7: got no /m;" in str(describe_unseen("1 on node7", "/m", tmp_path))
