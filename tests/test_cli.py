"""The command line and the client: exit codes, messages, and answers through a real server."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tfrs_shop.client import Filter, ServerError, ShopClient
from tfrs_shop.errors import UserError


def tfrs_shop(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tfrs_shop.cli", *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def server_log(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("server") / "log"


@pytest.fixture(scope="module")
def server(bundle, server_log):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ["--model_name=shop", f"--model_base_path={bundle.parent}", f"--rest_api_port={port}", "--port=0"]
    with server_log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.model_server", *flags],
            stderr=log,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0"},
        )
    client = ShopClient(f"127.0.0.1:{port}")
    client.wait_until_ready()
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    assert process.wait(30) == 0


@pytest.mark.usefixtures("server")
def test_a_server_that_has_asked_all_warm_up_requests_has_logged_no_warning_of_the_graph_optimizer(server_log) -> None:
    # What it says of operations whose memory it cannot tell.
    assert "PredictCost" not in server_log.read_text()


def test_help_names_every_step() -> None:
    result = tfrs_shop("--help")
    assert result.returncode == 0
    for command in ("preprocess", "train", "evaluate", "export", "serve", "query", "data", "demo"):
        assert command in result.stdout


def test_help_imports_neither_tensorflow_nor_beam() -> None:
    code = "import sys; import tfrs_shop.cli; print([m for m in ('tensorflow', 'apache_beam') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["preprocess", "--output", "x"], "--events and --products are both missing"),
        (["preprocess", "--events", "nothing.csv", "--output", "x"], "nothing.csv: no such file"),
        (["train", "--data", "nothing", "--output", "x"], "nothing: no such directory"),
        (
            ["train", "--data", "nothing", "--output", "x", "--config", "nothing.yaml"],
            "--config nothing.yaml: no such file",
        ),
        (["evaluate", "--run", "nothing"], "nothing: is no run directory"),
        (["export", "--run", "nothing", "--output", "x"], "nothing: is no run directory"),
        (["query", "recommend"], "give either --user or --history"),
        (["query", "recommend", "--user", "u", "--url", "127.0.0.1:1"], "no server answers there"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_exit_code_2(arguments, message, tmp_path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tfrs_shop.cli", *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_setting_suggests_the_nearest(shop, tmp_path) -> None:
    (tmp_path / "c.yaml").write_text("training:\n  epoch: 3\n")
    result = tfrs_shop(
        "train", "--data", str(shop.data), "--output", str(tmp_path / "r"), "--config", str(tmp_path / "c.yaml")
    )
    assert result.returncode == 2
    assert "unknown setting 'epoch'. Did you mean 'epochs'?" in result.stderr


def test_evaluate_prints_and_writes_the_metrics(run, tmp_path) -> None:
    result = tfrs_shop(
        "evaluate", "--run", str(run), "--split", "test", "--exclude-seen", "--json", str(tmp_path / "m.json")
    )
    assert result.returncode == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert f"recall@10: {metrics['recall@10']:.4f}" in result.stdout
    assert metrics["protocol"] == "exclude-seen"


def test_query_prints_titles_and_scores(server, trained) -> None:
    _, data = trained
    user = data.users()["user_id"][0].decode()
    shown = tfrs_shop("query", "recommend", "--user", user, "--k", "3", "--url", server)
    assert shown.returncode == 0
    assert len(shown.stdout.splitlines()) == 3
    as_json = tfrs_shop("query", "recommend", "--user", user, "--json", "--url", server)
    first = json.loads(as_json.stdout)[0]
    assert first["product_id"] in shown.stdout.splitlines()[0]
    assert first["title"] in shown.stdout.splitlines()[0]


def test_the_client_reaches_every_signature(server, trained) -> None:
    _, data = trained
    client = ShopClient(server)
    user = data.users()["user_id"][0].decode()
    products = [product.decode() for product in data.values["product_id"][:3]]
    assert len(client.recommend(user)) == 5
    assert len(client.recommend("nobody")) == 5
    assert len(client.recommend_for_history(products)) == 5
    assert products[0] not in {answer.product_id for answer in client.similar(products[0])}
    assert {answer.product_id for answer in client.rank(user, products)} == set(products)
    for answer in (client.predict_behavior(products), client.predict_behavior(user_id=user)):
        assert sum(answer["event_type_probability"]) == pytest.approx(1.0, abs=1e-4)
        assert 0.0 < answer["purchase_probability"] < 1.0
    assert set(client.query_intent("desk lamp")["purpose"]) == {"browse", "compare", "buy", "accessory"}
    assert set(client.metadata()["metadata"]["signature_def"]["signature_def"]) >= {
        "serving_default",
        "similar",
        "rank",
    }


def test_client_and_command_filter_and_drop_empty_places(server, trained) -> None:
    _, data = trained
    client = ShopClient(server)
    user = data.users()["user_id"][0].decode()
    best, second, *_ = (answer.product_id for answer in client.recommend(user))
    assert client.recommend(user, Filter())[0].product_id == best
    assert client.recommend(user, Filter(exclude_products=[best]))[0].product_id == second
    assert client.recommend(user, Filter(category="No such")) == []
    history = client.recommend_for_history([best], only=Filter(exclude_seen=True, price_min=0.0))
    assert len(history) == 5
    assert best not in {answer.product_id for answer in history}
    command = ("query", "recommend", "--user", user, "--url", server, "--exclude-products", best)
    assert second in tfrs_shop(*command, "--price-min", "0").stdout.splitlines()[0]


def test_the_server_refuses_in_its_own_words(server) -> None:
    with pytest.raises(ServerError, match="the server answered 400"):
        ShopClient(server).predict({"signature_name": "nonsense", "inputs": {"user_id": ["u"]}})
    with pytest.raises(ServerError, match="the server answered 404"):
        ShopClient(server, model="nonsense").predict({"inputs": {"user_id": ["u"]}})


def test_event_types_must_fit_the_history(server) -> None:
    with pytest.raises(UserError, match="2 products but 1 event types"):
        ShopClient(server).recommend_for_history(["a", "b"], ["view"])


@pytest.mark.parametrize("url", ["ftp://shop", "http://", "http://127.0.0.1:abc", "http://[::1"])
def test_an_address_that_is_none_is_said(url: str) -> None:
    with pytest.raises(UserError, match="is no address of a server"):
        ShopClient(url)


def test_one_value_in_place_of_a_list_is_a_400_and_does_not_end_the_server(server) -> None:
    client = ShopClient(server)
    given = {"string": "bag", "float32": 0.5, "int64": 1, "bool": True}
    signatures = client.metadata()["metadata"]["signature_def"]["signature_def"]
    assert len(signatures) > 15
    for name, signature in signatures.items():
        types = {key: entry["dtype"].removeprefix("DT_").lower() for key, entry in signature["inputs"].items()}
        if not types:  # what SavedModel initialises itself with
            continue
        scalars = {key: given.get(kind, 0.5) for key, kind in types.items()}
        with pytest.raises(ServerError) as refused:
            client.predict({"signature_name": name, "inputs": scalars})
        assert refused.value.status == 400, name
        assert "is not compatible with expected shape" in str(refused.value), name
    assert client.status()["model_version_status"][0]["state"] == "AVAILABLE"
