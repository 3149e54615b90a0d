"""Behaviour: what a shopper will do next, after a history that the request gives or as a stored user."""

from typing import Any

import tensorflow as tf

from tfrs_shop.dataset import ShopData
from tfrs_shop.model.behavior_head import BehaviorHead
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.served.lookup import named
from tfrs_shop.served.question import LISTS, STRINGS, Requests, Samples
from tfrs_shop.served.shop import Answer, ServedShop
from tfrs_shop.served.tracing import Plain, traced

CATEGORIES = 5


class PredictBehavior(tf.Module):
    """What comes next: the event's type and category, a purchase in this session, and the rating of what was met last.

    An output that the shop's data teaches nothing about is left out: the types where there is only one, the categories
    where products have none, the purchase where nobody buys, the rating where nobody rates.

    Args:
        shop: with the model's towers.
        model: trained; its behaviour head is kept.
        data: which it was trained on.
    """

    answers_for_ever = True

    def __init__(self, shop: ServedShop, model: ShopModel, data: ShopData):
        super().__init__(name="predict_behavior")
        self.shop, self.plain = shop, Plain(model.behavior_head)
        if model.behavior_head is None:
            return
        self.weights = model.behavior_head.weights
        tasks = model.behavior_head.tasks
        self.leaf = tf.Variable(tasks.leaf, trainable=False, name="leaf")
        self.once = Plain(tf.function(self._answer, autograph=False, reduce_retracing=True))
        self.category_names = tf.Variable([b"", *data.values["category"]], trainable=False, name="category_name")
        self.targets = [place for place, kind in enumerate(data.values["event_type"], 1) if tasks.target_types[place]]
        self.event_types = tf.constant([data.values["event_type"][place - 1] for place in self.targets])
        self.categories = min(CATEGORIES, int((tasks.category_share > 0).sum()))

    @property
    def head(self) -> BehaviorHead | None:
        """The head that answers, if the shop has any."""
        return self.plain.value

    def signatures(self) -> dict[str, Any]:
        """Return ``predict_behavior`` and ``predict_behavior_for_user``; none where there is nothing to say."""
        if self.head is None:
            return {}
        history = (named(LISTS, "history_product_id"), named(LISTS, "history_event_type"))
        # The user first: what is traced for habits of any number fits a history, which has none.
        return {
            "predict_behavior_for_user": traced(self.predict_behavior_for_user, named(STRINGS, "user_id")),
            "predict_behavior": traced(self.predict_behavior, *history),
        }

    def requests(self, samples: Samples) -> Requests:
        """Yield a request after a history, and one for a stored and an unknown user."""
        if self.head is not None:
            yield "predict_behavior", samples.history
            yield "predict_behavior_for_user", {"user_id": tf.constant([samples.users[0], samples.users[-1]])}

    def predict_behavior(self, history_product_id: tf.Tensor, history_event_type: tf.Tensor) -> Answer:
        """Answer for fresh histories ``[batch, events]`` string, oldest first, padded with "".

        Events are read as by ``recommend_for_history``. After an empty history the answer is what usually is.

        Returns:
            ``event_type`` and ``event_type_probability`` ``[batch, types]``, likeliest first: the type of the next
            event of a product (a search or a return is passed over); ``category`` and ``category_probability``
            ``[batch, 5]``: its innermost category, as a path; ``purchase_probability`` ``[batch]``: a purchase follows
            in this session; ``rating`` ``[batch]``: what the shopper will rate the latest product of the history.
        """
        rows, _, _ = self.shop.fresh(history_product_id, history_event_type)
        rows["history_timestamp"] = -tf.ones_like(rows["history_product"], tf.int64)
        rows["history_rating"] = tf.fill(tf.shape(rows["history_product"]), float("nan"))
        answer: Answer = self.once.value(rows)
        return answer

    def predict_behavior_for_user(self, user_id: tf.Tensor) -> Answer:
        """Answer for stored users ``[batch]`` string, as `predict_behavior` does; their event times count too."""
        answer: Answer = self.once.value(self.shop.stored(user_id)[0])
        return answer

    def _answer(self, rows: dict[str, tf.Tensor]) -> Answer:
        assert self.head is not None
        products = rows["history_product"]
        rows = {**rows, "history_category": tf.gather(self.leaf, products)}
        said = self.head(rows, self.shop.queries(rows), training=False).last()
        answer: Answer = {}
        tasks = self.head.tasks
        if tasks.event_type:
            chances = tf.gather(tf.nn.softmax(said.event_type), [place - 1 for place in self.targets], axis=1)
            chance, order = tf.math.top_k(chances, len(self.targets))
            answer |= {"event_type": tf.gather(self.event_types, order), "event_type_probability": chance}
        if tasks.category:
            chances = self.head.category_chances(said, rows["history_category"])
            chance, category = tf.math.top_k(chances, self.categories)
            answer |= {"category": tf.gather(self.category_names, category), "category_probability": chance}
        if tasks.purchase:
            answer["purchase_probability"] = tf.sigmoid(said.purchase)
        if self.shop.layers.rating_head is not None:
            answer["rating"] = self.shop.ratings(rows, products[:, -1:])[:, 0]
        return answer
