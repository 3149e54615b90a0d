"""Write docs/api.md: ``python -m docs_tools.api_page``, or ``make api``.

A small shop is simulated, preprocessed with BERT, trained and exported (some five minutes); the embedded server is
started on it, and every signature is asked what the page then shows. Nothing of an answer is edited.
"""

import argparse
import http.client
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from docs_tools.api_texts import INPUTS, QUESTIONS, Question

K = 3
PAGE = Path(__file__).parents[1] / "docs" / "api.md"
SETTINGS = "towers:\n  width: 32\n  dropout: 0.2\ntraining:\n  epochs: 8\n  batch_size: 32\n"
HEAD = """# Every question, with its answer

A bundle answers each question by a signature of its own. All of them are asked in the same way:

- **REST**: `POST /v1/models/shop:predict` with `{"signature_name": ..., "instances": [{...}, ...]}`, one object a
  row; or with `"inputs"` in place of `"instances"`, each input as a column of rows. TensorFlow Serving's rule:
  **every** input in every request, there are no defaults; all rows of a request have lists of the same length, padded
  with `""`.
- **gRPC**: `Predict` of `tensorflow.serving.PredictionService`, the same names of signatures, inputs and outputs.
- **Command line**: `tfrs-shop query ...`, as given below; `--json` prints the answer as JSON, `--url` names the
  server.
- **Python**: `tfrs_shop.client.ShopClient`, standard library alone ([reference](reference/serving.md)).

Shapes below are of a request: `[batch]` is one value a row, `[batch, n]` a list a row. `k` is `export --k`, 20 by
default. Ids that are unknown, empty lists and empty texts are answered, with what is known without them or with empty
places (id `""`, score 0); values of a wrong type, a missing input, and what is named below are a 400 that says why.
All numbers are finite.

Every answer here is that of the embedded server to the command above it, unedited. The bundle is small, with `--k 3`:
`python -m docs_tools.api_page` makes it and writes this page. `tfrs-shop inspect models/shop/1` lists the signatures
of yours; which ones a bundle has follows from its data: no search events, for example, and `query_intent` has no
`purpose`.

"""


def main() -> None:
    """Build the shop, unless a bundle is given, and write the page."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="a version of the small shop that was built before")
    parser.add_argument("--output", type=Path, default=PAGE)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        bundle = given.bundle or _built(Path(work))
        with _server(bundle) as port:
            given.output.write_text(page(bundle, port), encoding="utf-8")


def page(bundle: Path, port: int) -> str:
    """Return the page for `bundle`, which is served at `port`."""
    from tfrs_shop.inspection import inspect

    signatures = inspect(bundle)["signatures"]
    left = set(signatures) - {one.name for question in QUESTIONS for one in question.signatures}
    if left:
        raise SystemExit(f"docs_tools/api_texts.py says nothing of {', '.join(sorted(left))}.")
    names = _examples(bundle)
    return HEAD + "\n".join(_of_question(question, signatures, names, port) for question in QUESTIONS)


def _of_question(question: Question, signatures: dict[str, Any], names: dict[str, str], port: int) -> str:
    """Return a section: the question, its outputs, and each of its signatures with an answer."""
    lines = [f"## {question.title}", "", question.about, ""]
    for signature in question.signatures:
        lines += [f"### `{signature.name}`", "", signature.about, "", "| input | type | shape | is | not used |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        for name, (dtype, shape) in _tensors(signatures[signature.name]["inputs"]):
            lines.append(f"| `{name}` | {dtype} | {shape} | {' | '.join(INPUTS[name])} |")
        request = {"instances": [_filled(signature.inputs, names)]}
        if signature.name != "serving_default":
            request = {"signature_name": signature.name, **request}
        lines += ["", "```bash", *_curl(request), f"tfrs-shop query {signature.query.format(**names)}", "```", ""]
        lines += ["```json", ask(port, request).rstrip(), "```", ""]
    outputs = {name: tensor for one in question.signatures for name, tensor in signatures[one.name]["outputs"].items()}
    lines += ["| output | type | shape | is |", "| --- | --- | --- | --- |"]
    for name, (dtype, shape) in _tensors(outputs):
        lines.append(f"| `{name}` | {dtype} | {shape} | {question.outputs[name]} |")
    return "\n".join([*lines, ""])


def _tensors(described: dict[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Return the names of inputs or outputs, with type and shape in words."""
    for name, tensor in sorted(described.items()):
        rest = ["n" if size is None else "k" if size == K else str(size) for size in tensor["shape"][1:]]
        yield name, (tensor["dtype"], f"`[{', '.join(['batch', *rest])}]`")


def _curl(request: dict[str, Any]) -> list[str]:
    body = json.dumps(request, ensure_ascii=False).replace("'", "'\\''")
    return [f"curl -d '{body}' \\", "    http://127.0.0.1:8501/v1/models/shop:predict"]


def _filled(value: Any, names: dict[str, str]) -> Any:
    """Return an example with the names of the shop in the places of ``{user}`` and the like."""
    if isinstance(value, dict):
        return {key: _filled(entry, names) for key, entry in value.items()}
    if isinstance(value, list):
        return [_filled(entry, names) for entry in value]
    return value.format(**names) if isinstance(value, str) else value


def _examples(bundle: Path) -> dict[str, str]:
    """Return a user with a short history, products, a basket and a query of the shop that tell something."""
    from tfrs_shop.dataset import open_data

    data = open_data(bundle / "assets.extra" / "source" / "data")
    users = data.users()
    lengths = [
        (sum(map(bool, row)), user.decode())
        for user, row in zip(users["user_id"], users["history_product_id"], strict=True)
    ]
    known = {id_.decode(): place for place, id_ in enumerate(data.catalogue.product_id.tolist()) if id_}
    category = data.catalogue.category_name.tolist()
    bags = [id_ for id_, place in known.items() if category[place].decode().endswith("Laptop Bags")]
    first, second = bags[:2]
    other = next(
        id_ for id_, place in known.items() if category[place].decode().startswith("Electronics") and id_ not in bags
    )
    return {
        "user": min(entry for entry in lengths if entry[0] >= 4)[1],
        "first": first,
        "second": second,
        "third": other,
        "basket": first,
        "department": "Electronics",
        "query": "watreproof laptop bag",
    }


def ask(port: int, request: dict[str, Any]) -> str:
    """Return the text of the server's answer; end with its words where it is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v1/models/shop:predict", json.dumps(request).encode("utf-8"))
    response = connection.getresponse()
    text = response.read().decode("utf-8")
    connection.close()
    if response.status != 200:
        raise SystemExit(f"{json.dumps(request)}: {response.status} {text}")
    return text


def _built(work: Path) -> Path:
    """Build the small shop in `work` with the commands of the quick start, and return its bundle."""
    (work / "train.yaml").write_text(SETTINGS, encoding="utf-8")
    raw = [
        f"--events={work}/raw/events.csv.gz",
        f"--products={work}/raw/products.jsonl.gz",
        f"--users={work}/raw/users.csv.gz",
    ]
    shop = ["--users", "300", "--products", "240", "--days", "40"]
    for step in (
        ["data", "simulate", "--output", f"{work}/raw", *shop],
        ["preprocess", *raw, "--output", f"{work}/data"],
        ["train", "--data", f"{work}/data", "--output", f"{work}/run", "--config", f"{work}/train.yaml"],
        ["export", "--run", f"{work}/run", "--output", f"{work}/models/shop", "--index", "brute_force", "--k", str(K)],
    ):
        subprocess.run([sys.executable, "-m", "tfrs_shop.cli", *step], check=True)
    return work / "models" / "shop" / "1"


@contextmanager
def _server(bundle: Path) -> Iterator[int]:
    """Serve `bundle` at a free port, and stop the server at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    flags = [
        "--model_name=shop",
        f"--model_base_path={bundle.parent.absolute()}",
        f"--rest_api_port={port}",
        "--port=0",
    ]
    process = subprocess.Popen([sys.executable, "-m", "serving.model_server", *flags])
    try:
        while not _ready(port):
            if process.poll() is not None:
                raise SystemExit("the server has ended; its own lines above say why.")
            time.sleep(0.5)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/v1/models/shop")
        return b"AVAILABLE" in connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    main()
