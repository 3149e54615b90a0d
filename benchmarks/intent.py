"""Query intent: ``python -m benchmarks.intent [--data DATA]``: category and purpose of queries, by this and its peers.

The head is trained as by ``tfrs-shop train``, where it is a pass of its own, on the simulated shop of
``benchmarks.behavior_data``, or on another data directory that was split by time.

Beside it the majority class, and scikit-learn's logistic regression on a bag of words, its strength chosen on the
validation split. All learn from the same training queries; of the test split's queries nothing was in training.
Writes ``bench-results/intent.json``.
"""

import argparse
import json
from typing import Any

import numpy as np

from benchmarks import behavior_data
from benchmarks.beauty import ROOT
from tfrs_shop.dataset import ShopData, open_data
from tfrs_shop.intent_examples import Intent, held_out_intents, training_intents
from tfrs_shop.metrics.choices import choice_metrics, judged
from tfrs_shop.model.intent_head import IntentHead, query_pieces

MAJORITY, BAG_OF_WORDS, OURS = "majority class", "bag of words, logistic regression", "this model"
STRENGTHS = (0.3, 1.0, 3.0, 10.0)
CHUNK = 1024


RESULTS = ROOT / "bench-results"
SEED, STEPS = 17, 2000


def main(arguments: list[str] | None = None) -> None:
    import tf_keras

    from tfrs_shop.intent_training import keep_intent, train_intent

    parser = argparse.ArgumentParser(description="Measure the intent head and its peers.")
    parser.add_argument("--data", help="a data directory split by time; a simulated shop's if not given")
    given = parser.parse_args(arguments)
    data = open_data(given.data or behavior_data.simulated(RESULTS / "behavior"))
    tf_keras.utils.set_random_seed(SEED)
    weights = train_intent(data, STEPS, print)
    head = IntentHead(len(data.values["category"]), name="intent_head")
    keep_intent(head, weights)
    result = measure_intent(head, data)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "intent.json").write_text(json.dumps(result, indent=2) + "\n")
    columns = ("accuracy", "log_loss", "auc", "ece", "examples")
    print(f"\n| task | method | {' | '.join(columns)} |\n|{' --- |' * (2 + len(columns))}")
    for task, methods in result.items():
        for method, metrics in methods.items():
            shown = [f"{metrics[name]:.4f}" for name in columns[:-1]]
            print(f"| {task} | {method} | {' | '.join(shown)} | {metrics['examples']} |")


def measure_intent(head: IntentHead, data: ShopData) -> dict[str, Any]:
    """Return the metrics by task and method on the test split, which is by time.

    ``category_new_queries`` and ``purpose_new_queries`` are of the test's queries that training did not have.
    """
    parts = [training_intents(data), held_out_intents(data, "validation"), held_out_intents(data, "test")]
    fit, check, test = ([intent for intent in part if intent.category and intent.purpose >= 0] for part in parts)
    trained = {intent.query for intent in fit}
    new = np.array([intent.query not in trained for intent in test])
    ours = model_chances(head, test)
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


def model_chances(head: IntentHead, intents: list[Intent]) -> tuple[np.ndarray, np.ndarray]:
    """Return the head's chances of categories and purposes."""
    import tensorflow as tf

    parts = []
    for start in range(0, len(intents), CHUNK):
        queries = tf.constant([intent.query for intent in intents[start : start + CHUNK]])
        parts.append([tf.nn.softmax(logits).numpy() for logits in head(*query_pieces(queries))])
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


if __name__ == "__main__":
    main()
