"""Query intent: which category a query is about, and what it is for, from its words alone."""

from typing import Any

import tensorflow as tf

from tfrs_shop.dataset import ShopData
from tfrs_shop.intent_examples import PURPOSES
from tfrs_shop.model.intent_head import IntentHead, query_pieces
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.served.lookup import named
from tfrs_shop.served.question import STRINGS, Requests, Samples
from tfrs_shop.served.shop import Answer
from tfrs_shop.served.tracing import Plain, traced

CATEGORIES = 5


class QueryIntent(tf.Module):
    """What a shopper who types a query is after.

    It is left out where products have no categories, and the purpose where the log has no searches.

    Args:
        model: trained; its intent head is kept.
        data: which it was trained on.
    """

    answers_for_ever = True

    def __init__(self, model: ShopModel, data: ShopData):
        super().__init__(name="query_intent")
        trained, self.with_purposes = model.intent_head.knows if model.intent_head is not None else (False, False)
        self.plain = Plain(model.intent_head if trained else None)
        if self.head is not None:
            self.weights = self.head.weights
            self.category_names = tf.Variable(data.values["category"], trainable=False, name="category_name")
            self.categories = min(CATEGORIES, len(data.values["category"]))
            self.purposes = tf.constant(PURPOSES)

    @property
    def head(self) -> IntentHead | None:
        """The head that answers, if it was trained."""
        return self.plain.value

    def signatures(self) -> dict[str, Any]:
        """Return the signature ``query_intent``; none where there is nothing to say."""
        if self.head is None:
            return {}
        return {"query_intent": traced(self.query_intent, named(STRINGS, "query"))}

    def requests(self, samples: Samples) -> Requests:
        """Yield a request for a category's name, and one without words."""
        if self.head is not None:
            yield "query_intent", {"query": tf.constant([samples.category, b""])}

    def query_intent(self, query: tf.Tensor) -> Answer:
        """Answer for queries ``[batch]`` string, any bytes; without words the answer is what is usual.

        Returns:
            ``category`` and ``category_probability`` ``[batch, 5]``, likeliest first, each an innermost category as a
            path; ``purpose`` and ``purpose_probability`` ``[batch, 4]``, likeliest first.
        """
        assert self.head is not None
        category, purpose = self.head(*query_pieces(query), training=False)
        # The head answers in log-chances. A softmax of them would be one too many of one shape: TensorFlow's optimizer
        # would look at what memory it needs, and warn on stderr.
        chance, order = tf.math.top_k(tf.exp(category), self.categories)
        answer = {"category": tf.gather(self.category_names, order), "category_probability": chance}
        if self.with_purposes:
            chance, order = tf.math.top_k(tf.exp(purpose), len(PURPOSES))
            answer |= {"purpose": tf.gather(self.purposes, order), "purpose_probability": chance}
        return answer
