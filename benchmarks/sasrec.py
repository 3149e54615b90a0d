"""SASRec with a softmax over all products, ids only: what the model has to beat among trained ones.

The network of Kang and McAuley (ICDM 2018) with the loss that makes it strong (Klenitskiy and Vasilev, RecSys 2023),
in the sizes that RecBole and the BSARec line publish for Amazon Beauty: 64 wide, 2 blocks, 50 events of history. The
blocks are theirs too: LayerNorm after each residual, as in BERT. It shares no layer with the package's model.
"""

import dataclasses

import tensorflow as tf
import tf_keras

from benchmarks.ranks import Scorer
from tfrs_shop.dataset import ShopData
from tfrs_shop.model.ranks import ranks_of

LENGTH = 50


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and training; all chosen on the validation split of Amazon Beauty.

    Attributes:
        width, blocks, heads: of the transformer; its feed-forward layer is four times as wide.
        dropout: on the input, in the attention and after each layer.
        batch_size: windows a step, each with a target at every position.
        learning_rate: Adam's, constant.
        epochs: at most so many.
        patience: epochs without a better validation NDCG@10 after which training stops.
        seed: of weights, order and dropout.
    """

    width: int = 64
    blocks: int = 2
    heads: int = 2
    dropout: float = 0.5
    batch_size: int = 32
    learning_rate: float = 1e-3
    epochs: int = 30
    patience: int = 3
    seed: int = 17


class SASRec(tf_keras.Model):
    """A causal transformer over product ids; a product's embedding is also its output vector."""

    def __init__(self, products: int, settings: Settings):
        super().__init__()
        self.product = self.add_weight("product", [products + 1, settings.width], initializer=_start())
        self.position = self.add_weight("position", [LENGTH, settings.width], initializer=_start())
        self.norm = tf_keras.layers.LayerNormalization(epsilon=1e-12)
        self.dropout = tf_keras.layers.Dropout(settings.dropout)
        self.transformer = [_Block(settings) for _ in range(settings.blocks)]
        self.loss_mean = tf_keras.metrics.Mean(name="loss")
        self.ndcg = tf_keras.metrics.Mean(name="ndcg@10")

    def call(self, history: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return ``[batch, length, width]``: the state after each event of ``[batch, length]``, left-padded with 0."""
        # Padding is never looked at, so what all rows of a batch have of it is not computed.
        longest = tf.maximum(tf.reduce_max(tf.math.count_nonzero(history, 1)), 1)
        given, history = tf.shape(history)[1], history[:, -longest:]
        events = tf.gather(self.product, history) + self.position[-longest:]
        events = self.dropout(self.norm(events), training=training)
        for block in self.transformer:
            events = block(events, history > 0, training=training)
        return tf.pad(events, [[0, 0], [given - tf.shape(history)[1], 0], [0, 0]])

    def train_step(self, rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Take one step on the mean cross-entropy of all positions with a target."""
        asked = rows["label"] > 0
        with tf.GradientTape() as tape:
            states = tf.boolean_mask(self(rows["history_product"], training=True), asked)
            logits = tf.matmul(states, self.product[1:], transpose_b=True)
            label = tf.boolean_mask(rows["label"], asked) - 1
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits))
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        self.loss_mean.update_state(loss)
        return {"loss": self.loss_mean.result()}

    def test_step(self, rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Rank all products for the target of each row; seen products stay in."""
        ranks = tf.cast(ranks_of(self.scores(rows), rows), tf.float32)
        gain = tf.cast(ranks < 10, tf.float32) * tf.math.log(2.0) / tf.math.log(ranks + 2.0)
        self.ndcg.update_state(gain)
        return {"ndcg@10": self.ndcg.result()}

    def scores(self, rows: dict[str, tf.Tensor]) -> tf.Tensor:
        """Return ``[batch, products + 1]``, the last state of each history times each product's embedding."""
        return tf.matmul(self(rows["history_product"])[:, -1], self.product, transpose_b=True)


def _start() -> tf_keras.initializers.Initializer:
    # One for each weight: Keras warns that one for all would give all the same values.
    return tf_keras.initializers.RandomNormal(stddev=0.02)


class _Block(tf_keras.layers.Layer):
    def __init__(self, settings: Settings):
        super().__init__()
        dense = tf_keras.layers.Dense
        self.attention = tf_keras.layers.MultiHeadAttention(
            settings.heads, settings.width // settings.heads, dropout=settings.dropout, kernel_initializer=_start()
        )
        self.hidden = dense(4 * settings.width, activation=tf.nn.gelu, kernel_initializer=_start())
        self.output_layer = dense(settings.width, kernel_initializer=_start())
        self.norms = [tf_keras.layers.LayerNormalization(epsilon=1e-12) for _ in range(2)]
        self.dropout = tf_keras.layers.Dropout(settings.dropout)

    def call(self, events: tf.Tensor, known: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return ``[batch, length, width]``, given the same and ``known`` ``[batch, length]`` bool."""
        attended = self.attention(
            events, events, attention_mask=known[:, None, :], use_causal_mask=True, training=training
        )
        events = self.norms[0](events + self.dropout(attended, training=training))
        fed = self.output_layer(self.hidden(events))
        return self.norms[1](events + self.dropout(fed, training=training))


def sasrec(data: ShopData, settings: Settings | None = None) -> Scorer:
    """Train on the training split, stop by the validation split, and return what scores all products."""
    settings = settings or Settings()
    tf_keras.utils.set_random_seed(settings.seed)
    windows = data.training_windows(LENGTH)
    windows = windows.map(lambda row: {name: row[name] for name in ("history_product", "label")})
    model = SASRec(data.catalogue.size, settings)
    model.compile(tf_keras.optimizers.Adam(settings.learning_rate))
    model.fit(
        windows.shuffle(200_000, seed=settings.seed).batch(settings.batch_size).prefetch(tf.data.AUTOTUNE),
        validation_data=data.evaluation_batches("validation", LENGTH),
        epochs=settings.epochs,
        verbose=2,
        callbacks=[
            tf_keras.callbacks.EarlyStopping(
                "val_ndcg@10", mode="max", patience=settings.patience, restore_best_weights=True
            )
        ],
    )
    return tf.function(model.scores, reduce_retracing=True)
