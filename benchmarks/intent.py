"""Query intent: the category and the purpose of the queries of a split, by this model and by its peers.

Beside it the majority class, and scikit-learn's logistic regression on a bag of words, its strength chosen on the
validation split. All learn from the same training queries; of the test split's queries nothing was in training.
"""

from typing import Any

import numpy as np

from tfrs_shop.dataset import ShopData
from tfrs_shop.intent_examples import Intent, held_out_intents, training_intents
from tfrs_shop.metrics.choices import choice_metrics, judged
from tfrs_shop.model.intent_head import query_pieces
from tfrs_shop.model.shop_model import ShopModel

MAJORITY, BAG_OF_WORDS, OURS = "majority class", "bag of words, logistic regression", "this model"
STRENGTHS = (0.3, 1.0, 3.0, 10.0)
CHUNK = 1024


def measure_intent(model: ShopModel, data: ShopData) -> dict[str, Any]:
    """Return the metrics by task and method on the test split, which is by time.

    ``category_new_queries`` and ``purpose_new_queries`` are of the test's queries that training did not have.
    """
    parts = [training_intents(data), held_out_intents(data, "validation"), held_out_intents(data, "test")]
    fit, check, test = ([intent for intent in part if intent.category and intent.purpose >= 0] for part in parts)
    trained = {intent.query for intent in fit}
    new = np.array([intent.query not in trained for intent in test])
    ours = model_chances(model, test)
    result: dict[str, Any] = {}
    for place, task in enumerate(("category", "purpose")):
        classes = ours[place].shape[1]
        happened = [np.array([_class(intent, task) for intent in part]) for part in (fit, check, test)]
        share = np.bincount(happened[0], minlength=classes) / len(fit)
        chances = {
            OURS: ours[place],
            MAJORITY: np.tile(share, [len(test), 1]),
            BAG_OF_WORDS: bag_of_words((fit, check, test), happened, classes),
        }
        result[task] = {name: choice_metrics(judged(found, happened[2])) for name, found in chances.items()}
        result[f"{task}_new_queries"] = {
            name: choice_metrics(judged(found[new], happened[2][new])) for name, found in chances.items()
        }
    return result


def model_chances(model: ShopModel, intents: list[Intent]) -> tuple[np.ndarray, np.ndarray]:
    """Return the model's chances of categories and purposes."""
    import tensorflow as tf

    parts = []
    for start in range(0, len(intents), CHUNK):
        queries = tf.constant([intent.query for intent in intents[start : start + CHUNK]])
        parts.append([tf.nn.softmax(logits).numpy() for logits in model.intent_head(query_pieces(queries))])
    category, purpose = (np.concatenate(column) for column in zip(*parts, strict=True))
    return category.astype(np.float64), purpose.astype(np.float64)


def bag_of_words(parts: tuple[list[Intent], ...], happened: list[np.ndarray], classes: int) -> np.ndarray:
    """Return the chances for the last of `parts`, fitted to the first, the strength chosen on the second."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    texts = [[intent.query.decode("utf-8", "replace") for intent in part] for part in parts]
    vectorizer = CountVectorizer(token_pattern=r"(?u)\b\w+\b").fit(texts[0])
    fit, check, test = (vectorizer.transform(part) for part in texts)
    best, found = np.inf, np.zeros([0, 0])
    for strength in STRENGTHS:
        fitted = LogisticRegression(C=strength, max_iter=300).fit(fit, happened[0])
        chances = [np.zeros([len(part), classes]) for part in (texts[1], texts[2])]
        for whole, rows in zip(chances, (check, test), strict=True):
            whole[:, fitted.classes_] = fitted.predict_proba(rows)
        loss = -np.mean(np.log(np.maximum(chances[0][np.arange(len(happened[1])), happened[1]], 1e-7)))
        if loss < best:
            best, found = loss, chances[1]
    return found


def _class(intent: Intent, task: str) -> int:
    return intent.category - 1 if task == "category" else intent.purpose
