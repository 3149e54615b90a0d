"""Run the notebooks and keep their outputs: ``python -m docs_tools.notebooks [NAME ...]``, or ``make notebooks``.

They run in a temporary directory, where the small shop that they share is made too.
"""

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def main() -> None:
    """Run the notebooks that are named, or all, one after the other, and write each when it is done."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="how a notebook's name begins, such as 05")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for path in NOTEBOOKS:
            if not given.names or path.name.startswith(tuple(given.names)):
                print(path.name, flush=True)
                nbformat.write(executed(path, Path(place)), path)


def executed(path: Path, place: Path) -> nbformat.NotebookNode:
    """Return the notebook at `path` with the outputs of a run in the directory `place`.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    data = os.environ.get("TFRS_SHOP_DATA", str(ROOT.parent / "shared" / "data"))
    # Models this small lose time to waiting threads.
    threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TFRS_SHOP_DATA": data, **threads}
    notebook = nbformat.read(path, as_version=4)
    # When each cell ran is of no use to a reader, and makes every renewal a change.
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", record_timing=False, resources={"metadata": {"path": str(place)}}
    )
    client.execute(env=environment)
    return notebook


if __name__ == "__main__":
    main()
