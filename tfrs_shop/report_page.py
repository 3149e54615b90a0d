"""The parts of an HTML page that loads nothing: tables, sections, the frame. All text is escaped here."""

import re
from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --page: #fff; --soft: #f3f4f6; --line: #d5d8de; --text: #1b1f24; --dim: #5b6470;
  --one: #1d5fbf; --two: #b4560a; --three: #1f7a4a; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --soft: #1e2329; --line: #3a424c; --text: #e6e9ed;
  --dim: #9aa4b0; --one: #74a9f5; --two: #f0a35e; --three: #6cc592; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 16px; max-width: 1120px; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 8px 0; }
h2 { font-size: 1.15rem; margin: 36px 0 8px; padding-top: 12px; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 6px; }
p { max-width: 75ch; margin: 6px 0 12px; }
.dim, figcaption, .legend { color: var(--dim); }
.columns { display: grid; gap: 16px 32px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); }
.cards { display: grid; gap: 8px; grid-template-columns: repeat(auto-fit, minmax(135px, 1fr)); }
.card { background: var(--soft); border-radius: 8px; padding: 10px 12px; }
.card b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.card span { color: var(--dim); font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; overflow-wrap: normal; }
th, td { text-align: right; padding: 4px 8px; border-bottom: 1px solid var(--line); white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th { color: var(--dim); font-weight: 500; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.facts td { white-space: normal; overflow-wrap: anywhere; } .facts td:first-child { white-space: nowrap; }
td.wide { width: 40%; min-width: 90px; }
td.words { text-align: left; white-space: normal; min-width: 90px; width: 55%; color: var(--dim); }
@media (max-width: 520px) { table { font-size: 12px; } th, td { padding: 4px; white-space: normal; }
  td.wide { display: none; }
  th:empty { display: none; } td:first-child { min-width: 70px; }
  .ranks td:first-child { min-width: 0; } }
figure { margin: 0; max-width: 460px; }
svg { display: block; width: 100%; }
svg text { fill: var(--dim); font: 11px system-ui, sans-serif; }
.grid { stroke: var(--line); stroke-width: .6; }
.axis { stroke: var(--dim); }
.marked { stroke: var(--dim); stroke-dasharray: 4 3; }
polyline { fill: none; stroke-width: 1.8; }
.series1 { stroke: var(--one); } .series2 { stroke: var(--two); } .series3 { stroke: var(--three); }
.dot1 { fill: var(--one); } .dot2 { fill: var(--two); } .dot3 { fill: var(--three); }
.key { margin-right: 14px; } .key::before { content: "\\25CF  "; color: var(--one); }
.key2::before { color: var(--two); } .key3::before { color: var(--three); }
svg.bar { height: 12px; } .fill1, .fill2 { opacity: .55; }
.fill1 { fill: var(--one); } .fill2 { fill: var(--two); }
.whisker { stroke: var(--text); stroke-width: 1.6; vector-effect: non-scaling-stroke; }
.user { border: 1px solid var(--line); border-radius: 8px; padding: 12px; margin: 12px 0; }
ol, ul { margin: 4px 0; padding-left: 26px; }
.hit { font-weight: 600; } .hit::after { content: " \\2713  what the user took"; color: var(--one); font-weight: 400; }
.why { display: block; color: var(--dim); font-size: .85rem; font-weight: 400; }
pre { background: var(--soft); padding: 12px; border-radius: 8px; overflow-x: auto; font-size: 13px; }
summary { cursor: pointer; }
"""
# What XML, and so a careful reader of HTML, does not allow in a text.
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Chart(str):
    """Markup that this package made itself, to be put into a cell as it is."""

    __slots__ = ()


class Words(str):
    """A longer text, for a cell in which lines may break."""

    __slots__ = ()


def text(value: object) -> str:
    """Return `value` as text that cannot be taken for markup; bytes are read as UTF-8."""
    shown = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return escape(FORBIDDEN.sub("\ufffd", shown))


def number(value: object) -> str:
    """Return a number for people: four decimals, or thousands set apart; other values as text."""
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else text(value)


def table(head: Sequence[str], rows: Iterable[Sequence[object]], kind: str = "") -> str:
    """Return a table.

    Args:
        head: names of the columns.
        rows: of cells: numbers, short texts that stay on one line, `Words`, or a `Chart`.
        kind: for the page's style.
    """
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    names = "".join(f"<th>{text(name)}</th>" for name in head)
    return (
        f'<div class="scroll"><table class="{text(kind)}"><thead><tr>{names}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def cards(values: dict[str, object]) -> str:
    """Return the most important numbers, name below number."""
    shown = (
        f'<div class="card"><b>{number(value)}</b><span>{text(name)}</span></div>' for name, value in values.items()
    )
    return f'<div class="cards">{"".join(shown)}</div>'


def section(title: str, *parts: str) -> str:
    """Return a section of ready-made markup; none where all parts are empty."""
    return f"<section><h2>{text(title)}</h2>{''.join(parts)}</section>" if any(parts) else ""


def paragraph(words: str) -> str:
    """Return a paragraph of plain text."""
    return f'<p class="dim">{text(words)}</p>'


def page(title: str, *sections: str) -> str:
    """Return the whole page. Its policy forbids it to load or run anything."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>"
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{text(title)}</title><style>{STYLE}</style></head><body><h1>{text(title)}</h1>"
        f"{chr(10).join(part for part in sections if part)}</body></html>\n"
    )


def _cell(value: object) -> str:
    if isinstance(value, Chart):
        return f'<td class="wide">{value}</td>'
    if isinstance(value, Words):
        return f'<td class="words">{text(value)}</td>'
    return f"<td>{number(value)}</td>"
