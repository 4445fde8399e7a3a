"""Threads sleep instead of spinning, unless the user has chosen."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SHOW = "import os, unetpp; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_spinning_is_limited_unless_the_user_has_chosen(chosen: dict[str, str], expected: str) -> None:
    kept = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", SHOW], env=kept | chosen, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
