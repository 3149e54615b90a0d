"""What is deployed fits together: manifests, images and their flags, and Prometheus with the server's metrics."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml
from test_model_server_support import free_port, running_server, save_half_plus_two

from serving.model_server.config_files import read_batching_parameters, read_model_config, read_monitoring_config
from serving.model_server.flags import parse_flags

SERVING = Path(__file__).parents[1] / "serving"
KUBERNETES = SERVING / "kubernetes"
MANIFESTS = ("autoscaler", "deployment", "service", "volume")
IMAGES = ("Dockerfile", "Dockerfile.scann", "Dockerfile.embedded")


def documents(name):
    return list(yaml.safe_load_all((KUBERNETES / f"{name}.yaml").read_text()))


def manifest(kind):
    (found,) = (document for name in MANIFESTS for document in documents(name) if document["kind"] == kind)
    return found


def entry_point(image):
    text = (SERVING / image).read_text()
    return json.loads(re.search(r"ENTRYPOINT (\[.*\])", text.replace("\\\n", " "), re.DOTALL)[1])


def flags_of(image):
    return [argument for argument in entry_point(image) if argument.startswith("--")]


def pod():
    return manifest("Deployment")["spec"]["template"]["spec"]


def binary(name):
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install prometheus)")
    return path


@pytest.mark.parametrize("name", MANIFESTS)
@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_the_manifests_are_valid_for_kubernetes(name, version):
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for document in documents(name):
        assert validator.validate(document, version, strict=True)


def test_kustomize_applies_every_manifest_and_swaps_nothing_but_the_image():
    base = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    assert sorted(base["resources"]) == sorted(f"{name}.yaml" for name in MANIFESTS)
    embedded = yaml.safe_load((KUBERNETES / "embedded" / "kustomization.yaml").read_text())
    assert embedded["resources"] == [".."]
    (image,) = embedded["images"]
    (container,) = pod()["containers"]
    assert container["image"].split(":")[0] == image["name"]


def test_services_autoscaler_and_volume_belong_to_the_deployment():
    deployment = manifest("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"] for port in pod()["containers"][0]["ports"]}
    for service in documents("service"):
        assert service["spec"]["selector"] == labels
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    assert manifest("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    # Where an autoscaler owns the number of pods, applying a manifest with `replicas` would set it back.
    assert "replicas" not in deployment["spec"]
    assert manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    claims = [volume["persistentVolumeClaim"] for volume in pod()["volumes"] if "persistentVolumeClaim" in volume]
    assert claims == [{"claimName": manifest("PersistentVolumeClaim")["metadata"]["name"], "readOnly": True}]


def test_a_rolling_update_takes_no_pod_away_before_another_is_ready():
    update = manifest("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert (update["maxSurge"], update["maxUnavailable"]) == (1, 0)


def test_a_pod_has_time_for_pre_stop_and_drain():
    (container,) = pod()["containers"]
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    drain_seconds = parse_flags(flags_of("Dockerfile.embedded")).drain_seconds
    assert command == "sleep"
    assert int(seconds) + drain_seconds < pod()["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("image", IMAGES)
def test_every_image_has_flags_that_both_servers_know_and_the_ports_of_the_pod(image):
    options = parse_flags(flags_of(image))
    ports = {port["name"]: port["containerPort"] for port in pod()["containers"][0]["ports"]}
    assert ports == {"grpc": options.port, "rest": options.rest_api_port}
    given = {path.name for path in (options.model_config_file, options.batching_parameters_file)}
    assert given == {"models.config", "batching.config"}
    assert all((SERVING / name).is_file() for name in given)


def test_the_embedded_image_differs_from_the_stock_one_in_its_address_alone():
    assert [flag for flag in flags_of("Dockerfile.embedded") if flag not in flags_of("Dockerfile")] == [
        "--host=0.0.0.0"
    ]


@pytest.mark.parametrize("image", IMAGES)
def test_every_image_copies_what_is_there(image):
    context = SERVING.parent if image == "Dockerfile.embedded" else SERVING
    copied = re.findall(r"^COPY (.*) \S+$", (SERVING / image).read_text(), re.MULTILINE)
    assert copied
    for line in copied:
        assert [name for name in line.split() if not (context / name).exists()] == []


def test_the_configuration_is_read_by_the_embedded_server_and_names_what_the_probes_ask():
    (config,) = read_model_config(SERVING / "models.config").model_config_list.config
    (container,) = pod()["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == f"/v1/models/{config.name}"
    (mounted,) = (mount for mount in container["volumeMounts"] if mount["name"] == "models")
    assert config.base_path == f"{mounted['mountPath']}/{config.name}"
    batching = read_batching_parameters(SERVING / "batching.config")
    assert batching.allowed_batch_sizes[-1] == batching.max_batch_size.value
    path = read_monitoring_config(SERVING / "monitoring.config").prometheus_config.path
    annotations = manifest("Deployment")["spec"]["template"]["metadata"]["annotations"]
    (scrape,) = yaml.safe_load((SERVING / "prometheus.yaml").read_text())["scrape_configs"]
    assert annotations["prometheus.io/path"] == scrape["metrics_path"] == path


def test_compose_publishes_on_loopback_alone_and_mounts_what_is_there():
    services = yaml.safe_load((SERVING / "compose.yaml").read_text())["services"]
    assert set(services) == {"serving", "serving-scann", "prometheus"}
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        if "build" in service:
            assert (SERVING / service["build"]["dockerfile"]).is_file()
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source.startswith("${MODELS") or (SERVING / source).is_file()


def test_promtool_accepts_the_prometheus_configuration():
    command = [binary("promtool"), "check", "config", str(SERVING / "prometheus.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_scrapes_the_embedded_server(tmp_path):
    prometheus = binary("prometheus")
    save_half_plus_two(tmp_path / "models")
    flags = (f"--model_base_path={tmp_path / 'models'}", f"--monitoring_config_file={SERVING / 'monitoring.config'}")
    with running_server("--model_name=shop", *flags) as server:
        assert server.request("POST", "/v1/models/shop:predict", b'{"instances": [0]}')[0] == 200
        config = yaml.safe_load((SERVING / "prometheus.yaml").read_text())
        config["global"]["scrape_interval"] = "200ms"
        config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{server.rest_port}"]}]
        (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
        port = free_port()
        command = [
            prometheus,
            f"--config.file={tmp_path / 'prometheus.yaml'}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            query = ':tensorflow:serving:request_count{job="shop-serving",model_name="shop",status="OK"}'
            assert first_value(port, query) == "1"
            assert first_value(port, 'up{job="shop-serving"}') == "1"
        finally:
            process.kill()
            process.wait(20)


def first_value(port, query):
    """The value of a Prometheus query, as soon as it has one."""
    url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(query)}"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                result = json.load(response)["data"]["result"]
        except OSError:
            result = []
        if result:
            return result[0]["value"][1]
        time.sleep(0.1)
    raise AssertionError(f"Prometheus has no answer to {query}")


def test_every_promise_names_a_test_that_exists():
    page = (SERVING.parent / "docs" / "promises.md").read_text()
    tests = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", page))
    assert len(named) > 30
    assert sorted(name for name in named if f"def {name}(" not in tests) == []
