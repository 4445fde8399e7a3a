"""The notebooks are executed as users do, with shorter trainings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import TINY_3D, TINY_NESTED

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
QUICKLY = {
    "images": {"MINUTES": 0.05, "SETTINGS": TINY_NESTED},
    "volumes": {"MINUTES": 0.05, "SETTINGS": TINY_3D},
    "own_loop": {"STEPS": 10},
}
"""Notebook -> variables of its cell of parameters."""


def read(name: str) -> Any:
    nbformat = pytest.importorskip("nbformat")
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def test_all_notebooks_are_known() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(QUICKLY)


@pytest.mark.parametrize("name", QUICKLY)
def test_a_notebook_is_small_and_reads_well(name: str) -> None:
    notebook = read(name)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 20_000
    words = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert len(words.split()) > 200
    for page in re.findall(r"docs/[\w-]+\.md", words):
        assert (FOLDER.parents[1] / page).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICKLY)
def test_a_notebook_runs(name: str, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    notebook = read(name)
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    for variable, value in QUICKLY[name].items():
        cell.source, count = re.subn(rf"^{variable} = .*$", f"{variable} = {value!r}", cell.source, flags=re.MULTILINE)
        assert count == 1
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    texts = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "Dice" in texts
