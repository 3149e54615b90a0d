"""Long text as sentences, so that an encoder of short texts can read all of it.

The rule is kept so simple that TensorFlow can follow it in a graph (see `encoder.py`): a sentence ends
after ``.``, ``!``, ``?``, ``…`` (with closing quotes or brackets) before white space, after the full-width
marks of Chinese and Japanese, and at a line break. Abbreviations end sentences too; for averaging, that
does no harm.
"""

import re

SENTENCE_END = r"""([.!?…]+["'”’»)\]]*)\s+|([。！？｡]+[”’」』）]*)\s*"""
"""Regular expression, valid in Python's `re` and in RE2: mark and closers, then white space that is dropped."""

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_END = re.compile(SENTENCE_END)
_UNIT = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")


def split_sentences(text: str, max_words: int = 64) -> list[str]:
    """Return the sentences of `text` in order, with their marks.

    None is empty, and nothing but white space is lost.
    A sentence of more than `max_words` words is cut into pieces of at most that many. A word is a run
    without white space, or one Chinese or Japanese character.

    >>> split_sentences("Soft. Warm! Machine wash at 30.5 degrees")
    ['Soft.', 'Warm!', 'Machine wash at 30.5 degrees']
    """
    if max_words < 1:
        raise ValueError(f"max_words must be at least 1, not {max_words}")
    sentences: list[str] = []
    for line in _END.sub(r"\1\2\n", text).splitlines():
        units = list(_UNIT.finditer(line))
        for start in range(0, len(units), max_words):
            piece = units[start : start + max_words]
            sentences.append(line[piece[0].start() : piece[-1].end()])
    return sentences
