"""The package away from its checkout: a wheel, and what its files say."""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_wheel_works_away_from_the_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    subprocess.run([*build, str(source)], check=True)
    wheel = next(tmp_path.glob("tfrs_shop-*.whl"))
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    # The dependencies are those of this environment; the editable install of the checkout is not among them.
    packages = subprocess.run(
        [sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": packages}
    code = (
        "import tfrs_shop, pipelines.preprocess, serving.model_server.storefront as storefront;"
        "from tfrs_shop.mapping import shipped_mappings;"
        "print(tfrs_shop.__file__); print(*shipped_mappings());"
        "print(*sorted(path.name for path in storefront.FILES.iterdir()))"
    )
    result = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    where, mappings, page = result.stdout.splitlines()[-3:]
    assert where.startswith(str(tmp_path / "venv"))
    assert mappings.split() == ["amazon_reviews_2023", "rees46", "taobao_user_behavior", "uci_online_retail"]
    assert page.split() == sorted(path.name for path in (source / "serving" / "storefront").iterdir())
    command = tmp_path / "venv" / "bin" / "tfrs-shop"
    data = tmp_path / "shop"
    subprocess.run(
        [command, "data", "simulate", "--output", data, "--users", "50", "--products", "200"],
        cwd=tmp_path, env=environment, check=True, capture_output=True,
    )  # fmt: skip
    assert (data / "events.csv.gz").exists()


def test_the_lock_file_has_a_hash_for_each_package_and_names_no_index() -> None:
    text = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text)
    assert len(entries) > 100
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text


def test_the_versions_of_the_package_are_one() -> None:
    import tfrs_shop

    assert f'version="{tfrs_shop.__version__}"' in (ROOT / "setup.py").read_text()


def test_importing_after_tensorflow_with_keras_3_says_how_to_mend_it() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    code = "import tensorflow; tensorflow.keras.__version__; import tfrs_shop"
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "Import tfrs_shop before tensorflow, or set TF_USE_LEGACY_KERAS=1" in result.stderr
