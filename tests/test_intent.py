"""What a query is for: the rules by hand, and the article's phone on a small made shop."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from bundle_support import only_questions

from tfrs_shop.intent_examples import PURPOSES, Step, intents_of
from tfrs_shop.model.intent_head import IntentHead, query_pieces

LEAF = {b"phone": 1, b"phone2": 1, b"case": 2, b"lamp": 3}


class Namer:
    """Every query here names the phones."""

    leaf = LEAF

    def named(self, query: bytes) -> int:
        return 1 if query == b"zeta" else 0


def steps(*events: str) -> list[Step]:
    """Return steps of one session from words like "view phone" and "search zeta"."""
    made = []
    for time, event in enumerate(events):
        kind, what = event.encode().split()
        searched = kind == b"search"
        made.append(Step(kind, b"" if searched else what, what if searched else b"", time * 1000, b"s"))
    return made


@pytest.mark.parametrize(
    ("events", "category", "purpose"),
    [
        (("view phone", "view lamp"), 1, "browse"),
        (("view phone", "view phone2"), 1, "compare"),
        (("view phone", "view phone2", "cart phone2", "purchase phone2"), 1, "buy"),
        (("view phone", "view case", "purchase case"), 2, "accessory"),
        (("view case", "view lamp"), 2, "accessory"),
        (("view phone", "search lamp", "view lamp", "purchase phone"), 1, "buy"),
        (("view phone", "cart phone2"), 1, "compare"),
    ],
)
def test_the_purpose_and_the_category_are_what_followed(events: tuple[str, ...], category: int, purpose: str) -> None:
    found = next(intents_of(steps("search zeta", *events), Namer()))
    assert (found.query, found.category, PURPOSES[found.purpose]) == (b"zeta", category, purpose)


def test_a_search_after_which_nothing_is_opened_tells_nothing() -> None:
    assert [intent.query for intent in intents_of(steps("search zeta", "search lamp", "view lamp"), Namer())] == [
        b"lamp"
    ]
    later = steps("search zeta")[0], Step(b"view", b"phone", b"", 1000, b"t")
    assert list(intents_of(later, Namer())) == []


def test_words_with_a_slip_share_pieces_and_any_bytes_are_read() -> None:
    texts = ["Zeta-Phone", "zeta phone", "zeta phnoe", "lamp", "", "🎁🎉", "x" * 10_000, b"\xff\xfe zeta"]
    found = query_pieces(tf.constant(texts))[0].numpy()
    bags = [set(row.tolist()) - {0} for row in found]
    assert bags[0] == bags[1]
    assert len(bags[1] & bags[2]) >= 6
    assert not bags[1] & bags[3]
    assert bags[4] == bags[5] == set()
    assert len(bags[7] & bags[1]) == 5  # "<zeta>" and its four triples
    assert found.shape[1] <= 160


def test_an_untrained_head_says_that_it_knows_nothing() -> None:
    head = IntentHead(categories=3)
    assert head.knows == (False, False)
    category, purpose = head(*query_pieces(tf.constant(["", "🎁"])))
    assert np.isfinite(category).all()
    assert np.isfinite(purpose).all()


@pytest.fixture(scope="module")
def phone_bundle(tmp_path_factory: pytest.TempPathFactory):
    """A bundle of a shop with two phones, their cases and magazines about them."""
    from pipelines.preprocess import run
    from tfrs_shop.config import Config, TowerConfig, TrainingConfig
    from tfrs_shop.export import Serving, export
    from tfrs_shop.run import load_run
    from tfrs_shop.training import train

    base = tmp_path_factory.mktemp("phones")
    write_phone_shop(base)
    files = ["--events", str(base / "events.csv"), "--products", str(base / "products.jsonl")]
    run([*files, "--output", str(base / "data"), "--text_encoder", "none", "--shards", "1"], lambda line: None)
    config = Config(
        towers=TowerConfig(width=8, layers=1, max_history=10),
        training=TrainingConfig(epochs=2, batch_size=32, warmup_steps=1, learning_rate=1e-2, average=0.9),
    )
    train(base / "data", base / "run", config, lambda line: None)
    model, data, _ = load_run(base / "run")
    with only_questions("query_intent", "search", "predict_behavior"):
        export(model, data, base / "models" / "shop", "brute_force", Serving(2, "none"), lambda line: None)
    return tf.saved_model.load(str(base / "models" / "shop" / "1"))


def write_phone_shop(base: Path) -> None:
    """Of those who type a phone's name 5 of 10 buy it, 3 its case, 2 look at what is written about it."""
    kinds = {"Phones": "{}", "Phone cases": "case for {}", "Magazines": "{} magazine"}
    with (base / "products.jsonl").open("w") as lines:
        for name in ("Zeta X1", "Omega 7"):
            for kind, title in kinds.items():
                product = {"product_id": f"{name} {kind}", "title": title.format(name), "category": [kind], "brand": ""}
                lines.write(json.dumps(product) + "\n")
    with (base / "events.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(("user_id", "product_id", "event_type", "timestamp", "session_id", "query"))
        for user in range(80):
            name = ("Zeta X1", "Omega 7")[user % 2]
            # Two sessions each, then three views, the last of which are held out.
            for visit in range(2):
                case = (user // 2 + 5 * visit) % 10
                query, kind = (name.lower(), "Phones") if case < 5 else (name.lower(), "Phone cases")
                if case >= 8:
                    query, kind = name.lower() + " news", "Magazines"
                start, session = 1_600_000_000 + 10_000 * visit + user, f"{user}-{visit}"
                writer.writerow((user, "", "search", start, session, query))
                writer.writerow((user, f"{name} {kind}", "view", start + 10, session, ""))
                if case < 8:
                    writer.writerow((user, f"{name} {kind}", "purchase", start + 20, session, ""))
            for view in range(3):
                writer.writerow((user, f"{name} Phones", "view", 1_600_100_000 + view, f"{user}-last", ""))


def test_a_phones_name_may_mean_the_phone_its_case_or_its_news(phone_bundle) -> None:
    queries = tf.constant(["zeta x1", "zeta x1 news", "Zeta X1!", "zetta x1"])
    said = phone_bundle.signatures["query_intent"](query=queries)
    names, chances = said["category"].numpy(), said["category_probability"].numpy()
    by_name = [
        dict(zip(row.tolist(), values.tolist(), strict=True)) for row, values in zip(names, chances, strict=True)
    ]
    # Of those who type the bare name 5 bought a phone and 3 a case.
    assert by_name[0][b"Phones"] == pytest.approx(0.62, abs=0.12)
    assert by_name[0][b"Phone cases"] == pytest.approx(0.38, abs=0.12)
    assert names[1, 0] == b"Magazines"
    assert by_name[2] == pytest.approx(by_name[0], abs=1e-5)
    assert names[3, 0] == b"Phones"
    purposes = dict(zip(said["purpose"].numpy()[0].tolist(), said["purpose_probability"].numpy()[0], strict=True))
    assert purposes[b"buy"] == pytest.approx(0.62, abs=0.12)
    assert purposes[b"accessory"] == pytest.approx(0.38, abs=0.12)


def test_the_phone_shop_predicts_behavior_too_and_bad_input_is_answered(phone_bundle) -> None:
    said = phone_bundle.signatures["predict_behavior"](
        history_product_id=tf.constant([["Zeta X1 Phones", "no such product"], ["", ""]]),
        history_event_type=tf.constant([["view", "teleport"], ["", ""]]),
    )
    assert sorted(said) == [
        "category",
        "category_probability",
        "event_type",
        "event_type_probability",
        "purchase_probability",
    ]
    assert all(np.isfinite(value).all() for name, value in said.items() if value.dtype == tf.float32)
    assert said["event_type_probability"].numpy().sum(1) == pytest.approx([1.0, 1.0], abs=1e-5)
    strange = phone_bundle.signatures["query_intent"](query=tf.constant(["", "🎁🎉", "x" * 10_000, b"\xff\xfe"]))
    assert np.isfinite(strange["category_probability"]).all()
    assert np.isfinite(strange["purpose_probability"]).all()
