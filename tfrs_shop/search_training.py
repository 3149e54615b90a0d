"""Training of search: from search events to the search tower, and how much its opinion counts.

A pair is a query and a product that was clicked, carted, bought after it, before the next search. A share of the
queries is held out; on it the tower's weight beside the untrained score is chosen, and a tower that does not help is
dropped: search then works with words and the encoder's vectors as they are.

Where there are no search events, or too few, and no encoder either, whose vectors say more (docs/search.md), the pairs
are weak queries and the products that they are of (``tfrs_shop.weak_queries``). The tower then reads terms alone, and
in training a query's terms are hidden from its own product: it must be known by its other words, as BM25 finds the ones
that are there. Products are held out, and their descriptions' words asked for that are hidden from them; the gain must
be beyond chance.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from tfrs_shop.config import Config
from tfrs_shop.dataset import ShopData
from tfrs_shop.lexicon import Lexicon
from tfrs_shop.metrics.uncertainty import paired_test
from tfrs_shop.model.search_tower import (
    Bags,
    SearchTower,
    SearchWeights,
    new_weights,
    product_terms,
    product_vectors,
    ragged_bags,
)
from tfrs_shop.text.terms import forms
from tfrs_shop.weak_queries import WeakQuery, weak_queries

Say = Callable[[str], None]
# Events after a search that still tell of it, unless another search or so many milliseconds come between.
FOLLOWING, SESSION_MS = 6, 30 * 60 * 1000
FEWEST_PAIRS = 200
HELD_OUT = 10  # every tenth query
EPOCHS, BATCH = 10, 256
LEARNING_RATE, TEMPERATURE, DROPOUT = 2e-3, 0.07, 0.3
# Products that each step tells the right ones from, beside those of the batch; of a small catalogue all.
SAMPLED = 1_024
WEIGHTS = (0.0, 1.0, 2.0, 3.0)
MOST_HELD_OUT = 2_000
# Of weak queries: fewer and smaller steps, a minute's worth; and smaller weights, since they are no shopper's.
MOST_WEAK_STEPS, WEAK_BATCH, WEAK_SAMPLED, MOST_WEAK_HELD_OUT = 400, 128, 256, 500
WEAK_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5)
HIDDEN = 0.9  # of a weak query's terms, from its own product
BEYOND_CHANCE = 0.01


@dataclasses.dataclass(frozen=True)
class Pairs:
    """What was looked at after searches.

    Attributes:
        query: ``[pairs]`` int32, index into ``ShopData.values["query"]``, from 1.
        product: ``[pairs]`` int32.
        weight: ``[pairs]`` float32, 1 / how many events after the search it came.
    """

    query: np.ndarray
    product: np.ndarray
    weight: np.ndarray

    def rows(self, places: np.ndarray) -> "Pairs":
        """Return some of them."""
        return Pairs(self.query[places], self.product[places], self.weight[places])


def train_search(data: ShopData, config: Config, say: Say) -> SearchWeights | None:
    """Return the trained search tower; None where nothing can or shall be learnt, or nothing of use was.

    Args:
        data: whose search events they are.
        config: how many steps at most, the length of the windows that they are read from, and the seed.
        say: takes one line of progress.
    """
    lexicon, steps, seed = data.lexicon, config.search.steps, config.training.seed
    if lexicon is None or not len(lexicon.terms) or not steps:
        return None
    if data.values["query"]:
        pairs = search_pairs(data, config.towers.max_history)
        held_out = pairs.query % HELD_OUT == 0
        train, validation = pairs.rows(np.flatnonzero(~held_out)), pairs.rows(np.flatnonzero(held_out))
        if len(train.query) >= FEWEST_PAIRS and len(validation.query):
            examples = _Examples(data, lexicon)
            tower = _fit(examples, lexicon, train, steps, seed)
            weight = _choose_weight(examples, tower, lexicon, validation, say)
            return SearchWeights(lexicon.terms, tower.arrays(), weight) if weight else None
        say(f"Search: {len(pairs.query):,} products after searches are too few to learn from.")
    return _train_on_weak_queries(data, lexicon, steps, seed, say)


def _train_on_weak_queries(data: ShopData, lexicon: Lexicon, steps: int, seed: int, say: Say) -> SearchWeights | None:
    if data.manifest.text.get("width"):
        say("Search: without searches the encoder's vectors say more than weak queries teach; it works untrained.")
        return None
    tower, held_out = weak_tower(data, lexicon, steps, seed)
    if tower is None:
        say("Search: too few products have a description to learn from; it works untrained.")
        return None
    weight = _choose_weak_weight(data, tower, lexicon, held_out[:MOST_WEAK_HELD_OUT], say)
    return SearchWeights(lexicon.terms, tower.arrays(), weight) if weight else None


def weak_tower(data: ShopData, lexicon: Lexicon, steps: int, seed: int) -> tuple[SearchTower | None, list[WeakQuery]]:
    """Return a tower trained on the weak queries of nine products of ten, and those of the others to choose by.

    Without descriptions there is no tower: nothing could tell whether it has learnt anything.
    """
    queries = list(weak_queries(data.catalogue, seed))
    train = [query for query in queries if query.product % HELD_OUT]
    held_out = [query for query in queries if not query.product % HELD_OUT and query.told]
    if sum(bool(query.told) for query in train) < FEWEST_PAIRS or not held_out:
        return None, held_out
    examples = _Examples(data, lexicon, [query.known + query.told for query in train])
    products = np.array([query.product for query in train], np.int32)
    numbers = np.arange(1, len(train) + 1, dtype=np.int32)
    pairs = Pairs(numbers, products, np.ones(len(train), np.float32))
    return _fit(examples, lexicon, pairs, min(steps, MOST_WEAK_STEPS), seed), held_out


def search_pairs(data: ShopData, length: int) -> Pairs:
    """Return the pairs of the training split."""
    found: list[tuple[int, int, float]] = []
    for rows in data.training_windows(length).batch(1024).as_numpy_iterator():
        columns = (rows[f"history_{name}"].tolist() for name in ("query", "product", "timestamp"))
        for queries, products, times, labels in zip(*columns, rows["label"].tolist(), strict=True):
            asked, since, place = 0, -1, 0
            for step, query in enumerate(queries):
                if query and products[step]:
                    # The event says itself which query it came from.
                    found.append((query, products[step], 1.0))
                    asked = 0
                elif query:
                    asked, since, place = query, times[step], 0
                last = step + 1 == len(queries)
                follows = last or not queries[step + 1]
                late = not last and since >= 0 and times[step + 1] > since + SESSION_MS
                if asked and labels[step] and follows and not late and place < FOLLOWING:
                    place += 1
                    found.append((asked, labels[step], 1.0 / place))
    columns_of = list(zip(*found, strict=True)) or [(), (), ()]
    return Pairs(
        np.array(columns_of[0], np.int32), np.array(columns_of[1], np.int32), np.array(columns_of[2], np.float32)
    )


class _Examples:
    """Queries and products as the tower reads them; of weak queries the forms are given, and nothing else is read."""

    def __init__(self, data: ShopData, lexicon: Lexicon, weak: Sequence[Sequence[str]] | None = None):
        self.products, self.weak = data.catalogue.size, weak is not None
        found = [forms(query.decode("utf-8")) for query in data.values["query"]] if weak is None else weak
        places = {form.decode("utf-8"): place for place, form in enumerate(lexicon.forms, 1)}
        terms = [_terms(lexicon, places, query) for query in found]
        self.query_bags = tf.ragged.constant([[], *terms], tf.int32, ragged_rank=1, row_splits_dtype=tf.int64)
        self.idf = tf.constant(lexicon.idf)
        self.product_bags, self.product_weights = product_terms(lexicon, self.products)
        self.query_text = self.product_text = None
        self.text_mean = np.zeros(0, np.float32)
        if weak is None and data.manifest.text.get("width"):
            self.query_text = tf.math.l2_normalize(tf.constant(data.query_vectors), 1)
            self.product_text = tf.math.l2_normalize(tf.constant(data.catalogue.text_vector), 1)
            self.text_mean = np.asarray(data.catalogue.text_mean, np.float32)

    def queries(self, tower: SearchTower, places: tf.Tensor) -> tf.Tensor:
        bags = tf.gather(self.query_bags, places)
        text = None if self.query_text is None else tf.gather(self.query_text, places)
        return tower.vectors("query", text, ragged_bags(bags, tf.gather(self.idf, bags.values)))

    def of_products(self, tower: SearchTower, places: tf.Tensor, label: tf.Tensor, query: tf.Tensor) -> tf.Tensor:
        """Return the vectors of products; of weak queries' own ones, ``label`` of ``places``, without their terms."""
        bags = tf.gather(self.product_bags, places)
        weights = tf.gather(self.product_weights, places).values
        if self.weak:
            asked = tf.gather(self.query_bags, query)
            # A product and a term as one number.
            terms = tf.size(self.idf)
            own = tf.sort(tf.gather(label, asked.value_rowids()) * terms + asked.values)
            keys = tf.cast(bags.value_rowids(), tf.int32) * terms + bags.values
            same = tf.gather(own, tf.minimum(tf.searchsorted(own, keys), tf.size(own) - 1)) == keys
            weights = tf.where(same & (tf.random.uniform(tf.shape(weights)) < HIDDEN), 0.0, weights)
        text = None if self.product_text is None else tf.gather(self.product_text, places)
        return tower.vectors("product", text, ragged_bags(bags, weights))


def _terms(lexicon: Lexicon, places: dict[str, int], found: Iterable[str]) -> list[int]:
    """Return the terms of those of the forms that the catalogue has."""
    return [int(lexicon.term_of_form[places[form]]) for form in found if form in places]


def _fit(examples: _Examples, lexicon: Lexicon, pairs: Pairs, most_steps: int, seed: int) -> SearchTower:
    tower = SearchTower(new_weights(lexicon.terms, examples.text_mean, seed), DROPOUT)
    count = len(pairs.query)
    size = min(WEAK_BATCH if examples.weak else BATCH, count)
    sampled = min(WEAK_SAMPLED if examples.weak else SAMPLED, examples.products)
    steps = min(most_steps, EPOCHS * (count // size))
    schedule = tf_keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps, alpha=0.05)
    optimizer = tf_keras.optimizers.Adam(schedule)
    variables = list(tower.weights.values())

    @tf.function(autograph=False, reduce_retracing=True)
    def step(query: tf.Tensor, product: tf.Tensor, weight: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        # Each product once: a label's place among the candidates is the first of its like.
        candidates = tf.unique(tf.concat([product, sample], 0))
        with tf.GradientTape() as tape:
            label = candidates.idx[: tf.shape(product)[0]]
            vectors = examples.of_products(tower, candidates.y, label, query)
            logits = tf.matmul(examples.queries(tower, query), vectors, transpose_b=True) / TEMPERATURE
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
            loss = tf.reduce_sum(losses * weight) / tf.reduce_sum(weight)
        # Dense: Adam moves what a step did not touch, too, by its momentum.
        gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, variables)]
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(count) for _ in range(-(-steps * size // count))])
    for number in range(steps):
        places = order[number * size : (number + 1) * size]
        sample = random.choice(examples.products, sampled, replace=False).astype(np.int32) + 1
        step(pairs.query[places], pairs.product[places], pairs.weight[places], tf.constant(sample))
    tower.dropout = 0.0
    return tower


def _choose_weight(examples: _Examples, tower: SearchTower, lexicon: Lexicon, pairs: Pairs, say: Say) -> float:
    """Return the weight with the highest mean reciprocal rank of the held-out pairs' products, weighted."""
    from tfrs_shop.served.text_search import VECTOR_WEIGHT

    pairs = pairs.rows(np.arange(min(len(pairs.query), MOST_HELD_OUT)))
    vectors = product_vectors(tower, examples.product_bags, examples.product_weights, examples.product_text)
    totals = np.zeros(len(WEIGHTS))
    for query in np.unique(pairs.query):
        lexical = _lexical(lexicon, examples.query_bags[query].numpy(), examples.products)
        if examples.query_text is not None:
            lexical += VECTOR_WEIGHT * tf.linalg.matvec(examples.product_text, examples.query_text[query]).numpy()
        trained = tf.linalg.matvec(vectors, examples.queries(tower, tf.constant([query]))[0]).numpy()
        own = pairs.rows(np.flatnonzero(pairs.query == query))
        for place, weight in enumerate(WEIGHTS):
            scores = lexical + weight * trained
            scores[0] = -np.inf
            ranks = (scores >= scores[own.product][:, None]).sum(1)
            totals[place] += (own.weight / ranks).sum()
    totals /= pairs.weight.sum()
    best = int(np.argmax(totals))
    say(
        f"Search: trained on what followed searches; weight {WEIGHTS[best]:g} is best on held-out queries, "
        f"MRR {totals[best]:.4f} (untrained {totals[0]:.4f})."
    )
    return WEIGHTS[best]


def _choose_weak_weight(
    data: ShopData, tower: SearchTower, lexicon: Lexicon, held_out: Sequence[WeakQuery], say: Say
) -> float:
    """Return the weight with the highest mean reciprocal rank of the held-out products; 0 where chance explains it.

    What only a product's description says is hidden from that product, and from no other, in words and in the tower.
    """
    size = data.catalogue.size
    places = {form.decode("utf-8"): place for place, form in enumerate(lexicon.forms, 1)}
    bags, weights = product_terms(lexicon, size)
    vectors = product_vectors(tower, bags, weights, None)
    reached = np.zeros([len(held_out), len(WEAK_WEIGHTS)])
    for row, query in enumerate(held_out):
        known, told = (np.array(_terms(lexicon, places, found), np.int32) for found in (query.known, query.told))
        asked = np.concatenate([known, told])
        scores = _lexical(lexicon, asked, size)
        own = bags[query.product].numpy()
        scores[query.product] = _lexical(lexicon, known, size)[query.product] * _share(lexicon, known, asked)
        kept = np.where(np.isin(own, told), 0.0, weights[query.product].numpy()).astype(np.float32)
        asking = tower.vectors("query", None, _bag(asked, lexicon.idf[asked]))
        trained = vectors @ asking.numpy()[0]
        trained[query.product] = float(tf.reduce_sum(asking * tower.vectors("product", None, _bag(own, kept))))
        for place, weight in enumerate(WEAK_WEIGHTS):
            total = scores + weight * trained
            reached[row, place] = 1.0 / (total[1:] >= total[query.product]).sum()
    means = reached.mean(0)
    best = int(np.argmax(means))
    p_value = paired_test(reached[:, best], reached[:, 0])["p_value"] if best else 1.0
    weight = WEAK_WEIGHTS[best] if p_value < BEYOND_CHANCE else 0.0
    say(
        f"Search: trained on weak queries; weight {weight:g} on {len(held_out):,} held-out ones, MRR {means[best]:.4f} "
        f"with {WEAK_WEIGHTS[best]:g}, {means[0]:.4f} untrained (p = {p_value:.4f})."
    )
    return weight


def _lexical(lexicon: Lexicon, terms: np.ndarray, products: int) -> np.ndarray:
    """Return ``[products + 1]`` float32: the share of the most that a product could score for some terms."""
    from tfrs_shop.served.lexicon import MOST_WEIGHT

    total = np.zeros(products + 1, np.float32)
    terms = np.unique(terms)
    for term in terms:
        some = slice(lexicon.starts[term], lexicon.starts[term + 1])
        total[lexicon.products[some]] += lexicon.weights[some]
    found: np.ndarray = total / max(float(lexicon.idf[terms].sum()) * MOST_WEIGHT, 1e-9)
    return found


def _share(lexicon: Lexicon, some: np.ndarray, terms: np.ndarray) -> float:
    """Return how much of the most of ``terms`` is that of ``some`` of them."""
    return float(lexicon.idf[np.unique(some)].sum() / max(lexicon.idf[np.unique(terms)].sum(), 1e-9))


def _bag(terms: np.ndarray, weights: np.ndarray) -> Bags:
    return Bags(tf.constant(terms, tf.int32), tf.zeros(len(terms), tf.int32), tf.constant(weights), tf.constant(1))
