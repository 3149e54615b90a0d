"""`TextEncoder` and `encode_texts` on a tiny encoder in TF-Hub format, made here: two layers, eight wide."""

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as tf_text
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrs_shop.errors import UserError
from tfrs_shop.text import EncoderHandles, TextEncoder, clean_text, encode_texts, split_sentences
from tfrs_shop.text.bert import BertConfig, BertEncoder, load_exported
from tfrs_shop.text.preprocessor import BertPreprocessor
from tfrs_shop.text.windows import cut_windows, graph_sentences

WORDS = ["soft", "warm", "red", "blue", "towel", "robe", *"abcdefg"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", *WORDS]
CONFIG = BertConfig(len(VOCABULARY), width=8, layers=2, heads=2, feed_forward_width=16, max_positions=128, dropout=0.0)
WIDTH = 8
TEXTS = ["soft red towel", "warm blue robe. soft", "", "a b c d e f g"]


@pytest.fixture(scope="module")
def handles(tmp_path_factory: pytest.TempPathFactory) -> EncoderHandles:
    path = tmp_path_factory.mktemp("hub")
    tf_keras.utils.set_random_seed(1)
    encoder = BertEncoder(CONFIG)
    for variable in encoder.weights:  # the usual 0.02 would make all vectors alike
        variable.assign_add(tf.random.normal(variable.shape, stddev=0.3))
    encoder.export(path / "encoder")
    BertPreprocessor(VOCABULARY).export(path / "preprocessor")
    return EncoderHandles(str(path / "preprocessor"), str(path / "encoder"))


@pytest.fixture(scope="module")
def make(handles: EncoderHandles) -> Callable[..., TextEncoder]:
    """Make an encoder that no test trains, or take the one that another test made."""
    return functools.cache(functools.partial(TextEncoder, handles))


def _sequence_output(handles: EncoderHandles, text: str) -> np.ndarray:
    """The encoder's vectors for one text without padding, [tokens, width]."""
    tokens = [VOCABULARY.index(word) for word in text.replace(".", " .").split()]
    ids = tf.constant([[2, *tokens, 3]], tf.int32)
    inputs = {"input_word_ids": ids, "input_mask": tf.ones_like(ids), "input_type_ids": tf.zeros_like(ids)}
    return tf.saved_model.load(handles.encoder)(inputs, training=False)["sequence_output"][0].numpy()


def _texts(*texts: str) -> tf.Tensor:
    return tf.constant(list(texts), tf.string)


def test_encoder_has_the_outputs_of_the_hub_text_api(handles: EncoderHandles) -> None:
    inputs = tf.saved_model.load(handles.preprocessor)(_texts("soft towel", "red"))
    outputs = tf.saved_model.load(handles.encoder)(inputs, training=False)
    assert sorted(outputs) == ["default", "encoder_outputs", "pooled_output", "sequence_output"]
    assert outputs["pooled_output"].shape == [2, WIDTH]
    assert outputs["sequence_output"].shape == [2, 128, WIDTH]
    assert [layer.shape for layer in outputs["encoder_outputs"]] == [[2, 128, WIDTH]] * 2
    np.testing.assert_array_equal(outputs["encoder_outputs"][-1], outputs["sequence_output"])


def test_pooling_is_the_mean_of_the_tokens_the_first_or_both(
    handles: EncoderHandles, make: Callable[..., TextEncoder]
) -> None:
    tokens = [_sequence_output(handles, text) for text in TEXTS]
    mean = np.stack([vectors.mean(axis=0) for vectors in tokens])
    first = np.stack([vectors[0] for vectors in tokens])
    expected = {"mean": mean, "cls": first, "concat": np.concatenate([mean, first], axis=1)}
    for pooling, vectors in expected.items():
        encoder = make(pooling=pooling)
        assert encoder.width == vectors.shape[1]
        np.testing.assert_allclose(encoder(_texts(*TEXTS)), vectors, atol=1e-5)


def test_empty_text_and_empty_batch_are_encoded(make: Callable[..., TextEncoder]) -> None:
    for long_text in (False, True):
        encoder = make(long_text=long_text)
        assert np.isfinite(encoder(_texts("", "  ", "\u200b"))).all()
        assert encoder(tf.constant([], tf.string)).shape == [0, WIDTH]


def test_text_beyond_sequence_length_is_cut_off_unless_it_is_long_text(make: Callable[..., TextEncoder]) -> None:
    short = make(sequence_length=5)
    np.testing.assert_allclose(short(_texts("a b c d e f g")), short(_texts("a b c")), atol=1e-6)
    long = make(sequence_length=5, long_text=True)
    windows = short(_texts("a b c", "d e f", "g")).numpy()
    np.testing.assert_allclose(long(_texts("a b c d e f g"))[0], windows.mean(axis=0), atol=1e-5)


def test_long_text_is_the_average_of_its_sentences(make: Callable[..., TextEncoder]) -> None:
    short, long = make(), make(long_text=True)
    text = "soft red towel. warm robe.\n\nblue"
    sentences = short(_texts("soft red towel.", "warm robe.", "blue")).numpy()
    vectors = long(_texts("red", text, "")).numpy()
    np.testing.assert_allclose(vectors[0], short(_texts("red"))[0], atol=1e-6)
    np.testing.assert_allclose(vectors[1], sentences.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(vectors[2], short(_texts(""))[0], atol=1e-6)


def test_only_the_first_windows_of_a_very_long_text_are_read(make: Callable[..., TextEncoder]) -> None:
    two = make(long_text=True, max_windows=2)
    np.testing.assert_allclose(two(_texts("soft. red. " + "blue. " * 50)), two(_texts("soft. red.")), atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([*"ab", " ", ". ", "! ", '." ', "…", "。", "\n", "?) "])).map("".join), max_size=4
    )
)
def test_the_graph_splits_cleaned_texts_like_python(texts: list[str]) -> None:
    cleaned = [clean_text(text) for text in texts]
    rows = graph_sentences(tf.constant(cleaned, tf.string)).to_list()
    assert [[s.decode() for s in row] for row in rows] == [split_sentences(text) or [""] for text in cleaned]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from([*"abcd", ". "])).map(" ".join), max_size=5), st.integers(1, 4))
def test_windows_lose_no_token_and_hold_no_more_than_they_may(texts: list[str], window: int) -> None:
    def tokenize(flat: tf.Tensor) -> tf.RaggedTensor:
        return tf_text.WhitespaceTokenizer().tokenize(flat)

    windows = cut_windows(tf.constant(texts, tf.string), tokenize, window, max_windows=1000)
    rows = windows.tokens.to_list()
    assert all(len(row) <= window for row in rows)
    for index, text in enumerate(texts):
        own = [row for row, owner in zip(rows, windows.text_of.numpy(), strict=True) if owner == index]
        assert own, "every text has a window"
        assert [token.decode() for row in own for token in row] == text.split()


@pytest.mark.parametrize(
    ("trainable_layers", "expected"),
    [
        (0, []),
        (1, ["layer_1"]),
        ("all", ["embeddings", "layer_0", "layer_1"]),
    ],
)
def test_training_moves_the_chosen_layers_and_no_others(
    handles: EncoderHandles, trainable_layers: int | str, expected: list[str]
) -> None:
    encoder = TextEncoder(handles, trainable_layers=trainable_layers)  # type: ignore[arg-type]
    model = tf_keras.Sequential([tf_keras.Input([], dtype=tf.string), encoder, tf_keras.layers.Dense(1)])
    before = {variable.name: variable.numpy() for variable in encoder.weights}
    assert len(before) == len(encoder.encoder.variables)

    model.compile(tf_keras.optimizers.legacy.Adam(0.01), "mse")
    losses = model.fit(_texts(*TEXTS), tf.constant([1.0, 0.0, 1.0, 0.0]), epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]

    moved = {variable.name for variable in encoder.weights if np.any(variable.numpy() != before[variable.name])}
    assert sorted({name.split("/")[1] for name in moved}) == expected
    assert {variable.name for variable in encoder.trainable_weights} >= moved
    assert not any("pooler" in variable.name for variable in encoder.trainable_weights)
    assert len(model.trainable_weights) == len(encoder.trainable_weights) + 2

    encoder.trainable = False
    assert encoder.trainable_weights == []
    assert len(encoder.non_trainable_weights) == len(before)


RELOAD = """
import sys, numpy as np, tensorflow as tf, tensorflow_text
texts = tf.constant(["soft red towel", "warm blue robe. soft", "", "a b c d e f g"])
np.save(sys.argv[2], tf.saved_model.load(sys.argv[1]).signatures["serving_default"](texts)["head"])
"""


def test_a_trained_model_is_saved_and_reloads_with_tensorflow_text_alone(
    handles: EncoderHandles, tmp_path: Path
) -> None:
    encoder = TextEncoder(handles, trainable_layers=1, long_text=True, pooling="concat")
    head = tf_keras.layers.Dense(2, name="head")
    model = tf_keras.Sequential([tf_keras.Input([], dtype=tf.string), encoder, head])
    model.compile(tf_keras.optimizers.legacy.Adam(0.01), "mse")
    model.fit(_texts(*TEXTS), tf.ones([4, 2]), verbose=0)
    expected = model.predict(_texts(*TEXTS), verbose=0)
    model.save(tmp_path / "model", save_format="tf")

    subprocess.run([sys.executable, "-c", RELOAD, tmp_path / "model", tmp_path / "answer.npy"], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), expected, atol=1e-6)
    again = tf_keras.models.load_model(tmp_path / "model", custom_objects={"TextEncoder": TextEncoder})
    np.testing.assert_allclose(again.predict(_texts(*TEXTS), verbose=0), expected, atol=1e-6)


def test_it_runs_inside_a_tf_function_and_a_data_set(make: Callable[..., TextEncoder]) -> None:
    encoder = make()
    expected = encoder(_texts(*TEXTS))
    function = tf.function(encoder, input_signature=[tf.TensorSpec([None], tf.string)])
    np.testing.assert_allclose(function(_texts(*TEXTS)), expected, atol=1e-6)
    assert not any("PyFunc" in operation.type for operation in function.get_concrete_function().graph.get_operations())
    (mapped,) = tf.data.Dataset.from_tensors(_texts(*TEXTS)).map(encoder)
    np.testing.assert_allclose(mapped, expected, atol=1e-6)


def test_it_trains_under_a_distribution_strategy_and_mixed_precision(handles: EncoderHandles) -> None:
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
            encoder = TextEncoder(handles, trainable_layers=1)
            head = tf_keras.layers.Dense(1, dtype="float32")
            model = tf_keras.Sequential([tf_keras.Input([], dtype=tf.string), encoder, head])
            model.compile(tf_keras.optimizers.legacy.Adam(0.01), "mse")
        losses = model.fit(_texts(*TEXTS), tf.constant([1.0, 0.0, 1.0, 0.0]), epochs=4, verbose=0).history["loss"]
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    assert losses[-1] < losses[0]
    assert encoder.compute_dtype == "float32"


def test_config_rebuilds_the_layer(handles: EncoderHandles) -> None:
    encoder = TextEncoder(handles, pooling="cls", trainable_layers=1, sequence_length=16, name="titles")
    again = TextEncoder.from_config(encoder.get_config())
    assert again.get_config() == encoder.get_config()
    assert again.handles == handles
    np.testing.assert_array_equal(again(_texts(*TEXTS)), encoder(_texts(*TEXTS)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "maen"}, r"pooling must be one of mean, cls, concat, not 'maen'\. Did you mean 'mean'\?"),
        ({"trainable_layers": 3}, "trainable_layers must be 'all' or between 0 and 2, .* not 3"),
        ({"trainable_layers": "some"}, "not 'some'"),
        ({"sequence_length": 2}, "sequence_length must be at least 3"),
        ({"max_windows": 0}, "max_windows must be at least 1, not 0"),
    ],
)
def test_wrong_arguments_are_named(handles: EncoderHandles, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TextEncoder(handles, **arguments)  # type: ignore[arg-type]


class OfficialPreprocessor(tf.Module):
    """As the hub's own: words are a dimension of their own in `tokenize`, the vocabulary is an asset."""

    def __init__(self, path: Path) -> None:
        path.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
        self.tokenizer = tf_text.BertTokenizer(str(path), token_out_type=tf.int32, lower_case=True)
        self.packer = BertPreprocessor(VOCABULARY)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        return self.tokenizer.tokenize(texts)

    @tf.function(
        input_signature=[[tf.RaggedTensorSpec([None, None], tf.int32)], tf.TensorSpec([], tf.int32, name="seq_length")]
    )
    def bert_pack_inputs(self, segments: list[tf.RaggedTensor], seq_length: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.packer.bert_pack_inputs(segments, seq_length)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.packer.bert_pack_inputs([self.tokenizer.tokenize(texts).merge_dims(1, -1)], 128)


@pytest.fixture(scope="module")
def foreign_handles(handles: EncoderHandles, tmp_path_factory: pytest.TempPathFactory) -> EncoderHandles:
    """The same weights in models that this package did not save."""
    path = tmp_path_factory.mktemp("foreign")
    tf.saved_model.save(OfficialPreprocessor(path / "vocab.txt"), str(path / "preprocessor"))
    encoder = load_exported(Path(handles.encoder), "float32")
    assert encoder is not None
    encoder.save(path / "encoder", save_format="tf")
    return EncoderHandles(str(path / "preprocessor"), str(path / "encoder"))


def test_models_in_the_official_form_work_too(handles: EncoderHandles, foreign_handles: EncoderHandles) -> None:
    expected = TextEncoder(handles, long_text=True)(_texts(*TEXTS))
    encoder = TextEncoder(foreign_handles, long_text=True, trainable_layers=1)
    np.testing.assert_allclose(encoder(_texts(*TEXTS)), expected, atol=1e-6)
    assert len(encoder.trainable_weights) == 12
    vectors = encode_texts(TEXTS, foreign_handles, precision="float32")
    np.testing.assert_allclose(vectors, encode_texts(TEXTS, handles, precision="float32"), atol=1e-6)


def test_encode_texts_gives_the_vectors_of_text_encoder_in_order(
    handles: EncoderHandles, make: Callable[..., TextEncoder]
) -> None:
    for pooling in ("mean", "cls", "concat"):
        expected = make(pooling=pooling, sequence_length=16)(_texts(*TEXTS))
        vectors = encode_texts(TEXTS, handles, sequence_length=16, pooling=pooling, precision="float32")
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_encode_texts_encodes_equal_texts_once_and_reports_progress(handles: EncoderHandles) -> None:
    steps: list[tuple[int, int]] = []
    texts = ["red", "soft towel", "red", "red", "blue", "soft towel"]
    vectors = encode_texts(texts, handles, batch_size=1, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    np.testing.assert_array_equal(vectors[[0, 2, 3]], vectors[[0, 0, 0]])
    np.testing.assert_array_equal(vectors[1], vectors[5])
    assert encode_texts([], handles).shape == (0, WIDTH)
    np.testing.assert_array_equal(encode_texts(["red\ud800"], handles), vectors[:1])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_vector_does_not_depend_on_the_texts_beside_it(handles: EncoderHandles, precision: str) -> None:
    texts = [" ".join(WORDS[: 1 + index % 7]) + f" {WORDS[index % 11]}" for index in range(60)]
    together = encode_texts(texts, handles, precision=precision)
    alone = np.concatenate([encode_texts([text], handles, precision=precision) for text in texts[:20]])
    np.testing.assert_allclose(together[:20], alone, atol=1e-5)
    np.testing.assert_allclose(
        encode_texts(texts[::-1], handles, precision=precision, batch_size=3)[::-1], together, atol=1e-5
    )


def test_wrong_arguments_of_encode_texts_are_named(handles: EncoderHandles) -> None:
    with pytest.raises(UserError, match="precision must be one of auto, float32, bfloat16, not 'half'"):
        encode_texts(["red"], handles, precision="half")
    with pytest.raises(UserError, match="batch_size must be at least 1, not 0"):
        encode_texts(["red"], handles, batch_size=0)
    with pytest.raises(UserError, match="sequence_length must be at least 3"):
        encode_texts(["red"], handles, sequence_length=1)
