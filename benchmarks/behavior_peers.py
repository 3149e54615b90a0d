"""What ``benchmarks.behavior`` compares with: a Markov chain on the last event, and scikit-learn's logistic regression.

Both learn from every position of the same training histories as the model, both read what it reads, and the strength
of their smoothing or regularisation is chosen on the validation split.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

STRENGTHS = (0.01, 0.1, 1.0)
SMOOTHINGS = (1.0, 5.0, 20.0, 100.0)
FADING = 0.8
CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class Moments:
    """Histories up to a moment, and what came next.

    Attributes:
        kinds, products, categories: ``[moments, history]`` int32, newest last, 0 padded.
        times: ``[moments, history]`` int64 milliseconds, -1 unknown.
        next_kind, next_category: ``[moments]`` int32, 0 where nothing is asked.
        follows: ``[moments]`` int, whether a purchase follows in the session, -1 unknown.
    """

    kinds: np.ndarray
    products: np.ndarray
    categories: np.ndarray
    times: np.ndarray
    next_kind: np.ndarray
    next_category: np.ndarray
    follows: np.ndarray

    def where(self, chosen: np.ndarray) -> "Moments":
        """Return the moments where ``chosen`` ``[moments]`` is true."""
        return Moments(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))


def training_moments(windows: Iterable[dict[str, np.ndarray]], leaf: np.ndarray) -> Moments:
    """Return every position of training windows, as a moment of its own.

    Args:
        windows: batches of ``ShopData.training_windows``.
        leaf: ``[products + 1]`` category of each product.
    """
    rows = list(windows)
    whole = {name: np.concatenate([row[name] for row in rows]) for name in rows[0] if name != "profile"}
    length = whole["label"].shape[1]
    parts = []
    for place in range(length):
        there = whole["history_event_type"][:, place] > 0
        missing = length - place - 1

        def until(
            name: str, padding: int, place: int = place, there: np.ndarray = there, missing: int = missing
        ) -> np.ndarray:
            return np.pad(whole[name][there, : place + 1], [(0, 0), (missing, 0)], constant_values=padding)

        asked = whole["label"][there, place]
        products = until("history_product", 0)
        parts.append(
            Moments(
                until("history_event_type", 0),
                products,
                leaf[products],
                until("history_timestamp", -1),
                np.where(asked > 0, whole["label_event_type"][there, place], 0),
                leaf[asked],
                whole["history_purchase_follows"][there, place],
            )
        )
    return Moments(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in dataclasses.fields(Moments)))


def middles(windows: Iterable[dict[str, np.ndarray]], leaf: np.ndarray, length: int) -> Moments:
    """Return the middle of each training window, which must be a whole session, as a moment; `length` events of it."""
    found = []
    for row in (
        dict(zip(batch, values, strict=True)) for batch in windows for values in zip(*batch.values(), strict=True)
    ):
        known = np.flatnonzero(row["history_event_type"])
        # The window's last event is its last label.
        place = known[0] + (len(known) + 1) // 2
        chosen = slice(max(0, place - length), place)

        def newest(name: str, padding: int, row: dict[str, np.ndarray] = row, chosen: slice = chosen) -> np.ndarray:
            values = row[name][chosen]
            return np.pad(values, (length - len(values), 0), constant_values=padding)

        products = newest("history_product", 0)
        times, follows = newest("history_timestamp", -1), row["history_purchase_follows"][place - 1]
        found.append((newest("history_event_type", 0), products, leaf[products], times, 0, 0, follows))
    return Moments(*(np.array(column) for column in zip(*found, strict=True)))


def evaluation_moments(batches: Iterable[dict[str, np.ndarray]], leaf: np.ndarray) -> Moments:
    """Return the examples of a split, batches of ``ShopData.evaluation_batches``, as moments."""
    parts = [
        Moments(
            rows["history_event_type"],
            rows["history_product"],
            leaf[rows["history_product"]],
            rows["history_timestamp"],
            rows["label_event_type"],
            leaf[rows["label"]],
            rows["history_purchase_follows"][:, -1],
        )
        for rows in batches
    ]
    return Moments(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in dataclasses.fields(Moments)))


def features(moments: Moments, kinds: int) -> np.ndarray:
    """Return ``[moments, features]`` float64 for a logistic regression.

    The last three types, counts of each type in all, of the last five and on the product at hand, whether that product
    or its category was met before or just before, the last two gaps in time, and the length of the history.
    """
    happened = np.eye(kinds + 1)[moments.kinds][..., 1:]
    same = (moments.products == moments.products[:, -1:]) & (moments.products[:, -1:] > 0)
    alike = (moments.categories == moments.categories[:, -1:]) & (moments.categories[:, -1:] > 0)
    gaps = np.diff(moments.times[:, -3:], axis=1)
    known = (moments.times[:, -3:-1] >= 0) & (moments.times[:, -2:] >= 0)
    parts = [
        *(happened[:, -age] for age in (1, 2, 3)),
        np.log1p(happened.sum(1)),
        happened[:, -5:].sum(1),
        np.log1p((happened * same[..., None]).sum(1)),
        np.log1p((happened * alike[..., None]).sum(1)),
        *(part[:, None] for part in (same[:, -2], same[:, -3], same.sum(1) > 1, alike[:, -2], alike[:, :-1].any(1))),
        np.where(known, np.log1p(np.maximum(gaps, 0) / 1000.0), 0.0),
        known,
        np.log1p((moments.kinds > 0).sum(1))[:, None],
    ]
    return np.concatenate([np.asarray(part, np.float64) for part in parts], 1)


class Regression:
    """Logistic regression on standardised features, its strength chosen on validation.

    Args:
        rows, happened: ``[moments, features]`` and ``[moments]`` int classes to fit.
        judged_rows, judged: those of the validation split.
        classes: number of classes; one that never happened gets no chance.
    """

    def __init__(
        self, rows: np.ndarray, happened: np.ndarray, judged_rows: np.ndarray, judged: np.ndarray, classes: int
    ):
        self.classes, self.scaler = classes, StandardScaler().fit(rows)
        best = np.inf
        for strength in STRENGTHS:
            fitted = LogisticRegression(C=strength, max_iter=500).fit(self.scaler.transform(rows), happened)
            loss = _loss(self._chances(fitted, judged_rows), judged)
            if loss < best:
                best, self.strength, self.fitted = loss, strength, fitted

    def chances(self, rows: np.ndarray) -> np.ndarray:
        """Return ``[moments, classes]``."""
        return self._chances(self.fitted, rows)

    def _chances(self, fitted: Any, rows: np.ndarray) -> np.ndarray:
        found = np.zeros([len(rows), self.classes])
        found[:, fitted.classes_] = fitted.predict_proba(self.scaler.transform(rows))
        return found


class Markov:
    """The share of each class after each state, smoothed towards the share of all; the smoothing by validation.

    Args:
        state, happened: ``[moments]`` int to count.
        judged_state, judged: those of the validation split.
        states, classes: how many there are.
    """

    def __init__(
        self,
        state: np.ndarray,
        happened: np.ndarray,
        judged_state: np.ndarray,
        judged: np.ndarray,
        states: int,
        classes: int,
    ):
        self.counts = np.zeros([states, classes], np.float32)
        np.add.at(self.counts, (state, happened), 1.0)
        share = np.bincount(happened, minlength=classes) + 0.5
        self.share = (share / share.sum()).astype(np.float32)
        losses = []
        for smoothing in SMOOTHINGS:
            self.smoothing = smoothing
            losses.append(
                np.mean([-np.log(row[place]) for row, place in zip(self._each(judged_state), judged, strict=True)])
            )
        self.smoothing = SMOOTHINGS[int(np.argmin(losses))]

    def chances(self, state: np.ndarray) -> np.ndarray:
        """Return ``[moments, classes]`` float32."""
        counts = self.counts[state]
        return (counts + self.smoothing * self.share) / (counts.sum(1, keepdims=True) + self.smoothing)

    def _each(self, state: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, len(state), CHUNK):
            yield from self.chances(state[start : start + CHUNK])


class CategoryRegression:
    """A logistic regression for many categories: whether the next is the last, another of the history, or a new one.

    A regression over thousands of classes does not fit. Among those of the history the chance goes by how recent and
    frequent they are, among the new ones by the Markov chain.

    Args:
        regression: of the three cases.
        markov: from the last category to the next.
        kinds: number of event types.
    """

    def __init__(self, regression: Regression, markov: Markov, kinds: int):
        self.regression, self.markov, self.kinds = regression, markov, kinds

    @staticmethod
    def case(moments: Moments) -> np.ndarray:
        """Return ``[moments]``: 0 the next category is the last, 1 another of the history, 2 a new one."""
        wanted = moments.next_category[:, None]
        again = (moments.categories == wanted).any(1)
        return np.where(wanted[:, 0] == moments.categories[:, -1], 0, np.where(again, 1, 2))

    def chances(self, moments: Moments) -> np.ndarray:
        """Return ``[moments, categories + 1]``; of category 0, "none", it is 0."""
        case = self.regression.chances(features(moments, self.kinds))
        new = self.markov.chances(moments.categories[:, -1]).astype(np.float64)
        new[:, 0] = 0.0
        others = np.zeros_like(new)
        places = np.arange(len(new))
        fading = FADING ** np.arange(moments.categories.shape[1])[::-1]
        for column, weight in zip(moments.categories.T, fading, strict=True):
            np.add.at(others, (places, column), weight)
        others[:, 0] = 0.0
        last = np.zeros_like(new)
        last[places, moments.categories[:, -1]] = 1.0
        last[:, 0] = 0.0
        new[(others > 0) | (last > 0)] = 0.0
        others[last > 0] = 0.0
        total = np.zeros_like(new)
        for place, part in enumerate((last, others, new)):
            sums = part.sum(1, keepdims=True)
            total += case[:, place : place + 1] * np.divide(part, sums, out=np.zeros_like(part), where=sums > 0)
        return total / total.sum(1, keepdims=True)


def _loss(chances: np.ndarray, happened: np.ndarray) -> float:
    return float(-np.mean(np.log(np.maximum(chances[np.arange(len(happened)), happened], 1e-7))))
