"""The notebooks run from top to bottom, and are committed with their outputs."""

from pathlib import Path

import nbformat
import pytest

from docs_tools.notebooks import NOTEBOOKS, executed

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the notebooks run in: the first that needs a part of the small shop makes it there."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.slow
@each_notebook
def test_a_notebook_runs(path: Path, place: Path) -> None:
    executed(path, place)


@each_notebook
def test_a_notebook_is_committed_with_its_outputs_and_short_cells(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert all(len(cell.source.splitlines()) <= 15 for cell in cells)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)
    assert path.stat().st_size < 400_000


@each_notebook
def test_the_outputs_of_a_notebook_have_no_warnings_and_no_paths_of_a_machine(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    shown = [output for cell in cells for output in cell.outputs]
    assert not [output.text for output in shown if output.get("name") == "stderr"]
    text = "\n".join(str(output.get("text", output.get("data", {}).get("text/plain", ""))) for output in shown)
    assert not [word for word in ("WARNING", "Traceback", "/tmp/", "/home/", "/root/", "/work/") if word in text]
