"""Text: cleaning, words, sentences, behaviour text, and the BERT encoder.

`clean`, `tokenize`, `sentences` and `behavior` are pure Python, for Beam workers. TensorFlow is
imported only when a name that needs it (`TextEncoder`, `encode_texts`, `default_encoder`) is used.
"""

from typing import TYPE_CHECKING

from tfrs_shop.text.behavior import behavior_text
from tfrs_shop.text.clean import clean_text
from tfrs_shop.text.sentences import split_sentences
from tfrs_shop.text.tokenize import words

if TYPE_CHECKING:
    from tfrs_shop.text.batch import encode_texts
    from tfrs_shop.text.encoder import TextEncoder
    from tfrs_shop.text.minilm import EncoderHandles, default_encoder

__all__ = [
    "EncoderHandles",
    "TextEncoder",
    "behavior_text",
    "clean_text",
    "default_encoder",
    "encode_texts",
    "split_sentences",
    "words",
]

_HOME = {
    "EncoderHandles": "tfrs_shop.text.minilm",
    "default_encoder": "tfrs_shop.text.minilm",
    "TextEncoder": "tfrs_shop.text.encoder",
    "encode_texts": "tfrs_shop.text.batch",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
