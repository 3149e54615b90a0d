"""Training of the behaviour head, a pass of its own after the towers': what suits them need not suit it."""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
import tf_keras

from tfrs_shop.averaging import averaged
from tfrs_shop.dataset import ShopData
from tfrs_shop.model.behavior_head import BehaviorHead
from tfrs_shop.model.shop_model import ShopModel

BATCH = 16
LEARNING_RATE, CLIP_NORM, AVERAGE = 3e-3, 5.0, 0.99
# Passes over the windows, if that is no more steps than the settings allow, and how often the validation is looked at.
PASSES, CHECKS = 8, 8
MOST_CHECKED = 20_000  # examples
CHECKED_AT_ONCE = 256
SHUFFLE_BUFFER = 200_000
# The squares of scale - 1 and shift cost as much as the log loss of one of so many examples.
CALIBRATION_STEPS, CALIBRATION_RATE, CALIBRATION_DECAY = 200, 0.03, 10.0

Rows = dict[str, tf.Tensor]


def train_behavior(model: ShopModel, data: ShopData, say: Callable[[str], None]) -> list[np.ndarray]:
    """Return the weights of a behaviour head for `model`, whose towers are trained and stay as they are.

    They are for ``set_weights``; none where there is nothing to learn from. The head reads the towers' query vectors
    with their dropout, as they are surer of what they were trained on than of anything else. What is looked at and kept
    is the moving average of the weights, whose log loss varies much less from check to check. A purchase is learnt by
    heart long before the types and the categories are learnt, so that its weights, which are its own, are kept from the
    check at which it was best, and the others from that at which they were; without a validation split all are the
    last. On it the chances of types and of the purchase are calibrated at the end.

    Args:
        model: its settings say how many steps at most.
        data: which it was trained on.
        say: takes one line of progress.
    """
    head, length = model.behavior_head, model.config.towers.max_history
    if head is None or not data.manifest.counts["examples"]["train"]:
        return []
    windows = data.training_windows(length)
    tf_keras.utils.set_random_seed(model.config.training.seed)
    learner = BehaviorHead(model.config.behavior, head.tasks, length, name="learner")
    count = 0
    for rows in windows.batch(CHECKED_AT_ONCE).as_numpy_iterator():
        count += len(rows["label"])
        category = head.tasks.leaf[rows["history_product"]]
        learner.count(category, np.where(rows["label"] > 0, rows["label_event_type"], 0))
    if not count:
        return []
    vectors = model.product_vectors()
    steps = min(model.config.behavior.steps, max(CHECKS, PASSES * count // BATCH))
    batches = windows.shuffle(min(count, SHUFFLE_BUFFER), seed=model.config.training.seed).repeat().batch(BATCH)
    optimizer = tf_keras.optimizers.Adam(
        tf_keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps),
        global_clipnorm=CLIP_NORM,
        use_ema=True,
        # An average over more than a tenth of all steps would still hold what the weights were at first.
        ema_momentum=max(0.0, min(AVERAGE, 1.0 - 10.0 / steps)),
    )

    @tf.function(autograph=False)
    def step(rows: Rows) -> None:
        queries, asked = model.all_queries(vectors, rows, training=True), model.with_categories(rows)
        with tf.GradientTape() as tape:
            loss = learner.loss(learner(asked, queries, training=True), asked)
        weights = learner.trainable_weights
        gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))

    @tf.function(autograph=False, reduce_retracing=True)
    def entropies(rows: Rows) -> dict[str, tf.Tensor]:
        asked = model.with_categories(rows)
        return learner.entropies(learner(asked, model.all_queries(vectors, rows), training=False), asked)

    checked = list(_newest_only(data, length))
    parts: list[Best] = []
    stream = iter(batches)
    for place in range(steps):
        step(next(stream))
        if not parts:
            own = {id(weight) for weight in learner.purchase_weights}
            others = [weight for weight in learner.weights if id(weight) not in own]
            parts = [Best(("event_type", "category"), others), Best(("purchase",), learner.purchase_weights)]
        if (place + 1) * CHECKS // steps > place * CHECKS // steps:
            with averaged(optimizer, learner.trainable_weights):
                found = _means([entropies(rows) for rows in checked])
                for part in parts:
                    part.see(found)
            shown = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
            say(f"Behavior: step {place + 1:,} of {steps:,}{': log loss ' + shown if shown else ''}")
    for part in parts:
        part.restore()
    _calibrate(model, learner, vectors, checked)
    # As the model's head is: Keras lists weights in another order where they are not trainable.
    learner.trainable = False
    weights: list[np.ndarray] = learner.get_weights()
    return weights


class Best:
    """Keeps some weights as they were when the log losses of their `tasks` were least."""

    def __init__(self, tasks: tuple[str, ...], weights: list[tf.Variable]):
        self.tasks, self.weights = tasks, weights
        self.least, self.kept = np.inf, list[np.ndarray]()

    def see(self, losses: dict[str, float]) -> None:
        """Keep the weights if `losses`, by task, are less than ever; where none is of these tasks, the last ones."""
        total = sum(losses[task] for task in self.tasks if task in losses)
        if total < self.least or not any(task in losses for task in self.tasks):
            self.least, self.kept = total, [weight.numpy() for weight in self.weights]

    def restore(self) -> None:
        """Put the kept weights back."""
        for weight, value in zip(self.weights, self.kept, strict=True):
            weight.assign(value)


def _calibrate(model: ShopModel, learner: BehaviorHead, vectors: tf.Tensor, checked: list[Rows]) -> None:
    """Scale and shift the logits of types and of the purchase to what the validation split says (Platt, 1999).

    What comes after the training events is more or less of a type, or of purchases, than they were. It goes into the
    weights, so that a trained head has no more of them.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def logits(rows: Rows) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        asked = model.with_categories(rows)
        said = learner(asked, model.all_queries(vectors, rows), training=False)
        return learner.logits_and_labels(said, asked)

    parts = [logits(rows) for rows in checked]
    for task, layers in learner.calibrated_layers.items():
        found = [part[task] for part in parts if task in part]
        if not found:
            continue
        said, happened = (tf.concat(column, 0) for column in zip(*found, strict=True))
        if not len(happened):
            continue
        scale, shift = platt(said, happened)
        if task == "purchase":
            shift = shift[1:] - shift[:1]
        for layer in layers:
            layer.kernel.assign(layer.kernel * scale)
            if layer.use_bias:
                layer.bias.assign(layer.bias * scale + shift)


def platt(said: tf.Tensor, happened: tf.Tensor) -> tuple[float, np.ndarray]:
    """Return the scale and the shift ``[classes]`` of logits with the least log loss, held near 1 and 0 by squares.

    Args:
        said: ``[examples, classes]`` float32 logits.
        happened: ``[examples]`` int32 classes.
    """
    scale, shift = tf.Variable(1.0), tf.Variable(tf.zeros(said.shape[1]))
    optimizer = tf_keras.optimizers.Adam(tf_keras.optimizers.schedules.CosineDecay(CALIBRATION_RATE, CALIBRATION_STEPS))

    @tf.function(autograph=False)
    def step() -> None:
        with tf.GradientTape() as tape:
            entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(happened, scale * said + shift)
            squares = tf.square(scale - 1.0) + tf.reduce_sum(tf.square(shift))
            loss = tf.reduce_mean(entropy) + CALIBRATION_DECAY / tf.cast(tf.size(happened), tf.float32) * squares
        optimizer.apply_gradients(zip(tape.gradient(loss, [scale, shift]), [scale, shift], strict=True))

    for _ in range(CALIBRATION_STEPS):
        step()
    return float(scale), shift.numpy()


def _newest_only(data: ShopData, length: int) -> Iterator[Rows]:
    """Yield batches of the validation split as if of training windows, of which only the last position is asked."""
    if not data.manifest.counts["examples"]["validation"]:
        return
    batches = data.evaluation_batches("validation", length, CHECKED_AT_ONCE)
    for rows in batches.take(MOST_CHECKED // CHECKED_AT_ONCE):
        before = [[0, 0], [length - 1, 0]]
        labels = {name: tf.pad(rows[name][:, None], before) for name in ("label", "label_event_type")}
        newest = rows["history_purchase_follows"][:, -1:]
        follows = {"history_purchase_follows": tf.pad(newest, before, constant_values=-1)}
        unused = ("user_id", "seen_product", "label_rating")
        yield {name: value for name, value in rows.items() if name not in unused} | labels | follows


def _means(found: list[dict[str, tf.Tensor]]) -> dict[str, float]:
    """Return the mean of each task over all parts, without those that nothing tells of."""
    if not found:
        return {}
    whole = {name: np.concatenate([part[name].numpy() for part in found]) for name in found[0]}
    return {name: float(values.mean()) for name, values in whole.items() if len(values)}
