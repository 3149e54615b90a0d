"""Refresh: a bundle becomes its next version for another catalogue, without training and without the run's files."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tfrs_shop.bundle_source import data_directory, load_source
from tfrs_shop.errors import UserError
from tfrs_shop.export import BUNDLE_VERSION, EXTRA, Say, Serving, export, next_version
from tfrs_shop.inspection import check_files, read_json
from tfrs_shop.whole_directory import writable


def refresh(bundle: str | Path, arguments: Sequence[str], output: str | Path, say: Say = print) -> Path:
    """Write the next version below `output`, for the products of the files in `arguments`, and return its directory.

    The index is of the kind of the bundle's, and answers have its settings. What is counted from events (popularity,
    transition graph, users' histories) is counted again where events are given, and else as it was.

    Args:
        bundle: a version's directory.
        arguments: of the Beam job: ``--products``, maybe ``--events`` and ``--mapping``, any runner's flags.
        output: the model's directory.
        say: takes one line of progress.

    Raises:
        UserError: the bundle is damaged or carries no source, the files cannot be used, or `output` cannot be written.
    """
    from pipelines.refresh import run

    bundle, output = Path(bundle), Path(output)
    if not bundle.is_dir():
        raise UserError(f"--bundle {bundle}: no such directory; give a version's directory, such as models/shop/1.")
    if not (bundle / EXTRA / "bundle.json").is_file():
        raise UserError(f"--bundle {bundle}: is no bundle; give a version's directory, such as models/shop/1.")
    check_files(bundle)
    source = data_directory(bundle)
    index, serving = _settings(bundle)
    with writable(output):
        next_version(output)
        output.mkdir(parents=True, exist_ok=True)
        # Beside the versions, so that workers that see the one see the other.
        temporary = tempfile.TemporaryDirectory(prefix=".refresh-", dir=output)
    with temporary as work:
        directory = Path(work) / "data"
        run([*arguments, "--output", str(directory)], source, str(output.absolute()), say)
        model, data = load_source(bundle, directory)
        new = int((data.catalogue.embedding[1:] == 0).sum())
        say(f"{data.catalogue.size:,} products, {new:,} of which the model was not trained on.")
        # The weights are the same, so what they were measured at holds on.
        validation = read_json(bundle, "bundle.json").get("validation", {})
        return export(model, data, output, index, serving, say, validation)


def _settings(bundle: Path) -> tuple[str, Serving]:
    """Return the kind of the bundle's index, and what its answers are like."""
    about = read_json(bundle, "bundle.json")
    path = bundle / EXTRA / "bundle.json"
    if about.get("version") != BUNDLE_VERSION:
        raise UserError(f"{path}: has version {about.get('version')}, this tfrs-shop reads {BUNDLE_VERSION}.")
    try:
        return about["index"]["kind"], Serving(**about["serving"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: is damaged ({error}); copy or export the bundle again.") from None
