"""The questions of a bundle, all of them: what TensorFlow Serving is asked, apart from the model that answers.

TensorFlow Serving's REST interface wants every input of a signature in every request, so a question that needs only a
user id has only ``user_id`` as its input, and filters have signatures of their own. Histories are lists of equal
length, padded with "". What is not on sale at the time of the request is answered by none of them. Where fewer products
than k may be answered, the rest of an answer is product id "", title "" and score 0.
"""

from typing import Any

import tensorflow as tf

from tfrs_shop.served.question import Question
from tfrs_shop.served.rank import Rank
from tfrs_shop.served.recommend import Recommend, RecommendFiltered
from tfrs_shop.served.search import Search
from tfrs_shop.served.shop import ServedShop
from tfrs_shop.served.similar import Similar


class Questions(tf.Module):
    """All questions that `shop` can be asked: what is saved as the bundle.

    Args:
        shop: with its index.
    """

    def __init__(self, shop: ServedShop):
        super().__init__(name="questions")
        self.shop = shop
        self.all: list[Question] = [Recommend(shop), RecommendFiltered(shop), Similar(shop), Rank(shop)]
        if shop.text_search is not None:
            search = Search(shop, shop.text_search)
            self.all.append(search)
            # No signature, but kept in the bundle: what evaluate-search asks.
            self.search_ranking = search.ranking

    def signatures(self) -> dict[str, Any]:
        """Return signature name to concrete function."""
        return {name: function for question in self.all for name, function in question.signatures().items()}
