"""The questions of a bundle, all of them: what TensorFlow Serving is asked, apart from the model that answers.

TensorFlow Serving's REST interface wants every input of a signature in every request, so a question that needs only a
user id has only ``user_id`` as its input, and filters have signatures of their own. Histories are lists of equal
length, padded with "". What is not on sale at the time of the request is answered by none of them. Where fewer products
than k may be answered, the rest of an answer is product id "", title "" and score 0.
"""

from typing import Any

import tensorflow as tf

from tfrs_shop.complements import complement_edges
from tfrs_shop.dataset import ShopData
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.served.behavior import PredictBehavior
from tfrs_shop.served.complements import Complements
from tfrs_shop.served.explain import Explain
from tfrs_shop.served.explain_words import ExplainWords, event_texts
from tfrs_shop.served.facts import Facts
from tfrs_shop.served.intent import QueryIntent
from tfrs_shop.served.question import Question
from tfrs_shop.served.rank import Rank
from tfrs_shop.served.recommend import Recommend, RecommendFiltered
from tfrs_shop.served.recommend_diverse import RecommendDiverse
from tfrs_shop.served.recommend_explained import RecommendExplained
from tfrs_shop.served.search import Search
from tfrs_shop.served.search_explained import SearchExplained
from tfrs_shop.served.shop import ServedShop
from tfrs_shop.served.similar import Similar
from tfrs_shop.served.user_profile import UserProfile


class Questions(tf.Module):
    """All questions that `shop` can be asked: what is saved as the bundle.

    Args:
        shop: with its index.
        model: trained.
        data: which it was trained on.
    """

    def __init__(self, shop: ServedShop, model: ShopModel, data: ShopData):
        super().__init__(name="questions")
        self.shop = shop
        explain = Explain(shop)
        self.all: list[Question] = [
            Recommend(shop),
            RecommendFiltered(shop),
            RecommendDiverse(shop),
            RecommendExplained(shop),
            Similar(shop),
            Rank(shop),
            UserProfile(shop),
            Facts(shop, data),
            explain,
            Complements(shop, complement_edges(data, shop.vectors.numpy())),
            PredictBehavior(shop, model, data),
            QueryIntent(model, data),
        ]
        if shop.text_search is not None:
            search = Search(shop, shop.text_search)
            self.all += [search, SearchExplained(search)]
            if shop.text_search.encoder is not None and model.query_tower.behavior_text is not None:
                length = data.manifest.text["sequence_length"]
                self.all.append(ExplainWords(explain, event_texts(data), shop.text_search.encoder, length))
            # No signature, but kept in the bundle: what evaluate-search asks.
            self.search_ranking = search.ranking

    def signatures(self) -> dict[str, Any]:
        """Return signature name to concrete function."""
        return {name: function for question in self.all for name, function in question.signatures().items()}
