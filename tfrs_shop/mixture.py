"""What is mixed with the trained scores, and how much of it: chosen on the validation split when training is done.

Likeness to the history first, then the transition graph, then habits: each with what came before it.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import ShopData
from tfrs_shop.edges import mix
from tfrs_shop.habits import usual_of
from tfrs_shop.metrics.ranking import ranking_metrics
from tfrs_shop.model.ranks import ranks_of
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.schema import BOUGHT

Say = Callable[[str], None]
Rows = dict[str, tf.Tensor]

LIKENESS_WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
TRANSITION_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
# Up to where hardly anything comes before a habit: a model that is sure of how a basket goes on is sure of the wrong
# things where one begins.
HABIT_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 0.997)


def choose_mixture(model: ShopModel, data: ShopData, say: Say) -> None:
    """Give `model` the weights with the best NDCG@10 on the validation split, the smallest of equals.

    A configured weight is taken as it is. A weight is 0 where there is no validation example to choose by, or nothing
    to mix in. The weight of habits is chosen on the targets that begin a session.

    Args:
        model: trained; its ``likeness_weight``, ``transition_weight`` and ``habit_weight`` are set.
        data: which it was trained on.
        say: takes one line of progress for each weight that is chosen.
    """
    config, vectors = model.config, model.product_vectors()
    model.likeness_weight = model.transition_weight = model.habit_weight = 0.0
    likeness = model.likeness

    if likeness is not None:

        def liked(rows: Rows, weights: Sequence[float]) -> list[tf.Tensor]:
            near = model.temperature * likeness.of_all(rows["history_product"])
            scores = model.scores(vectors, rows)
            return [scores + weight * near for weight in weights]

        model.likeness_weight = _chosen("Likeness", config.likeness.weight, LIKENESS_WEIGHTS, model, data, liked, say)

    if len(data.transitions.neighbor):

        def followed(rows: Rows, weights: Sequence[float]) -> list[tf.Tensor]:
            log_chance, follows = model.parts_of_scores(vectors, rows)
            return [mix(log_chance, follows, weight) for weight in weights]

        configured = config.transitions.weight
        model.transition_weight = _chosen(
            "Transition graph", configured, TRANSITION_WEIGHTS, model, data, followed, say
        )

    def used_to(rows: Rows, weights: Sequence[float]) -> list[tf.Tensor]:
        usual, log_chance = usual_of(rows), model.final_scores(vectors, rows)
        share = usual.of_all(model.products)
        return [usual.mixed(log_chance, share, weight) for weight in weights]

    model.habit_weight = _chosen(
        "Habits", config.habits.weight, HABIT_WEIGHTS, model, data, used_to, say, begins_session
    )


def begins_session(rows: Rows) -> tf.Tensor:
    """Return ``[batch]`` bool: whether examples have habits; those have whose target begins a session."""
    return tf.reduce_sum(rows["usual_share"], 1) > 0.0


def bought_again(data: ShopData) -> float:
    """Return the share of bought validation targets that were bought before, of those that begin a session.

    It is 0 where there is no such target: where neither sessions nor times are known, or nobody came back.
    """
    bought = [place for place, kind in enumerate(data.values["event_type"], 1) if kind.decode() in BOUGHT]
    asked = again = 0
    for rows in _validation(data, data.manifest.max_history):
        counted = np.isin(rows["label_event_type"], bought) & begins_session(rows).numpy()
        same = (rows["history_product"] == rows["label"][:, None]).numpy() & np.isin(rows["history_event_type"], bought)
        asked += int(counted.sum())
        again += int((counted & same.any(1)).sum())
    return again / asked if asked else 0.0


def _chosen(
    name: str,
    configured: float | None,
    weights: Sequence[float],
    model: ShopModel,
    data: ShopData,
    scores: Callable[[Rows, Sequence[float]], list[tf.Tensor]],
    say: Say,
    counted: Callable[[Rows], tf.Tensor] | None = None,
) -> float:
    """Return the configured weight, or the best of ``weights`` by ``scores``, which are made for each of them."""
    if configured is not None:
        return configured

    @tf.function(autograph=False, reduce_retracing=True)
    def ranks(rows: Rows) -> tf.Tensor:
        found = tf.stack([ranks_of(of_weight, rows) for of_weight in scores(rows, weights)], 1)
        return found if counted is None else tf.boolean_mask(found, counted(rows))

    found = [ranks(rows).numpy() for rows in _validation(data, model.config.towers.max_history)]
    whole = np.concatenate([np.zeros((0, len(weights)), np.int32), *found])
    if not len(whole):
        return 0.0
    reached = [ranking_metrics(column)["ndcg@10"] for column in whole.T]
    best = int(np.argmax(reached))
    say(
        f"{name}: weight {weights[best]} is best on {len(whole):,} validation targets, "
        f"ndcg@10 {reached[best]:.4f} (without {reached[0]:.4f})."
    )
    return weights[best]


def _validation(data: ShopData, length: int) -> Sequence[Rows] | tf.data.Dataset:
    has_examples = data.manifest.counts["examples"]["validation"] > 0
    return data.evaluation_batches("validation", length) if has_examples else ()
