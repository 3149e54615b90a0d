"""Several models, policies and labels: from a config, and changed while the server runs."""

import asyncio
import time

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2
from test_model_server_support import Client, manager_for, running_server, save_half_plus_two

from serving.model_server.grpc_health import HealthService
from serving.model_server.model_configs import ModelConfigs, parse_models, single_model
from serving.model_server.status import Code, ServingError
from serving.model_server.version_policy import VersionPolicy


def config_of(*entries: str) -> model_server_config_pb2.ModelServerConfig:
    inner = " ".join(f"config {{ {entry} }}" for entry in entries)
    return text_format.Parse(f"model_config_list {{ {inner} }}", model_server_config_pb2.ModelServerConfig())


def entry(name, base, more=""):
    return f'name: "{name}" base_path: "{base}" model_platform: "tensorflow" {more}'


def test_policies_and_labels_are_read_from_a_config():
    latest, everything, specific = parse_models(
        config_of(
            entry("a", "/a", "model_version_policy { latest { num_versions: 3 } }"),
            entry("b", "/b", "model_version_policy { all {} } version_labels { key: 'stable' value: 2 }"),
            entry("c", "/c", "model_version_policy { specific { versions: 4 versions: 2 } }"),
        )
    )
    assert latest.policy == VersionPolicy("latest", count=3)
    assert (everything.policy, everything.labels) == (VersionPolicy("all"), {"stable": 2})
    assert specific.policy == VersionPolicy("specific", versions=(4, 2))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry("a", "/a"), entry("a", "/b")], "Illegal to list model a multiple times in config list"),
        ([entry("a", "relative")], "Expected model a to have an absolute path or URI; got base_path()=relative"),
        (['name: "a" base_path: "/a"'], "Illegal setting neither ModelServerConfig::model_type (deprecated) nor"),
        (['name: "a" base_path: "/a" model_platform: "pytorch"'], "Model a requests unsupported platform pytorch"),
        ([entry("a", "/a", "model_type: TENSORFLOW")], "Illegal setting both ModelServerConfig::model_type"),
        (['name: "a" base_path: "/a" model_type: OTHER'], "model_type choice 2 not supported"),
    ],
)
def test_a_config_that_cannot_be_served_is_refused(entries, message):
    with pytest.raises(ServingError) as caught:
        parse_models(config_of(*entries))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert message in caught.value.message


def test_the_deprecated_model_type_still_means_tensorflow(tmp_path):
    (model,) = parse_models(config_of('name: "a" base_path: "/a" model_type: TENSORFLOW'))
    assert model.name == "a"
    (model,) = parse_models(single_model("b", tmp_path))
    assert (model.name, model.base_path) == ("b", tmp_path)


@pytest.fixture
def shop(tmp_path):
    """A manager without models, polled by hand, and three versions on disk."""
    for version in (1, 2, 3):
        save_half_plus_two(tmp_path / "m", version, two=float(version))
    return manager_for({}), tmp_path / "m"


def states(manager, name="m"):
    return [(status.version, status.state.name) for status in manager.status(name)]


def test_policies_choose_the_versions_that_serve(shop):
    manager, base = shop
    configs = ModelConfigs(manager)
    assert configs.apply(config_of(entry("m", base, "model_version_policy { specific { versions: 1 } }"))) == ["m"]
    manager.poll()
    assert manager.serving.available() == {"m": [1]}
    assert configs.apply(config_of(entry("m", base, "model_version_policy { all {} }"))) == []
    manager.poll()
    assert manager.serving.available() == {"m": [1, 2, 3]}
    configs.apply(config_of(entry("m", base, "model_version_policy { latest { num_versions: 2 } }")))
    manager.poll()
    assert manager.serving.available() == {"m": [2, 3]}
    assert Client(manager).post("/v1/models/m/versions/2:predict", {"instances": [0]}) == (200, {"predictions": [2.0]})


def test_a_label_needs_a_version_that_is_available_and_moves_with_a_new_config(shop):
    manager, base = shop
    configs = ModelConfigs(manager)
    labels = "version_labels { key: 'canary' value: 3 } version_labels { key: 'stable' value: 2 }"
    both = "model_version_policy { latest { num_versions: 2 } }"
    with pytest.raises(
        ServingError, match=r"Request to assign label to version [23] of model m, which is not currently"
    ):
        configs.apply(config_of(entry("m", base, f"{both} {labels}")))
    configs.apply(config_of(entry("m", base, both)))
    manager.poll()
    configs.apply(config_of(entry("m", base, f"{both} {labels}")))
    client = Client(manager)
    assert client.post("/v1/models/m/labels/stable:predict", {"instances": [0]}) == (200, {"predictions": [2.0]})
    configs.apply(config_of(entry("m", base, f"{both} version_labels {{ key: 'stable' value: 3 }}")))
    assert client.post("/v1/models/m/labels/stable:predict", {"instances": [0]}) == (200, {"predictions": [3.0]})
    assert client.post("/v1/models/m/labels/canary:predict", {"instances": [0]})[0] == 400


def test_labels_for_unavailable_versions_can_be_allowed_while_they_are_unused(shop):
    manager, base = shop
    configs = ModelConfigs(manager, allow_unavailable_labels=True)
    configs.apply(config_of(entry("m", base, "version_labels { key: 'stable' value: 3 }")))
    manager.poll()
    assert Client(manager).post("/v1/models/m/labels/stable:predict", {"instances": [0]})[0] == 200
    with pytest.raises(ServingError, match="not currently available for inference"):
        configs.apply(config_of(entry("m", base, "version_labels { key: 'stable' value: 9 }")))


def test_a_removed_model_is_unloaded_and_stays_in_the_status(shop):
    manager, base = shop
    configs = ModelConfigs(manager)
    configs.apply(config_of(entry("m", base), entry("other", base)))
    manager.poll()
    configs.apply(config_of(entry("other", base)))
    manager.poll()
    assert Client(manager).post("/v1/models/m:predict", {"instances": [0]})[0] == 404
    assert states(manager)[0][1] in ("UNLOADING", "END")
    assert manager.serving.available() == {"other": [3]}
    configs.apply(config_of(entry("m", base), entry("other", base)))
    deadline = time.monotonic() + 10
    while "m" not in manager.serving.available() and time.monotonic() < deadline:
        manager.poll()
    assert manager.serving.available()["m"] == [3]


def test_a_new_model_that_cannot_be_loaded_is_named_with_the_reason(shop, tmp_path):
    manager, _ = shop
    configs = ModelConfigs(manager)
    (tmp_path / "bad" / "1").mkdir(parents=True)
    new = configs.apply(config_of(entry("bad", tmp_path / "bad"), entry("gone", tmp_path / "gone")))
    manager.poll()
    with pytest.raises(ServingError) as caught:
        configs.wait_for(new, lambda: False)
    assert caught.value.code is Code.UNKNOWN
    assert caught.value.message.startswith(
        "2 model(s) did not become available: {{{name: bad version: 1} due to error: FAILED_PRECONDITION: "
    )


def test_an_empty_config_changes_nothing(shop):
    manager, base = shop
    configs = ModelConfigs(manager)
    configs.apply(config_of(entry("m", base)))
    manager.poll()
    assert configs.apply(model_server_config_pb2.ModelServerConfig()) == []
    manager.poll()
    assert manager.serving.available() == {"m": [3]}


# The process, with everything switched on.


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("server")
    save_half_plus_two(base / "one", 1)
    save_half_plus_two(base / "two", 1, two=3.0)
    (base / "models.config").write_text(text_format.MessageToString(config_of(entry("one", base / "one"))))
    (base / "monitoring.config").write_text('prometheus_config { enable: true path: "/metrics" }')
    (base / "batching.config").write_text("max_batch_size { value: 16 } batch_timeout_micros { value: 500 }")
    flags = [
        f"--model_config_file={base / 'models.config'}",
        f"--monitoring_config_file={base / 'monitoring.config'}",
        "--enable_batching",
        f"--batching_parameters_file={base / 'batching.config'}",
        "--enable_grpc_healthcheck_service=true",
        "--rest_api_enable_cors_support=true",
    ]
    with running_server(*flags) as running:
        running.base = base
        yield running


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


def test_models_are_changed_by_a_reload_request(server, channel):
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    request = model_management_pb2.ReloadConfigRequest()
    with pytest.raises(grpc.RpcError) as caught:
        stub.HandleReloadConfigRequest(request, timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    request.config.CopyFrom(
        config_of(
            entry("one", server.base / "one", "version_labels { key: 'stable' value: 1 }"),
            entry("two", server.base / "two"),
        )
    )
    request.metric_names.append("/tensorflow/cc/saved_model/load_attempt_count")
    response = stub.HandleReloadConfigRequest(request, timeout=20)
    assert response.status.error_code == 0
    assert response.metric[0].name == "/tensorflow/cc/saved_model/load_attempt_count"
    for path in ("/v1/models/two:predict", "/v1/models/one/labels/stable:predict"):
        assert server.request("POST", path, b'{"instances": [0]}')[0] == 200


def test_metrics_count_requests_by_model_and_status(server):
    assert server.request("POST", "/v1/models/one:predict", b'{"instances": [0]}')[0] == 200
    assert server.request("POST", "/v1/models/none:predict", b'{"instances": [0]}')[0] == 404
    status, headers, page = server.request("GET", "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain")
    text = page.decode()
    assert "# TYPE :tensorflow:serving:request_count counter\n" in text
    assert '\n:tensorflow:serving:request_count{model_name="none",status="NOT_FOUND"} 1\n' in text
    assert (
        '\n:tensorflow:serving:request_latency_bucket{model_name="one",API="predict",entrypoint="REST",le="10"} '
        in text
    )
    assert ':tensorflow:serving:request_latency_count{model_name="one",API="predict",entrypoint="REST"} ' in text
    assert '\n:tensorflow:serving:batching_session:batch_size_count{model_name="one"} ' in text
    assert server.request("GET", "/metrics?x=1")[0] == 400
    assert server.request("GET", "/monitoring/prometheus/metrics")[0] == 404


def test_cors_headers_are_sent_when_asked_for(server):
    status, headers, body = server.request("OPTIONS", "/v1/models/one:predict", headers={"Origin": "https://shop"})
    assert (status, body) == (200, b"")
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Access-Control-Allow-Methods"] == "POST, GET"
    assert server.request("GET", "/v1/models/one")[1]["Access-Control-Allow-Headers"] == "Content-Type"


def test_the_health_service_says_serving_for_what_it_knows(channel):
    service = HealthService()
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=service._request.SerializeToString,
        response_deserializer=service._response.FromString,
    )
    for name in ("", "ModelService", "PredictionService"):
        assert check(service._request(service=name), timeout=10).status == 1
    with pytest.raises(grpc.RpcError) as caught:
        check(service._request(service="Other"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=service._request.SerializeToString,
        response_deserializer=service._response.FromString,
    )
    answers = watch(service._request(service=""), timeout=10)
    assert next(answers).status == 1
    answers.cancel()


def test_health_turns_false_at_the_end():
    async def asked():
        service = HealthService()
        watched = service.watch(service._request(service=""), None)
        answers = [await anext(watched)]
        service.stop()
        answers += [answer async for answer in watched]
        answers.append(await service.check(service._request(service=""), None))
        answers += [answer async for answer in service.watch(service._request(service=""), None)]
        return [answer.status for answer in answers]

    assert asyncio.run(asked()) == [1, 2, 2, 2]
