"""A BERT encoder in tf_keras with the inputs and outputs of TF-Hub's text API.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (2019), section 3; post-LayerNorm, exact GELU.
All dense layers work on `[batch * length, width]`: TensorFlow fuses MatMul + BiasAdd + Gelu only for matrices.
Every dtype is given here, so that a global mixed-precision policy does not change what is saved.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

Array = np.ndarray
_CONFIG_FILE = "bert_config.json"
_INPUTS = ("input_word_ids", "input_mask", "input_type_ids")


@dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT encoder."""

    vocabulary_size: int
    width: int
    layers: int
    heads: int
    feed_forward_width: int
    max_positions: int = 512
    token_types: int = 2
    dropout: float = 0.1
    layer_norm_epsilon: float = 1e-12


class LayerNorm(tf_keras.layers.Layer):
    """Ba et al., "Layer Normalization" (2016), equation 4, over the last axis.

    Written out because TensorFlow 2.20's oneDNN rewrite of tf_keras' LayerNormalization forgets a small epsilon when
    the graph is frozen: the mean-pooled vectors then have a cosine of 0.995 to the right ones.
    """

    def __init__(self, epsilon: float, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self.epsilon = epsilon

    def build(self, input_shape: tf.TensorShape) -> None:
        """Create scale and offset."""
        self.gamma = self.add_weight("gamma", input_shape[-1:], initializer="ones")
        self.beta = self.add_weight("beta", input_shape[-1:], initializer="zeros")
        super().build(input_shape)

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Normalise the rows of `values` `[rows, width]` float32."""
        centred = values - tf.reduce_mean(values, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        # TensorFlow's rsqrt rounds differently with a value's place in the batch, and its optimiser makes an rsqrt of
        # 1 / sqrt(x), but not of this: so a text's vector does not depend on its batch, bit for bit.
        return centred * tf.math.divide_no_nan(1.0, tf.sqrt(variance + self.epsilon)) * self.gamma + self.beta


class BertEmbeddings(tf_keras.layers.Layer):
    """Sum of word, position and type embeddings, normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(name="embeddings", dtype="float32")
        self.config = config
        self.layer_norm = LayerNorm(config.layer_norm_epsilon, name="layer_norm")
        self.dropout = tf_keras.layers.Dropout(config.dropout, dtype="float32")

    def build(self, input_shape: tf.TensorShape) -> None:
        """Create the three tables."""
        config = self.config
        sizes = {"word": config.vocabulary_size, "position": config.max_positions, "type": config.token_types}
        self.tables = {
            name: self.add_weight(f"{name}_embeddings", (rows, config.width), initializer=_initializer())
            for name, rows in sizes.items()
        }
        super().build(input_shape)

    def call(self, word_ids: tf.Tensor, type_ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Embed `word_ids` and `type_ids`, both `[batch, length]` int32, as `[batch * length, width]` float32."""
        words = tf.gather(self.tables["word"], word_ids) + tf.gather(self.tables["type"], type_ids)
        embedded = words + self.tables["position"][: tf.shape(word_ids)[1]]
        embedded = self.layer_norm(tf.reshape(embedded, [-1, self.config.width]))
        return self.dropout(embedded, training=training)


class BertLayer(tf_keras.layers.Layer):
    """One transformer layer: self-attention and feed-forward, each with residual and LayerNorm after it."""

    def __init__(self, config: BertConfig, index: int, product_dtype: str) -> None:
        super().__init__(name=f"layer_{index}", dtype="float32")
        self.config = config
        width, epsilon = config.width, config.layer_norm_epsilon
        # One product for query, key and value is faster than three.
        self.query_key_value = _dense(3 * width, "query_key_value", product_dtype)
        self.attention_output = _dense(width, "attention_output", product_dtype)
        self.attention_norm = LayerNorm(epsilon, name="attention_norm")
        self.intermediate = _dense(config.feed_forward_width, "intermediate", product_dtype, activation="gelu")
        self.output_dense = _dense(width, "output", product_dtype)
        self.output_norm = LayerNorm(epsilon, name="output_norm")
        self.dropout = tf_keras.layers.Dropout(config.dropout, dtype="float32")

    def call(self, hidden: tf.Tensor, bias: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Transform `hidden` `[batch * length, width]` float32; `bias` `[batch, 1, 1, length]` hides padded keys."""
        attended = tf.cast(self.attention_output(self._attention(hidden, bias, training)), tf.float32)
        hidden = self.attention_norm(hidden + self.dropout(attended, training=training))
        fed = tf.cast(self.output_dense(self.intermediate(hidden)), tf.float32)
        return self.output_norm(hidden + self.dropout(fed, training=training))

    def _attention(self, hidden: tf.Tensor, bias: tf.Tensor, training: bool | None) -> tf.Tensor:
        length, heads = tf.shape(bias)[-1], self.config.heads
        size = self.config.width // heads
        projected = tf.reshape(self.query_key_value(hidden), [-1, length, 3, heads, size])
        query, key, value = tf.unstack(tf.transpose(projected, [2, 0, 3, 1, 4]), num=3)
        scores = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32) * size**-0.5 + bias
        weights = tf.cast(self.dropout(tf.nn.softmax(scores), training=training), value.dtype)
        context = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
        return tf.reshape(context, [-1, self.config.width])


class BertEncoder(tf_keras.Model):
    """BERT with the inputs and outputs of a TF-Hub text encoder."""

    def __init__(self, config: BertConfig, product_dtype: str = "float32") -> None:
        """`product_dtype` is that of the layers' matrix products and their weights; "bfloat16" is for inference."""
        super().__init__(name="bert", dtype="float32")
        self.config = config
        self.embeddings = BertEmbeddings(config)
        self.transformer_layers = [BertLayer(config, index, product_dtype) for index in range(config.layers)]
        self.pooler = _dense(config.width, "pooler", "float32", activation="tanh")
        # Creates the weights.
        self({name: tf_keras.Input([None], dtype=tf.int32, name=name) for name in _INPUTS})

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> dict[str, object]:
        """Encode token ids.

        Args:
            inputs: `input_word_ids`, `input_mask` and `input_type_ids`, each `[batch, length]` int32.
            training: whether dropout acts.

        Returns:
            `pooled_output` and `default` `[batch, width]`, `sequence_output` `[batch, length, width]`, and
            `encoder_outputs`, the output of every layer, all float32.
        """
        mask = tf.cast(inputs["input_mask"], tf.float32)
        bias = (1.0 - mask[:, tf.newaxis, tf.newaxis, :]) * -1e9
        hidden = self.embeddings(inputs["input_word_ids"], inputs["input_type_ids"], training=training)
        shape = tf.concat([tf.shape(mask), [self.config.width]], axis=0)
        outputs = []
        for layer in self.transformer_layers:
            hidden = layer(hidden, bias, training=training)
            outputs.append(tf.ensure_shape(tf.reshape(hidden, shape), [None, None, self.config.width]))
        pooled = self.pooler(outputs[-1][:, 0])
        return {"pooled_output": pooled, "default": pooled, "sequence_output": outputs[-1], "encoder_outputs": outputs}

    def export(self, path: Path) -> None:
        """Save to the directory `path` as a TF-Hub encoder, with its sizes in `bert_config.json`."""
        tf.saved_model.save(_HubEncoder(self), str(path))
        (path / _CONFIG_FILE).write_text(json.dumps(asdict(self.config), indent=1) + "\n", encoding="utf-8")


class _HubEncoder(tf.train.Checkpoint):
    """What TF-Hub asks of a reusable SavedModel: two traces of the whole; Keras would save six of every layer."""

    def __init__(self, encoder: BertEncoder) -> None:
        super().__init__()
        self.variables = encoder.weights
        self.trainable_variables = encoder.trainable_weights
        self.regularization_losses: list[tf.Tensor] = []
        ids = {name: tf.TensorSpec([None, None], tf.int32, name=name) for name in _INPUTS}

        # The encoder itself is no attribute, or its layers would be saved as well.
        @tf.function(autograph=False)
        def call(inputs: Mapping[str, tf.Tensor], training: bool = False) -> dict[str, object]:
            return encoder(inputs, training=training)

        for training in (False, True):
            call.get_concrete_function(ids, training=training)
        self.__call__ = call


def load_exported(path: Path, product_dtype: str) -> BertEncoder | None:
    """Return the encoder that `BertEncoder.export` saved to `path`, in `product_dtype`; None for other models."""
    if not (path / _CONFIG_FILE).is_file():
        return None
    encoder = BertEncoder(BertConfig(**json.loads((path / _CONFIG_FILE).read_text(encoding="utf-8"))), product_dtype)
    checkpoint = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    for index, variable in enumerate(encoder.weights):
        saved = checkpoint.get_tensor(f"variables/{index}/.ATTRIBUTES/VARIABLE_VALUE")
        variable.assign(tf.cast(saved, variable.dtype))
    return encoder


def _initializer() -> tf_keras.initializers.Initializer:
    return tf_keras.initializers.TruncatedNormal(stddev=0.02)


def _dense(units: int, name: str, dtype: str, activation: str | None = None) -> tf_keras.layers.Dense:
    return tf_keras.layers.Dense(units, activation, name=name, dtype=dtype, kernel_initializer=_initializer())


def bert_from_weights(weights: Mapping[str, Array], config: BertConfig) -> BertEncoder:
    """Build the encoder and fill it from `weights`, named as in Hugging Face's `BertModel` (kernels `[out, in]`)."""
    encoder = BertEncoder(config)

    def norm(name: str) -> list[Array]:
        return [weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"]]

    def dense(*names: str) -> list[Array]:
        kernel = np.concatenate([weights[f"{name}.weight"].T for name in names], axis=1)
        return [kernel, np.concatenate([weights[f"{name}.bias"] for name in names])]

    for name, table in encoder.embeddings.tables.items():
        table.assign(weights[f"embeddings.{'token_type' if name == 'type' else name}_embeddings.weight"])
    encoder.embeddings.layer_norm.set_weights(norm("embeddings"))
    for index, layer in enumerate(encoder.transformer_layers):
        prefix = f"encoder.layer.{index}"
        attention = [f"{prefix}.attention.self.{part}" for part in ("query", "key", "value")]
        layer.query_key_value.set_weights(dense(*attention))
        layer.attention_output.set_weights(dense(f"{prefix}.attention.output.dense"))
        layer.attention_norm.set_weights(norm(f"{prefix}.attention.output"))
        layer.intermediate.set_weights(dense(f"{prefix}.intermediate.dense"))
        layer.output_dense.set_weights(dense(f"{prefix}.output.dense"))
        layer.output_norm.set_weights(norm(f"{prefix}.output"))
    encoder.pooler.set_weights(dense("pooler.dense"))
    return encoder
