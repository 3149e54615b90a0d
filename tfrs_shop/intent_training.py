"""Training of the intent head, a pass of its own: it shares nothing with the towers, nor the epochs that suit them."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras

from tfrs_shop.dataset import ShopData
from tfrs_shop.intent_examples import training_intents
from tfrs_shop.model.intent_head import DRAWN, IntentHead

LEARNING_RATE = 2e-3
# Passes over the queries, if that is no more steps than the settings allow; and the fewest steps.
PASSES, LEAST_STEPS = 30, 300


def train_intent(data: ShopData, most_steps: int, say: Callable[[str], None]) -> list[np.ndarray]:
    """Return the weights of an intent head that has learned what followed the queries of the training events.

    They are for `keep_intent`; none where there is nothing to learn. It is not for a ``tf.distribute`` scope: each
    worker trains the same head.

    Args:
        data: whose training events they are; without searches its titles, brands and categories are the queries.
        most_steps: steps at most, 0 for none.
        say: takes one line of progress.
    """
    categories = len(data.values["category"])
    intents = training_intents(data) if most_steps and categories else []
    if not intents:
        return []
    steps = min(most_steps, max(LEAST_STEPS, PASSES * len(intents) // DRAWN))
    say(f"Query intent: {len(intents):,} queries, {steps:,} steps.")
    learner = IntentHead(categories, name="learner")
    learner.learn_from(intents)
    optimizer = tf_keras.optimizers.Adam(
        tf_keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps), global_clipnorm=1.0
    )

    @tf.function(autograph=False)
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = learner.loss(training=True)
        weights = learner.trainable_weights
        gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return loss

    for _ in range(steps):
        step()
    # As those of `keep_intent` will be: Keras lists weights in another order where they are not trainable.
    learner.trainable = False
    weights: list[np.ndarray] = learner.get_weights()
    return weights


def keep_intent(head: IntentHead, weights: list[np.ndarray]) -> None:
    """Give `head`, of a model that is not compiled yet, the `weights` of `train_intent`, and keep it so."""
    head.trainable = False
    if weights:
        head.set_weights(weights)
