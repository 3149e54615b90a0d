"""Export: a finished run becomes the next version of a bundle, which TensorFlow Serving loads.

A bundle is a SavedModel directory ``MODELS/shop/N``. Beside the graph it holds, in ``assets.extra``, warm-up requests
(``tf_serving_warmup_requests``), golden requests with their answers, ``bundle.json`` (what it is), ``source`` (what it
was made from), and ``files.json`` (every file with its size and sha256), so that a server can refuse a version that is
incomplete.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_shop.bundle_source import write_source
from tfrs_shop.catalogue import Catalogue
from tfrs_shop.dataset import ShopData
from tfrs_shop.errors import UserError
from tfrs_shop.index import build_index
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.model_card import CARD_NAME, model_card
from tfrs_shop.run import RunInfo
from tfrs_shop.served.question import Samples
from tfrs_shop.served.questions import Questions
from tfrs_shop.served.shop import ServedShop, Serving
from tfrs_shop.served.tracing import one_optimizer_round
from tfrs_shop.whole_directory import move_to_number, partial_directory, writable

Say = Callable[[str], None]
BUNDLE_VERSION = 1
EXTRA = "assets.extra"
MODEL_NAME = "shop"
EXCLUSIONS = ("bought", "seen", "none")
# Where a larger share of what is bought was bought before, what is bought stays in the answers.
BOUGHT_AGAIN = 0.05
WARM_UP_USERS = 3


def export(
    model: ShopModel,
    data: ShopData,
    output: str | Path,
    index: str,
    serving: Serving,
    say: Say = print,
    validation: dict[str, float] | None = None,
) -> Path:
    """Write the next version below `output`, and return its directory.

    Args:
        model: trained.
        data: whose products and users are served.
        output: the model's directory; its sub-directories are the versions.
        index: a kind of `tfrs_shop.index.build_index`.
        serving: what the answers are like.
        say: takes one line of progress.
        validation: metrics of the run on its validation split, for the model card.

    Raises:
        UserError: the index cannot be built, or `output` cannot be written.
    """
    if serving.exclude not in EXCLUSIONS:
        raise UserError(f"--exclude {serving.exclude}: is none of {', '.join(EXCLUSIONS)}.")
    if serving.k < 1:
        raise UserError(f"--k {serving.k}: must be at least 1.")
    output = Path(output)
    version = next_version(output)  # now, so that a wrong `output` costs no work; another export may take it
    say(f"Embedding {data.catalogue.size:,} products.")
    vectors = model.product_vectors().numpy()
    with writable(output), partial_directory(output.absolute() / str(version)) as staging, one_optimizer_round():
        assets = {"products": staging / "product_ids.txt", "users": staging / "user_ids.txt"}
        assets["products"].write_bytes(b"\n".join(data.values["product_id"]) + b"\n")
        user_ids = data.users().get("user_id", [])
        assets["users"].write_bytes(b"\n".join(user_ids or [b" "]) + b"\n")
        shop = ServedShop(model, data, vectors, serving, {name: str(path) for name, path in assets.items()})
        say(f"Building the index: {index}.")
        queries = sample_queries(shop, user_ids, vectors)
        shop.retrieval.index, recall = build_index(index, vectors[1:], queries, shop.retrieval.most)
        say("Saving the graph with its signatures.")
        questions = Questions(shop, model, data)
        signatures = questions.signatures()
        tf.saved_model.save(
            questions,
            str(staging),
            signatures=signatures,
            options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"]),
        )
        for path in assets.values():
            path.unlink()
        extra = staging / EXTRA
        extra.mkdir()
        write_source(extra, model, data)
        say("Asking the bundle its warm-up and golden requests.")
        _write_requests(extra, questions, signatures, data.catalogue, user_ids)
        about = {
            "format": "tfrs_shop bundle",
            "version": BUNDLE_VERSION,
            "index": {"kind": index, "recall@10": recall},
            "serving": dataclasses.asdict(serving),
            "products": data.catalogue.size,
            "users": len(user_ids),
            "validation": validation or {},
        }
        card = model_card(model, data, about, signatures, validation or {})
        (extra / CARD_NAME).write_text(card, encoding="utf-8")
        (extra / "bundle.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        write_file_list(staging)
        written = move_to_number(staging, output, lambda: next_version(output))
    say(f"Wrote {written}: index {index}, recall@10 {recall:.4f} against exact search.")
    return written


def usual_exclusion(info: RunInfo) -> str:
    """Return what answers leave out where nobody says: what the user bought, unless it is bought again in this shop."""
    return "none" if info.bought_again > BOUGHT_AGAIN else "bought"


def sample_queries(shop: ServedShop, user_ids: list[bytes], vectors: np.ndarray, most: int = 512) -> np.ndarray:
    """Return query vectors ``[queries, width]`` of users; product vectors where there are none."""
    if not user_ids:
        return vectors[1 : most + 1]
    places = np.linspace(0, len(user_ids) - 1, min(most, len(user_ids))).round().astype(int)
    rows, _ = shop.stored(tf.constant([user_ids[place] for place in places]))
    return shop.query(rows).numpy()


def next_version(output: Path) -> int:
    """Return 1 + the largest version below `output`.

    Raises:
        UserError: `output` is a file, or holds something else than versions.
    """
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output}: is a file; give the model's directory.")
    names = [path.name for path in output.iterdir()] if output.exists() else []
    if "saved_model.pb" in names or "run.json" in names or "dataset.json" in names:
        raise UserError(f"--output {output}: is no model directory; give one such as models/{MODEL_NAME}.")
    return 1 + max([int(name) for name in names if name.isdecimal()], default=0)


def samples_of(catalogue: Catalogue, user_ids: list[bytes]) -> Samples:
    """Return what sample requests are made of."""
    products = catalogue.product_id[1:]
    return Samples(
        users=[*user_ids[:WARM_UP_USERS], b"nobody"],
        products=[bytes(products[place % len(products)]) for place in range(3)],
        category=bytes(catalogue.category_name[1]),
        query=bytes(catalogue.title[1]),
        # When the last product has come on sale.
        now=max(1, int(catalogue.on_sale_from.max())),
    )


def products_change(catalogue: Catalogue, now: int) -> bool:
    """Say whether a product comes on sale or goes after `now`, in ms since 1970: answers will change with the clock."""
    return bool(((catalogue.on_sale_from > now) | (catalogue.on_sale_to > now)).any())


def write_file_list(directory: Path) -> None:
    """Write ``assets.extra/files.json``: every file of the bundle with its size and sha256."""
    files = {
        str(path.relative_to(directory)): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    (directory / EXTRA / "files.json").write_text(json.dumps({"files": files}, indent=2) + "\n", encoding="utf-8")


def _write_requests(
    extra: Path, questions: Questions, signatures: dict[str, Any], catalogue: Catalogue, user_ids: list[bytes]
) -> None:
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    samples = samples_of(catalogue, user_ids)
    changing = products_change(catalogue, int(time.time() * 1000))
    warm_up = tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests"))
    golden = tf.io.TFRecordWriter(str(extra / "golden_requests"))
    with warm_up, golden:
        for question in questions.all:
            for name, inputs in question.requests(samples):
                request = predict_pb2.PredictRequest()
                request.model_spec.name = MODEL_NAME
                request.model_spec.signature_name = name
                for key, value in inputs.items():
                    request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
                log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
                warm_up.write(log.SerializeToString())
                # A version must not be refused because time has passed.
                if question.answers_for_ever or not changing:
                    for key, value in signatures[name](**inputs).items():
                        log.predict_log.response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
                    golden.write(log.SerializeToString())
