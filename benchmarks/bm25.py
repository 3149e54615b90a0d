"""Plain BM25, the peer of the search benchmarks: Lucene's formula, k1 1.2, b 0.75, English stemmer and stop words."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import snowballstemmer  # type: ignore[import-untyped]

# Lucene's EnglishAnalyzer.
_STOP_TEXT = """
a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to was
will with
"""
STOP_WORDS = frozenset(_STOP_TEXT.split())
_STEMMER = snowballstemmer.stemmer("english")
_STEMS: dict[str, str] = {}


def analyzed(text: str) -> list[str]:
    """Return the terms of `text`: lower-cased runs of letters and digits, without stop words, stemmed."""
    found = [word.removesuffix("'s") for word in re.findall(r"\w+(?:'\w+)*", text.lower())]
    return [_STEMS.setdefault(word, _STEMMER.stemWord(word)) for word in found if word not in STOP_WORDS]


class Bm25:
    """Scores all documents for a query.

    Args:
        documents: their texts.
    """

    def __init__(self, documents: Sequence[str]):
        counts = [Counter(analyzed(text)) for text in documents]
        lengths = np.array([sum(count.values()) for count in counts], float)
        self.norms = 1.2 * (1 - 0.75 + 0.75 * lengths / max(lengths.mean(), 1e-9))
        self.postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for place, count in enumerate(counts):
            for term, times in count.items():
                self.postings[term].append((place, times))

    def scores(self, query: str) -> np.ndarray:
        """Return ``[documents]`` float64."""
        total = np.zeros(len(self.norms))
        for term in analyzed(query):
            found = self.postings.get(term)
            if found:
                places, times = np.array(found).T
                idf = math.log(1 + (len(total) - len(places) + 0.5) / (len(places) + 0.5))
                total[places] += idf * times / (times + self.norms[places])
        return total
