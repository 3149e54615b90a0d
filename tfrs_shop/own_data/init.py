"""``tfrs-shop init``: the proposal as files and as lines for people."""

from collections.abc import Callable, Iterator
from pathlib import Path

from tfrs_shop.errors import UserError
from tfrs_shop.mapping import load_mapping
from tfrs_shop.own_data.proposal import MAPPING, SETTINGS, Proposal, Table, propose

Say = Callable[[str], None]
SHOWN_REASONS = 5


def init(files: list[str], known: dict[str, list[str]], output: Path, overwrite: bool, say: Say) -> Proposal:
    """Look at a shop's files, write ``mapping.yaml`` and ``train.yaml`` into `output`, and say what comes next.

    Args:
        files: paths, globs or directories of tables that are to be told apart.
        known: table (events, products, users) to files that are said to be of it.
        output: a directory; its two files are written.
        overwrite: whether files of that name may be replaced.
        say: takes one line.

    Raises:
        UserError: a file cannot be used, or there is something in `output` already.
    """
    if not files and not any(known.values()):
        raise UserError("give the files of your shop: its events, and where there are any, its products and users.")
    written = {name: output / name for name in (MAPPING, SETTINGS)}
    there = [str(path) for path in written.values() if path.exists()]
    if there and not overwrite:
        raise UserError(
            f"{' and '.join(there)}: already there, and may hold your changes; give --overwrite, or another --output."
        )
    proposal = propose(files, known)
    for line in found_lines(proposal):
        say(line)
    try:
        output.mkdir(parents=True, exist_ok=True)
        written[MAPPING].write_text(proposal.mapping_yaml(), encoding="utf-8")
        written[SETTINGS].write_text(proposal.settings, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written ({error.strerror}).") from None
    load_mapping(str(written[MAPPING]))
    for name, path in written.items():
        say(f"{'Replaced' if str(path) in there else 'Wrote'} {path} ({_for(name)}).")
    say("\nNext:")
    for command in proposal.commands(output):
        say(f"  {command}")
    return proposal


def found_lines(proposal: Proposal) -> Iterator[str]:
    """Yield what was found, what would be rejected, and what was guessed, for people."""
    for name, table in proposal.tables.items():
        yield f"{name}: {table.sample.name}, {table.sample.row_count}"
        yield from _columns(table.found.fields)
        if name == "events" and proposal.of_products.fields:
            yield "products: out of the same rows"
            yield from _columns(proposal.of_products.fields)
        unused = [column for column in table.unused if name != "events" or column not in proposal.of_products.taken]
        if name == "users":
            unused = proposal.mapping.users.ignore
            yield f"  attributes: {', '.join(column for column in table.unused if column not in unused) or 'none'}"
        if unused:
            yield f"  not used: {', '.join(unused)}"
        yield from _checked(table)
    for line in proposal.left_out:
        yield f"Left out: {line}"
    if proposal.guessed:
        yield "\nPlease check:"
    for number, line in enumerate(proposal.guessed, 1):
        yield f"  {number}. {line}"
    yield ""


def _columns(fields: dict[str, list[str]]) -> Iterator[str]:
    for field, names in fields.items():
        yield f"  {field:14} <- {' + '.join(names)}"


def _checked(table: Table) -> Iterator[str]:
    check = table.check
    line = f"  of {check.rows:,} rows looked at: {check.kept:,} would be kept, {check.rejected:,} rejected"
    yield line + (f", {check.skipped:,} left out on purpose" if check.skipped else "")
    for reason, count in check.reasons.most_common(SHOWN_REASONS):
        yield f"    {count:,} x {check.examples[reason]}"


def _for(name: str) -> str:
    return "which column is which" if name == MAPPING else "settings of the training"
