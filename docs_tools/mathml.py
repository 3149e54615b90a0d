"""A hook of MkDocs: formulas as MathML, which browsers draw by themselves, without a script from elsewhere."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Return a page's HTML with its formulas, which arithmatex has marked, as MathML."""
    return FORMULA.sub(lambda found: convert(html.unescape(found[1])), content)
