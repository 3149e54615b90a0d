"""A BERT encoder in tf_keras with the inputs and outputs of TF-Hub's text API.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (2019), section 3; post-LayerNorm, exact GELU.
All dense layers work on `[batch * length, width]`: TensorFlow fuses MatMul + BiasAdd + Gelu only for matrices.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tf_keras

Array = np.ndarray


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


class BertEmbeddings(tf_keras.layers.Layer):
    """Sum of word, position and type embeddings, normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(name="embeddings")
        self.config = config
        self.layer_norm = tf_keras.layers.LayerNormalization(epsilon=config.layer_norm_epsilon, name="layer_norm")
        self.dropout = tf_keras.layers.Dropout(config.dropout)

    def build(self, input_shape: tf.TensorShape) -> None:
        """Create the three tables."""
        config, initializer = self.config, tf_keras.initializers.TruncatedNormal(stddev=0.02)
        sizes = {"word": config.vocabulary_size, "position": config.max_positions, "type": config.token_types}
        self.tables = {
            name: self.add_weight(f"{name}_embeddings", (rows, config.width), initializer=initializer)
            for name, rows in sizes.items()
        }
        super().build(input_shape)

    def call(self, word_ids: tf.Tensor, type_ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Embed `word_ids` and `type_ids`, both `[batch, length]` int32, as `[batch * length, width]` float."""
        words = tf.gather(self.tables["word"], word_ids) + tf.gather(self.tables["type"], type_ids)
        embedded = words + self.tables["position"][: tf.shape(word_ids)[1]]
        embedded = self.layer_norm(tf.reshape(embedded, [-1, self.config.width]))
        return self.dropout(embedded, training=training)


class BertLayer(tf_keras.layers.Layer):
    """One transformer layer: self-attention and feed-forward, each with residual and LayerNorm after it."""

    def __init__(self, config: BertConfig, index: int) -> None:
        super().__init__(name=f"layer_{index}")
        self.config = config
        width, epsilon = config.width, config.layer_norm_epsilon
        initializer = tf_keras.initializers.TruncatedNormal(stddev=0.02)

        def dense(units: int, name: str, activation: str | None = None) -> tf_keras.layers.Dense:
            return tf_keras.layers.Dense(units, activation=activation, name=name, kernel_initializer=initializer)

        # One product for query, key and value is faster than three.
        self.query_key_value = dense(3 * width, "query_key_value")
        self.attention_output = dense(width, "attention_output")
        self.attention_norm = tf_keras.layers.LayerNormalization(epsilon=epsilon, name="attention_norm")
        self.intermediate = dense(config.feed_forward_width, "intermediate", activation="gelu")
        self.output_dense = dense(width, "output")
        self.output_norm = tf_keras.layers.LayerNormalization(epsilon=epsilon, name="output_norm")
        self.dropout = tf_keras.layers.Dropout(config.dropout)

    def call(self, hidden: tf.Tensor, bias: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Transform `hidden` `[batch * length, width]`; `bias` `[batch, 1, 1, length]` hides padded keys."""
        attended = self.attention_output(self._attention(hidden, bias, training))
        hidden = self.attention_norm(hidden + self.dropout(attended, training=training))
        fed = self.output_dense(self.intermediate(hidden))
        return self.output_norm(hidden + self.dropout(fed, training=training))

    def _attention(self, hidden: tf.Tensor, bias: tf.Tensor, training: bool | None) -> tf.Tensor:
        length, heads = tf.shape(bias)[-1], self.config.heads
        size = self.config.width // heads
        projected = tf.reshape(self.query_key_value(hidden), [-1, length, 3, heads, size])
        query, key, value = tf.unstack(tf.transpose(projected, [2, 0, 3, 1, 4]), num=3)
        scores = tf.matmul(query * size**-0.5, key, transpose_b=True) + bias
        weights = self.dropout(tf.nn.softmax(scores), training=training)
        context = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
        return tf.reshape(context, [-1, self.config.width])


class BertEncoder(tf_keras.Model):
    """BERT with the signature of a TF-Hub text encoder."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(name="bert")
        self.config = config
        self.embeddings = BertEmbeddings(config)
        self.transformer_layers = [BertLayer(config, index) for index in range(config.layers)]
        self.pooler = tf_keras.layers.Dense(config.width, activation="tanh", name="pooler")

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


def bert_from_weights(weights: Mapping[str, Array], config: BertConfig) -> BertEncoder:
    """Build the encoder and fill it from `weights`, named as in Hugging Face's `BertModel` (kernels `[out, in]`)."""
    encoder = BertEncoder(config)
    ids = tf.zeros([1, 2], tf.int32)
    encoder({"input_word_ids": ids, "input_mask": ids + 1, "input_type_ids": ids})

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
