"""The lock file names every dependency that users install, in a version that pyproject.toml allows, with hashes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
ENTRY = re.compile(
    r"^(?P<name>[a-z0-9-]+)==(?P<version>[\w.]+)(?: ; [^\\]+)? \\\n(?P<hashes>(?:    --hash=.*\n?)+)", re.M
)


def test_every_dependency_is_locked_with_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    names = re.search(r"\[(.*)\]", extras["all"][0])
    assert names is not None
    wanted = [*project["dependencies"], *(line for name in names[1].split(",") for line in extras[name])]
    locked = {found["name"]: found["version"] for found in ENTRY.finditer(LOCK)}
    for requirement in map(Requirement, wanted):
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is locked to {version}"


def test_the_lock_holds_versions_and_hashes_alone() -> None:
    entries = [line for line in LOCK.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(entries) == len(list(ENTRY.finditer(LOCK)))
    assert all(
        re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", each) for each in LOCK.splitlines() if each[:1] == " "
    )
    assert not re.search(r"://|--index|--find-links|/opt/|/home/|/work/", LOCK)
