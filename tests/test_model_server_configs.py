"""The files that run the real TensorFlow Serving say what they should, by the protos it reads them with."""

import re
from pathlib import Path

import pytest
import yaml

from serving.model_server.config_files import read_batching_parameters, read_model_config, read_monitoring_config
from tfrs_shop.errors import UserError

SERVING = Path(__file__).parent.parent / "serving"


def test_models_config_serves_the_latest_shop():
    (model,) = read_model_config(SERVING / "models.config").model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("shop", "/models/shop", "tensorflow")
    assert model.model_version_policy.latest.num_versions == 1


def test_batching_config_ends_its_allowed_sizes_with_the_largest_batch():
    parameters = read_batching_parameters(SERVING / "batching.config")
    sizes = list(parameters.allowed_batch_sizes)
    assert sizes == sorted(sizes)
    assert sizes[-1] == parameters.max_batch_size.value == 64
    assert parameters.batch_timeout_micros.value == 1000


def test_monitoring_config_has_the_path_that_prometheus_scrapes():
    config = read_monitoring_config(SERVING / "monitoring.config").prometheus_config
    assert config.enable
    (job,) = yaml.safe_load((SERVING / "prometheus.yaml").read_text())["scrape_configs"]
    assert job["metrics_path"] == config.path == "/monitoring/prometheus/metrics"


@pytest.mark.parametrize(
    ("text", "message"),
    [("max_batch_size { value: x }", "1:25"), ("no_such_field: 1", 'no field named "no_such_field"')],
)
def test_a_malformed_config_is_named_with_the_place(tmp_path, text, message):
    (tmp_path / "bad.config").write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        read_batching_parameters(tmp_path / "bad.config")
    with pytest.raises(UserError, match="cannot be read"):
        read_model_config(tmp_path / "missing.config")


def test_compose_runs_both_images_on_loopback_with_the_models_read_only():
    services = yaml.safe_load((SERVING / "compose.yaml").read_text())["services"]
    assert set(services) == {"serving", "serving-scann", "prometheus"}
    for name, dockerfile in (("serving", "Dockerfile"), ("serving-scann", "Dockerfile.scann")):
        service = services[name]
        assert service["build"]["dockerfile"] == dockerfile
        assert service["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
        (volume,) = service["volumes"]
        assert volume.endswith(":/models:ro")
    assert services["serving-scann"]["profiles"] == ["scann"]


@pytest.mark.parametrize(
    ("name", "image"), [("Dockerfile", "tensorflow/serving:"), ("Dockerfile.scann", "google/tf-serving-scann:")]
)
def test_dockerfiles_copy_the_configs_and_name_them_on_the_command_line(name, image):
    text = (SERVING / name).read_text()
    assert f"FROM {image}" in text
    copied = re.search(r"^COPY (.*) (/\S+/)$", text, re.MULTILINE)
    for file in copied.group(1).split():
        assert (SERVING / file).is_file()
        assert f"={copied.group(2)}{file}" in text
