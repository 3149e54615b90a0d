"""Refresh: a bundle becomes its next version for another catalogue, from what it carries alone."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from bundle_support import ask, only_questions
from conftest import quiet
from preprocess_support import preprocess as preprocess_without_text
from preprocess_support import records, write_csv, write_jsonl

from pipelines.preprocess import run as preprocess
from pipelines.refresh import run as refresh_data
from tfrs_shop.bundle_source import data_directory, load_source
from tfrs_shop.config import Config, TextConfig, TowerConfig, TrainingConfig
from tfrs_shop.errors import UserError
from tfrs_shop.export import Serving, export
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.refresh import refresh
from tfrs_shop.run import build, load_run
from tfrs_shop.text import EncoderHandles, encode_texts
from tfrs_shop.text.bert import BertConfig, BertEncoder
from tfrs_shop.text.preprocessor import BertPreprocessor
from tfrs_shop.training import train

WORDS = ["red", "blue", "green", "cup", "bowl", "plate", "lid", "big", "small", "acme", "kitchen", "tea", ">"]
COLOURS, THINGS, SIZES = ("red", "blue", "green"), ("cup", "bowl", "plate", "lid"), ("big", "small")


def product(place: int, **changes: Any) -> dict[str, Any]:
    colour, thing, size = COLOURS[place % 3], THINGS[place // 3 % 4], SIZES[place // 12]
    return {
        "product_id": f"P{place:02}",
        "title": f"{size} {colour} {thing}",
        "category": ["kitchen", thing],
        "brand": "acme" if place % 2 else "",
        "price": 5.0 + place,
        **changes,
    }


CATALOGUE = [product(place) for place in range(24)]


def event(user: str, place: int, position: int, kind: str = "view") -> dict[str, Any]:
    return {"user_id": user, "product_id": f"P{place:02}", "event_type": kind, "position": position}


EVENTS = [
    event(f"U{user}", (user * 5 + step * (1 + user % 2)) % 24, step, "purchase" if step == 3 else "view")
    for user in range(20)
    for step in range(8)
]


@pytest.fixture(scope="module")
def handles(tmp_path_factory) -> EncoderHandles:
    path = tmp_path_factory.mktemp("hub")
    tf_keras.utils.set_random_seed(1)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", *WORDS]
    sizes = {"width": 8, "layers": 1, "heads": 2, "feed_forward_width": 16, "max_positions": 64, "dropout": 0.0}
    encoder = BertEncoder(BertConfig(len(words), **sizes))
    for variable in encoder.weights:
        variable.assign_add(tf.random.normal(variable.shape, stddev=0.3))
    encoder.export(path / "encoder")
    BertPreprocessor(words).export(path / "preprocessor")
    return EncoderHandles(str(path / "preprocessor"), str(path / "encoder"))


@pytest.fixture(scope="module")
def old(handles, tmp_path_factory) -> Path:
    """A bundle whose data and run directories are gone."""
    base = tmp_path_factory.mktemp("old")
    flags = ["--events", write_csv(base / "e.csv", EVENTS), "--products", write_jsonl(base / "p.jsonl", CATALOGUE)]
    encoder = ["--text_encoder", handles.encoder, "--text_preprocessor", handles.preprocessor, "--text_length", "16"]
    preprocess([*map(str, flags), "--output", str(base / "data"), *encoder, "--shards", "2"], quiet)
    config = Config(
        towers=TowerConfig(width=16, layers=1, max_history=8, dropout=0.0),
        training=TrainingConfig(epochs=2, batch_size=8, warmup_steps=2, log_every=1000),
    )
    train(base / "data", base / "run", config, quiet)
    model, data, _ = load_run(base / "run")
    model.transition_weight = 0.3
    with only_questions("recommend", "similar"):
        bundle = export(model, data, base / "shop", "brute_force", Serving(30, "bought"), quiet)
    shutil.rmtree(base / "data")
    shutil.rmtree(base / "run")
    return bundle


# Two are gone, one has another title, three are new: of a known and of an unknown category, and without any text.
NEW = [
    *(product(place) for place in range(24) if place not in (3, 8, 5)),
    product(5, title="big blue bowl lid"),
    product(24 % 24, product_id="N1", title="small green cup lid"),
    product(1, product_id="N2", category=["garden"], brand="nobody", title="red plate"),
    {"product_id": "N3", "title": "", "category": [], "brand": "", "price": None},
]
IDS = {row["product_id"] for row in NEW}


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def new(old, said, tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("new")
    products = write_jsonl(base / "p.jsonl", NEW)
    return refresh(old, ["--products", str(products)], old.parent, said.append)


@pytest.fixture(scope="module")
def answers(new) -> Any:
    loaded = tf.saved_model.load(str(new))
    return {**loaded.signatures, "keep": loaded}


def test_the_next_version_is_written_with_the_settings_of_the_bundle(old, new) -> None:
    assert (old.name, new.name) == ("1", "2")
    assert sorted(path.name for path in old.parent.iterdir()) == ["1", "2"]
    about = json.loads((new / "assets.extra" / "bundle.json").read_text())
    assert about["products"] == len(NEW)
    assert about["serving"] == {"k": 30, "exclude": "bought"}
    assert about["index"] == {"kind": "brute_force", "recall@10": 1.0}


def test_only_texts_that_are_new_are_encoded(said) -> None:
    # P05's changed title, N1 and N2, and the empty text of N3.
    assert any("4 texts were new and encoded" in line for line in said)


def test_removed_products_never_appear_and_new_ones_do(answers) -> None:
    everything = ask(answers, "recommend_for_history", history_product_id=[["P01"]], history_event_type=[["view"]])
    assert set(everything["product_id"][0]) == {value.encode() for value in IDS}
    for user in range(20):
        answer = ask(answers, "recommend", user_id=[f"U{user}"])
        assert not {b"P03", b"P08"} & set(answer["product_id"][0])
    near = ask(answers, "similar", product_id=["N1"])["product_id"][0]
    assert near[0] != b""
    assert b"N1" not in near


def test_products_that_did_not_change_keep_their_vectors_and_new_ones_have_no_id_part(old, new) -> None:
    def vectors(bundle: Path) -> tuple[dict[bytes, np.ndarray], Any]:
        model, data = load_source(bundle, bundle / "assets.extra" / "source" / "data")
        return dict(zip(data.catalogue.product_id, model.product_vectors().numpy(), strict=True)), (model, data)

    before, _ = vectors(old)
    after, (model, data) = vectors(new)
    for value in IDS - {"P05", "N1", "N2", "N3"}:
        np.testing.assert_allclose(after[value.encode()], before[value.encode()], atol=1e-6)
    assert not np.allclose(after[b"P05"], before[b"P05"], atol=1e-3)
    place = {value.decode(): place for place, value in enumerate(data.catalogue.product_id)}
    assert [data.catalogue.embedding[place[name]] for name in ("N1", "N2", "N3")] == [0, 0, 0]
    assert data.catalogue.brand[place["N2"]] == 0
    assert data.catalogue.category[place["N2"]].tolist() == [0, 0]
    assert model.product_tower.products == 24


def test_new_text_vectors_are_the_encoders(new, handles) -> None:
    rows = {
        row["product_id"]: row["text_vector"] for row in records(new / "assets.extra" / "source" / "data", "products")
    }
    wanted = encode_texts(
        ["small green cup lid. kitchen > cup", "big red cup. kitchen > cup"], handles, sequence_length=16
    )
    np.testing.assert_allclose(rows["N1"], wanted[0], atol=1e-5)
    np.testing.assert_allclose(rows["P00"], wanted[1], atol=1e-5)


@pytest.mark.usefixtures("few_questions")
def test_a_tuned_encoder_encodes_the_new_catalogue(old, tmp_path) -> None:
    frozen, data = load_source(old, data_directory(old))
    model = ShopModel(data, dataclasses.replace(frozen.config, text=TextConfig(tuning="whole")))
    build(model, data)
    for variable in model.text.encoder.trainable_variables:
        variable.assign_add(tf.random.normal(variable.shape, stddev=0.5, seed=3))
    model.text.renew()
    before = dict(zip(data.catalogue.product_id, model.product_vectors().numpy(), strict=True))
    bundle = export(model, data, tmp_path / "shop", "brute_force", Serving(30, "bought"), quiet)
    arguments = ["--products", str(write_jsonl(tmp_path / "p.jsonl", NEW))]
    renewed = refresh(bundle, arguments, tmp_path / "shop", quiet)
    again, data = load_source(renewed, data_directory(renewed))
    after = dict(zip(data.catalogue.product_id, again.product_vectors().numpy(), strict=True))
    for value in IDS - {"P05", "N1", "N2", "N3"}:
        np.testing.assert_allclose(after[value.encode()], before[value.encode()], atol=1e-5)
    row = data.catalogue.product_id.tolist().index(b"N1")
    wanted = model.text.encoder(tf.constant(["small green cup lid. kitchen > cup"]), training=False)
    np.testing.assert_allclose(again.text.vectors[row], wanted[0], atol=1e-5)
    assert not np.allclose(again.text.vectors[row], data.catalogue.text_vector[row], atol=1e-2)


def test_what_is_counted_from_events_stays_without_events(old, new) -> None:
    def counts(bundle: Path) -> dict[str, int]:
        return {
            row["product_id"]: row["train_count"] for row in records(bundle / "assets.extra/source/data", "products")
        }

    kept = {name: count for name, count in counts(old).items() if name in IDS}
    assert counts(new) == {**kept, "N1": 0, "N2": 0, "N3": 0}
    bought = {row["product_id"] for row in EVENTS if row["user_id"] == "U4" and row["event_type"] == "purchase"}
    loaded = tf.saved_model.load(str(new))
    answer = ask(loaded.signatures, "recommend", user_id=["U4"])
    assert not {value.encode() for value in bought} & set(answer["product_id"][0])
    # k is 30, cut to 24 - 2 + 3 products; one that was bought leaves a place empty.
    assert answer["product_id"].shape == (1, 25)
    assert answer["product_id"][0][-1] == b""


def test_the_answers_are_the_models_ranking_of_the_new_catalogue(new, answers) -> None:
    model, data = load_source(new, new / "assets.extra" / "source" / "data")
    place = {value: place for place, value in enumerate(data.catalogue.product_id)}
    row = {
        "history_product": tf.constant([[0] * 6 + [place[b"P01"], place[b"N1"]]]),
        "history_event_type": tf.constant([[0] * 6 + [data.values["event_type"].index(b"view") + 1] * 2]),
        "history_query": tf.zeros([1, 8], tf.int32),
        "profile": tf.zeros([1, 1], tf.int32),
    }
    scores = np.exp(model.final_scores(model.product_vectors(), row).numpy()[0])
    answer = ask(
        answers, "recommend_for_history", history_product_id=[["P01", "N1"]], history_event_type=[["view", "view"]]
    )
    np.testing.assert_allclose(answer["score"][0], -np.sort(-scores[1:]), atol=1e-5)
    assert answer["product_id"][0].tolist()[0] == data.catalogue.product_id[1 + np.argmax(scores[1:])]


@pytest.mark.usefixtures("few_questions")
def test_new_events_are_counted_and_those_of_removed_products_skipped(new, tmp_path) -> None:
    events = [event("U1", 1, 0), event("U1", 2, 1), event("V", 1, 0), event("V", 2, 1), event("V", 3, 2)]
    said: list[str] = []
    products = write_jsonl(tmp_path / "p.jsonl", NEW)
    arguments = ["--products", str(products), "--events", str(write_csv(tmp_path / "e.csv", events))]
    third = refresh(new, arguments, tmp_path / "shop", said.append)
    assert "events: 5 rows read, 4 kept, 0 rejected, 1 skipped" in said
    assert any("0 texts were new and encoded" in line for line in said)
    data = third / "assets.extra" / "source" / "data"
    counts = {row["product_id"]: row["train_count"] for row in records(data, "products") if row["train_count"]}
    assert counts == {"P01": 2, "P02": 2}
    edges = {row["product_id"]: row["neighbor_product_id"] for row in records(data, "transitions")}
    assert edges == {"P01": ["P02"], "P02": ["P01"]}
    assert {row["user_id"] for row in records(data, "users")} == {"U1", "V"}
    popular = ask(tf.saved_model.load(str(third)).signatures, "recommend", user_id=["U7"])
    assert set(popular["product_id"][0][:2]) == {b"P01", b"P02"}
    model, again = load_source(third, data)
    assert model.product_tower.products == 24
    assert again.catalogue.embedding[1:].tolist().count(0) == 3


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """A data directory without texts, of two users, one of whom says his age."""
    base = tmp_path_factory.mktemp("kept")
    given = {"events": EVENTS[:16], "products": CATALOGUE, "users": [{"user_id": "U0", "age": 30}, {"user_id": "U1"}]}
    flags = [part for name, rows in given.items() for part in (f"--{name}", write_jsonl(base / f"{name}.jsonl", rows))]
    (base / "mapping.yaml").write_text("users: {numeric: [age]}\n")
    preprocess_without_text(base / "data", "--mapping", base / "mapping.yaml", *flags)
    return base / "data"


def test_a_user_without_a_number_stays_without_it(kept, tmp_path) -> None:
    products, events = write_jsonl(tmp_path / "p.jsonl", NEW), write_jsonl(tmp_path / "e.jsonl", EVENTS[:16])
    arguments = ["--products", str(products), "--events", str(events), "--output", str(tmp_path / "data")]
    refresh_data(arguments, kept, say=quiet)
    ages = {row["user_id"]: row["profile_age"] for row in records(tmp_path / "data", "users")}
    assert ages == {"U0": 30.0, "U1": pytest.approx(np.nan, nan_ok=True)}


def test_rejected_rows_of_a_refresh_outlive_it(kept, tmp_path) -> None:
    arguments = ["--products", str(write_jsonl(tmp_path / "p.jsonl", [*NEW, product(1, product_id="")]))]
    arguments += ["--output", str(tmp_path / "shop" / ".refresh" / "data")]
    said: list[str] = []
    refresh_data(arguments, kept, str(tmp_path / "shop"), said.append)
    lines = (tmp_path / "shop.rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [len(NEW) + 1]
    assert f"Rejected rows are in {tmp_path / 'shop.rejected.jsonl'}." in said
    with pytest.raises(UserError, match=rf"mend what {tmp_path}/other\.rejected\.jsonl lists"):
        refresh_data([*arguments, "--max_bad_rows", "0"], kept, str(tmp_path / "other"), quiet)


def test_events_of_no_product_of_the_catalogue_are_refused(kept, tmp_path) -> None:
    arguments = ["--products", str(write_jsonl(tmp_path / "p.jsonl", NEW)), "--output", str(tmp_path / "data")]
    arguments += ["--events", str(write_jsonl(tmp_path / "e.jsonl", [event("U1", 3, 0)]))]
    with pytest.raises(UserError, match="or the catalogue, which lacks their products, skips 1 of them"):
        refresh_data(arguments, kept, say=quiet)


def test_a_bundle_whose_path_is_a_glob_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="in a path as a pattern; move the bundle elsewhere"):
        refresh_data(["--products", "p.csv"], tmp_path / "a[1]", say=quiet)


def test_searches_stay_unknown_to_a_model_that_was_trained_without(kept, tmp_path) -> None:
    searches = [*EVENTS[:16], {"user_id": "U0", "query": "red cup", "event_type": "search", "position": 9}]
    arguments = ["--products", str(write_jsonl(tmp_path / "p.jsonl", NEW)), "--output", str(tmp_path / "data")]
    manifest = refresh_data([*arguments, "--events", str(write_jsonl(tmp_path / "e.jsonl", searches))], kept, say=quiet)
    assert manifest.vocabularies["query"]["size"] == 0
    assert "queries" not in manifest.files


@pytest.mark.parametrize("flag", ["--users", "--max_history=3", "--text_encoder"])
def test_what_training_settled_cannot_be_given(flag, tmp_path) -> None:
    with pytest.raises(UserError, match=f"{flag.split('=')[0]} cannot be given to refresh"):
        refresh_data(["--products", "p.csv", flag, "x"], tmp_path, say=quiet)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--products", "nothing.jsonl"], "--products nothing.jsonl: no such file"),
        (["--products", "{p}", "--shard", "2"], "unknown flag --shard. Did you mean '--shards'?"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(old, tmp_path, arguments, message) -> None:
    products = write_jsonl(tmp_path / "p.jsonl", NEW)
    given = [argument.format(p=products) for argument in arguments]
    with pytest.raises(UserError) as error:
        refresh(old, given, tmp_path / "shop", quiet)
    assert message in str(error.value)
    assert list((tmp_path / "shop").iterdir()) == []


def test_a_bundle_that_is_none_or_is_damaged_or_without_source_is_refused(old, tmp_path) -> None:
    arguments = ["--products", str(write_jsonl(tmp_path / "p.jsonl", NEW))]
    with pytest.raises(UserError, match="no such directory; give a version's directory"):
        refresh(tmp_path / "nothing", arguments, tmp_path / "shop", quiet)
    with pytest.raises(UserError, match="is no bundle; give a version's directory"):
        refresh(old.parent, arguments, tmp_path / "shop", quiet)
    copied = Path(shutil.copytree(old, tmp_path / "1"))
    (copied / "assets.extra" / "source" / "model" / "model.json").unlink()
    with pytest.raises(UserError, match=r"model\.json: is missing, but files\.json lists it"):
        refresh(copied, arguments, tmp_path / "shop", quiet)
    shutil.rmtree(copied / "assets.extra" / "source")
    files = json.loads((copied / "assets.extra" / "files.json").read_text())["files"]
    files = {name: entry for name, entry in files.items() if "/source/" not in name}
    (copied / "assets.extra" / "files.json").write_text(json.dumps({"files": files}))
    with pytest.raises(UserError, match="was exported by an older tfrs-shop, without its source; export it again"):
        refresh(copied, arguments, tmp_path / "shop", quiet)
    assert not (tmp_path / "shop").exists()


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("{", "bundle.json: is damaged"),
        ('{"version": 2}', "bundle.json: has version 2, this tfrs-shop reads 1"),
        ('{"version": 1, "index": {}}', r"bundle.json: is damaged \('kind'\)"),
        ('{"version": 1, "index": {"kind": "scann"}, "serving": {"odd": 1}}', "bundle.json: is damaged .*'odd'"),
        ('{"version": 1, "index": {"kind": "scann"}, "serving": {"k": 9, "exclude": "none"}}', "cannot be written"),
    ],
)
def test_a_bundle_json_and_an_output_that_cannot_be_used_are_refused_before_the_job(about, message, tmp_path) -> None:
    extra = tmp_path / "1" / "assets.extra"
    (extra / "source" / "data").mkdir(parents=True)
    (extra / "bundle.json").write_text(about)
    (extra / "files.json").write_text(json.dumps({"files": {"assets.extra/bundle.json": {"bytes": len(about)}}}))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=message):
        refresh(tmp_path / "1", ["--products", "p.csv"], tmp_path / "file" / "shop", quiet)


def test_the_command_says_in_one_sentence_what_is_wrong(tmp_path) -> None:
    command = [sys.executable, "-m", "tfrs_shop.cli", "refresh", "--bundle", str(tmp_path / "1"), "--products", "x.csv"]
    done = subprocess.run([*command, "--output", str(tmp_path / "shop")], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        f"Error: --bundle {tmp_path / '1'}: no such directory; give a version's directory, such as models/shop/1.\n"
    )
