"""`tfrs-shop inspect`: what it says of bundles, and which paths it refuses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from conftest import quiet

from tfrs_shop.errors import UserError
from tfrs_shop.export import Serving, export
from tfrs_shop.inspection import in_stock_serving, inspect, report


@pytest.fixture(scope="module")
def partitioned(trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, data = trained
    return export(model, data, tmp_path_factory.mktemp("models") / "shop", "partitioned", Serving(5, "bought"), quiet)


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "1"))


def test_a_bundle_is_described_with_its_signatures_index_and_size(bundle: Path) -> None:
    about = inspect(bundle)
    files = [path for path in bundle.rglob("*") if path.is_file()]
    assert (about["products"], about["users"]) == (200, 120)
    assert about["index"] == {"kind": "brute_force", "recall@10": 1.0}
    assert about["serving"] == {"k": 5, "exclude": "bought"}
    assert (about["files"], about["bytes"]) == (len(files), sum(path.stat().st_size for path in files))
    assert set(about["signatures"]) >= {"serving_default", "recommend", "recommend_for_history", "similar", "rank"}
    assert about["signatures"]["serving_default"]["inputs"] == {"user_id": {"dtype": "string", "shape": [None]}}
    assert about["signatures"]["serving_default"]["outputs"]["score"] == {"dtype": "float32", "shape": [None, 5]}
    assert about["missing_in_stock_serving"] == []


def test_a_bundle_with_a_partitioned_index_needs_nothing_that_stock_serving_lacks(partitioned: Path) -> None:
    about = inspect(partitioned)
    assert about["missing_in_stock_serving"] == []
    assert about["index"]["kind"] == "partitioned"
    assert about["index"]["recall@10"] >= 0.995


def test_partitioned_bundles_answer_as_exact_ones_do(partitioned: Path, bundle: Path) -> None:
    for found, wanted in zip(_golden(partitioned), _golden(bundle), strict=True):
        assert found.request.SerializeToString(deterministic=True) == wanted.request.SerializeToString(
            deterministic=True
        )
        found_of, wanted_of = (
            {name: tf.make_ndarray(value) for name, value in log.response.outputs.items()} for log in (found, wanted)
        )
        assert found_of.keys() == wanted_of.keys()
        for name, values in found_of.items():
            if values.dtype == object:
                assert values.tolist() == wanted_of[name].tolist(), name
            else:
                # The chances are sums of exponentials, in which the last digits of the scores show.
                assert values == pytest.approx(wanted_of[name], abs=1e-3), name


def _golden(bundle: Path) -> list[Any]:
    from tensorflow_serving.apis import prediction_log_pb2

    records = tf.data.TFRecordDataset(str(bundle / "assets.extra" / "golden_requests"))
    return [prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log for record in records]


@pytest.mark.usefixtures("few_questions")
def test_scann_s_operations_are_named_as_what_stock_serving_lacks(trained, tmp_path: Path) -> None:
    model, data = trained
    about = inspect(export(model, data, tmp_path / "shop", "scann", Serving(5, "bought"), quiet))
    assert about["missing_in_stock_serving"]
    assert all(name.startswith("Scann>") for name in about["missing_in_stock_serving"])
    assert "stock TensorFlow Serving lacks Scann>" in report(about)


@pytest.mark.parametrize(
    ("op", "there"),
    [
        ("MatMul", True),
        ("ResourceGather", True),
        ("TFText>RoundRobinTrim", True),
        ("NormalizeUTF8", True),
        ("Scann>ScannSearchBatched", False),
        ("Addons>Anything", False),
        ("NoSuchOperation", False),
        ("EagerPyFunc", False),
    ],
)
def test_stock_serving_has_the_operations_of_tensorflow_and_its_text_library(op: str, there: bool) -> None:
    assert in_stock_serving(op) is there


def test_the_report_has_a_line_for_each_tensor(bundle: Path) -> None:
    lines = report(inspect(bundle)).splitlines()
    assert "index: brute_force, recall@10 1.0000 against exact search" in lines
    assert "    <- history_product_id: string [?, ?]" in lines
    assert "    -> score: float32 [?, 5]" in lines
    assert lines[-1].endswith("kinds; stock TensorFlow Serving lacks none")


def test_what_is_no_bundle_is_refused_with_the_reason(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing: no such directory; give a bundle"):
        inspect(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"saved_model\.pb: is a file; give a bundle"):
        inspect(bundle / "saved_model.pb")
    with pytest.raises(UserError, match=r"saved_model\.pb is missing; give one of its versions, such as .*1"):
        inspect(bundle.parent)
    with pytest.raises(UserError, match=r"is no bundle, saved_model\.pb is missing; export one first"):
        inspect(tmp_path)


@pytest.mark.parametrize("name", ["bundle.json", "files.json"])
def test_a_bundle_without_its_description_is_refused(copied: Path, name: str) -> None:
    (copied / "assets.extra" / name).unlink()
    with pytest.raises(UserError, match=f"is no bundle of tfrs-shop, assets.extra/{name} is missing"):
        inspect(copied)


@pytest.mark.parametrize("name", ["bundle.json", "files.json"])
@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"files": {}}', "\udcff"])
def test_a_damaged_description_is_refused(copied: Path, name: str, content: str) -> None:
    (copied / "assets.extra" / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=f"{name}: is damaged"):
        _inspect_unlisted(copied, name)


def _inspect_unlisted(bundle: Path, name: str) -> None:
    """Inspect a bundle whose list of files has the size of the file `name` as it is."""
    if name != "files.json":
        path = bundle / "assets.extra" / "files.json"
        listed = json.loads(path.read_text())
        listed["files"][f"assets.extra/{name}"]["bytes"] = (bundle / "assets.extra" / name).stat().st_size
        path.write_text(json.dumps(listed))
    inspect(bundle)


def test_a_missing_or_cut_file_is_named(copied: Path) -> None:
    data = next(copied.glob("variables/*.data-*"))
    size = data.stat().st_size
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{data.name}: has {size - 1} bytes, but files.json says {size}"):
        inspect(copied)
    data.unlink()
    with pytest.raises(UserError, match=f"{data.name}: is missing, but files.json lists it"):
        inspect(copied)


def test_a_graph_that_is_none_is_refused(copied: Path) -> None:
    path = copied / "saved_model.pb"
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(UserError, match=r"saved_model\.pb: is damaged, it is no SavedModel"):
        inspect(copied)


def test_the_command_prints_and_writes_what_is_found(bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tfrs_shop.cli", "inspect", str(bundle), "--json", str(tmp_path / "about.json")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    about = json.loads((tmp_path / "about.json").read_text())
    assert result.stdout.strip() == report(about)
    assert about == inspect(bundle)


def test_the_command_refuses_in_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tfrs_shop.cli", "inspect", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert error == f"Error: {tmp_path}: is no bundle, saved_model.pb is missing; export one first."
    assert "Traceback" not in result.stderr
