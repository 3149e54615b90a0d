"""A text encoder that is trained along with the model: only a batch's texts are encoded in a step."""

from typing import Any

import tensorflow as tf
import tf_keras

from tfrs_shop.averaging import averaged
from tfrs_shop.config import TextConfig
from tfrs_shop.dataset import ShopData
from tfrs_shop.errors import UserError
from tfrs_shop.schema import joined_product_text

RENEWED_AT_ONCE = 256


class TunedText(tf_keras.layers.Layer):
    """Gives the text vectors of products, and trains the encoder that makes them.

    The vectors of the whole catalogue are kept as they were when they were last renewed; they are what is validated,
    evaluated and exported, and they are saved with the weights.

    Args:
        data: whose products they are; its manifest names the encoder.
        config: which layers are trained, and how many texts are encoded in a step.

    Raises:
        UserError: the data directory has no text vectors.
    """

    def __init__(self, data: ShopData, config: TextConfig, **kwargs: object):
        # Here, for whoever keeps the encoder frozen need not wait for TF-Text.
        from tfrs_shop.text import EncoderHandles, TextEncoder, default_encoder

        super().__init__(dtype="float32", **kwargs)
        about = data.manifest.text
        if not about.get("width"):
            raise UserError(
                f"text.tuning {config.tuning}: {data.directory} has no text vectors; preprocess it with a text encoder."
            )
        handles = default_encoder()
        if about["encoder"] != "default":
            handles = EncoderHandles(about["preprocessor"], about["encoder"])
        self.config = config
        self.encoder = TextEncoder(
            handles,
            trainable_layers="all" if config.tuning == "whole" else config.last_layers,
            sequence_length=about["sequence_length"],
        )
        catalogue = data.catalogue
        columns = zip(catalogue.title, catalogue.brand_name, catalogue.category_name, strict=True)
        self._texts = tf.constant([joined_product_text(*(part.decode() for part in parts)) for parts in columns])
        self.vectors = self.add_weight(
            "vectors",
            catalogue.text_vector.shape,
            initializer=tf_keras.initializers.Constant(catalogue.text_vector),
            trainable=False,
        )

    def call(self, products: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return ``[products, text width]`` float32 vectors of distinct ``products`` ``[products]`` int32; of 0 zeros.

        The first ``texts`` of them are encoded, the others are as they were when they were last renewed.
        """
        first, others = products[: self.config.texts], products[self.config.texts :]
        encoded = self.encoder(tf.gather(self._texts, first), training=training)
        encoded *= tf.cast(first > 0, tf.float32)[:, None]
        return tf.concat([encoded, tf.gather(self.vectors, others)], 0)

    def renew(self) -> None:
        """Encode the texts of the whole catalogue."""
        vectors = self.vectors.numpy()
        texts = self._texts.numpy()
        # Texts of like length together: the shorter ones are padded to the longest.
        order = sorted(range(1, len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(order), RENEWED_AT_ONCE):
            places = order[start : start + RENEWED_AT_ONCE]
            vectors[places] = self._encoded(tf.constant(texts[places])).numpy()
        self.vectors.assign(vectors)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def _encoded(self, texts: tf.Tensor) -> tf.Tensor:
        return self.encoder(texts, training=False)


class RenewTexts(tf_keras.callbacks.Callback):
    """Renews the text vectors of the catalogue before each validation; stands after ``AveragedWeights``."""

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Encode with the weights that are validated."""
        self.model.text.renew()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Encode with the weights that are kept, where nothing was validated."""
        if not any(name.startswith("val_") for name in logs or {}):
            with averaged(self.model.optimizer, self.model.trainable_variables):
                self.model.text.renew()


class TwoRatesAdam(tf_keras.optimizers.Adam):
    """Adam that moves some variables at a share of the learning rate.

    Args:
        slow: the variables.
        share: of the learning rate, for them.
        options: of ``tf_keras.optimizers.Adam``.
    """

    def __init__(self, slow: list[tf.Variable], share: float, **options: Any):
        super().__init__(**options)
        self.share = share
        self._slow = {self._var_key(variable) for variable in slow}

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Take one step of `variable`."""
        if self._var_key(variable) not in self._slow:
            super().update_step(gradient, variable)
            return
        # A step of Adam is proportional to its learning rate, whatever the size of the gradient.
        before = variable.read_value()
        super().update_step(gradient, variable)
        variable.assign(before + self.share * (variable - before))
