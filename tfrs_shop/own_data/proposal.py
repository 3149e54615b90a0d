"""The proposal: from files to a mapping, settings and commands, and what a person should know of them."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import yaml

from tfrs_shop.errors import UserError
from tfrs_shop.mapping import Mapping, TableMapping
from tfrs_shop.own_data.check import Check, Size, check_rows, measure, product_ids
from tfrs_shop.own_data.columns import (
    Columns,
    Found,
    event_columns,
    product_columns,
    user_columns,
    wide_columns,
)
from tfrs_shop.own_data.evidence import Column
from tfrs_shop.own_data.mapping_guess import (
    as_yaml,
    events_mapping,
    products_mapping,
    target_events,
    users_mapping,
)
from tfrs_shop.own_data.names import likeness
from tfrs_shop.own_data.sample import Sample, look
from tfrs_shop.own_data.settings import training_settings
from tfrs_shop.own_data.tables import columns_of, table_of

TABLES = ("events", "products", "users")
ALLOWED_BAD = 0.05  # the pipeline's --max_bad_rows
CLOSE_TO_IT = 0.03
HOPELESS = 0.5
MOST_TEXTS = 200_000
TEXTS_A_SECOND = 85
MAPPING, SETTINGS = "mapping.yaml", "train.yaml"


@dataclasses.dataclass
class Table:
    """One table: its files and what was found in them."""

    sample: Sample
    columns: Columns
    found: Found = dataclasses.field(default_factory=Found)
    check: Check = dataclasses.field(default_factory=Check)

    @property
    def unused(self) -> list[str]:
        """The columns that are not read."""
        return [name for name in self.columns if name not in self.found.taken]


@dataclasses.dataclass
class Proposal:
    """What `propose` says.

    Attributes:
        tables: table to its files and columns.
        mapping: of all of them.
        of_products: where the catalogue is read out of the event rows: the columns of its fields.
        settings: the text of the settings file.
        flags: of the preprocessing job, beside files, mapping and output.
        size: what was counted.
        guessed: what was decided on thin ground, and how to change it.
        left_out: files that are not used, and why.
    """

    tables: dict[str, Table]
    mapping: Mapping
    of_products: Found
    settings: str
    flags: list[str]
    size: Size
    guessed: list[str]
    left_out: list[str]

    def commands(self, output: Path) -> list[str]:
        """Return the commands that follow, to be given as they are."""
        files = [part for name, table in self.tables.items() for part in (f"--{name}", *table.sample.given)]
        run, data, models = output / "run", output / "data", output / "models" / "shop"
        steps = [
            ["preprocess", *files, "--mapping", output / MAPPING, *self.flags, "--output", data],
            ["train", "--data", data, "--config", output / SETTINGS, "--output", run],
        ]
        if self.size.testable:
            steps.append(["evaluate", "--run", run, "--split", "test"])
        steps.append(["export", "--run", run, "--output", models])
        steps.append(["serve", "--model_name=shop", f"--model_base_path={models.absolute()}", "--rest_api_port=8501"])
        if self.size.user:
            steps.append(["query", "recommend", "--user", self.size.user])
        elif self.size.product:
            steps.append(["query", "similar", "--product", self.size.product])
        return [shlex.join(["tfrs-shop", *map(str, step)]) for step in steps]

    def mapping_yaml(self) -> str:
        """Return the text of the mapping file."""
        files = ", ".join(table.sample.name for table in self.tables.values())
        tables: dict[str, Any] = {"description": f"Proposed by tfrs-shop init for {files}"}
        tables |= {name: settings for name in TABLES if (settings := as_yaml(getattr(self.mapping, name)))}
        return (
            "# Which column of your files is which field; docs/mappings.md says what else can be said here.\n"
            + yaml.safe_dump(tables, sort_keys=False, allow_unicode=True, width=100)
        )

    def to_json(self, output: Path) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "tables": {
                name: {
                    "files": table.sample.files,
                    "rows": table.sample.read,
                    "all_rows_read": table.sample.whole,
                    "columns": table.found.fields,
                    "unused_columns": table.unused,
                    "check": {
                        "rows": table.check.rows,
                        "kept": table.check.kept,
                        "skipped": table.check.skipped,
                        "rejected": table.check.rejected,
                        "reasons": dict(table.check.reasons.most_common()),
                        "examples": table.check.examples,
                    },
                }
                for name, table in self.tables.items()
            },
            "products_out_of_events": self.of_products.fields,
            "mapping": {name: as_yaml(getattr(self.mapping, name)) for name in TABLES},
            "flags": self.flags,
            "size": dataclasses.asdict(self.size),
            "guessed": self.guessed,
            "left_out": self.left_out,
            "commands": self.commands(output),
        }


def propose(files: list[str], known: dict[str, list[str]]) -> Proposal:
    """Look at `files` and return what to do with them.

    Args:
        files: paths, globs or directories of tables that are to be told apart.
        known: table to its files, where the user says which they are.

    Raises:
        UserError: a file cannot be read or used; what to do about it is said.
    """
    groups: dict[str, list[Table]] = {name: [] for name in TABLES}
    for name, patterns in known.items():
        groups[name] += [Table(sample, columns_of(sample)) for sample in (look(patterns)[0] if patterns else [])]
    unknown: list[UserError] = []
    samples, broken = look(files) if files else ([], [])
    for sample in samples:
        columns = columns_of(sample)
        try:
            groups[table_of(sample, columns)].append(Table(sample, columns))
        except UserError as error:
            unknown.append(error)
    tables, left_out = _one_of_each(groups, known)
    if unknown and not tables:
        raise unknown[0]
    left_out += [*broken, *map(str, unknown)]
    if "events" not in tables and "products" not in tables:
        raise UserError(
            f"{tables['users'].sample.name}: holds users only; give the file of their events too "
            "(if it is one, say so with --events before it)."
        )
    _find(tables)
    for name, table in tables.items():
        if table.sample.reading.header:
            tables[name] = _with_header(name, table)
    if "events" not in tables and "users" in tables:
        del tables["users"]
        left_out.append("The users' file is not used: profiles are of use only with events.")
    return _proposal(tables, left_out)


def _one_of_each(groups: dict[str, list[Table]], known: dict[str, list[str]]) -> tuple[dict[str, Table], list[str]]:
    """Return for each table the files that say most of it, and what to say of the others."""
    tables, left_out = {}, []
    for name, found in groups.items():
        if not known.get(name):
            found.sort(key=lambda table: (-_worth(name, table.columns), -table.sample.read))
        if found:
            tables[name] = found[0]
        left_out += [
            f"{other.sample.name} looks like {name} too, but has other columns ({', '.join(other.sample.columns[:8])}) "
            f"than {found[0].sample.name}; one mapping reads one kind of file, so give both the same columns to use it."
            for other in found[1:]
        ]
    return tables, left_out


def _worth(name: str, columns: Columns) -> int:
    """Return how many fields of a table a file has."""
    finders = {"events": lambda: event_columns(columns, set()), "products": lambda: product_columns(columns, set())}
    return len(finders[name]().fields) if name in finders else len(columns)


def _find(tables: dict[str, Table]) -> None:
    """Find the fields in each table; ids that two tables share tell which columns they are."""
    events, products, users = (tables.get(name) for name in TABLES)
    sold = _values_of_ids(events.columns, "product_id") if events else set()
    if products:
        products.found = product_columns(products.columns, sold)
        _need(products, "product_id", "products")
    if events:
        listed = products.columns[products.found.fields["product_id"][0]].counts if products else {}
        events.found = event_columns(events.columns, set(listed))
        _need(events, "user_id", "events")
        if not {"product_id", "query"} & events.found.fields.keys():
            _need(events, "product_id", "events")
        if not products and "product_id" not in events.found.fields:
            raise UserError(f"{events.sample.name}: holds searches and no products; give the file of the products too.")
        if not {"timestamp", "position"} & events.found.fields.keys():
            raise UserError(
                f"{events.sample.name}: no column looks like a time or like a position, so a user's events have no "
                f"order; it has {', '.join(events.columns)}. Add a column with either."
            )
    if users:
        users.found = user_columns(users.columns)
        _need(users, "user_id", "users")


def _with_header(name: str, table: Table) -> Table:
    """Return a table without a header line with our names for its columns."""
    fields = dict(table.found.fields)
    if name == "events":
        fields |= wide_columns(table.columns, table.found).fields
    names = {columns[0]: field for field, columns in fields.items()}
    sample = table.sample.renamed(names)
    found = Found({field: [field] for field in table.found.fields}, [*table.found.guessed])
    found.guessed.append(
        f"{sample.name} has no header line; its columns are taken to be {', '.join(sample.columns)} ({name}: header)."
    )
    # What was guessed speaks of the columns by their places.
    return Table(sample, columns_of(sample), found)


def _need(table: Table, field: str, name: str) -> None:
    if field not in table.found.fields:
        raise UserError(
            f"{table.sample.name}: no column looks like a {field}, which {name} need; it has "
            f"{', '.join(table.columns)}. Name the column {field}, or write a mapping (docs/mappings.md)."
        )


def _values_of_ids(columns: Columns, field: str) -> set[str]:
    def may_be(name: str, column: Column) -> bool:
        return column.looks_like_an_id and likeness(name, "events", field) > 0

    named = [column for name, column in columns.items() if may_be(name, column)]
    return {value for column in named or columns.values() if column.looks_like_an_id for value in column.counts}


def _proposal(tables: dict[str, Table], left_out: list[str]) -> Proposal:
    events, products, users = (tables.get(name) for name in TABLES)
    parts: dict[str, TableMapping] = {}
    of_products, guessed, flags = Found(), [], []
    targets: list[str] = []
    if products:
        parts["products"] = products_mapping(products.sample, products.columns, products.found, from_events=False)
    if events:
        parts["events"] = events_mapping(events.sample, events.columns, events.found)
        targets = target_events(events.columns, events.found, parts["events"].skip.get("event_type", ""))
        if not products and "product_id" in events.found.fields:
            of_products = wide_columns(events.columns, events.found)
            parts["products"] = products_mapping(events.sample, events.columns, of_products, from_events=True)
    if users:
        parts["users"] = users_mapping(users.sample, users.columns, users.found)
    mapping = Mapping("", *(parts.get(name, TableMapping()) for name in TABLES))

    catalogue = None
    if products:
        ids, again = product_ids(products.sample, mapping)
        if again > 0.01 * products.sample.read:
            changed = dataclasses.replace(mapping.products, from_events=True)
            mapping = dataclasses.replace(mapping, products=changed)
            guessed.append(
                f"{again:,} rows of {products.sample.name} name a product that an earlier row has named; of each field "
                "the value seen most often counts (products: from_events)."
            )
        catalogue = ids if products.sample.whole else None
    order_by = ""
    if events:
        order_by = "timestamp" if "timestamp" in events.found.fields else "position"
    for name, table in tables.items():
        table.check = check_rows(name, table.sample, mapping, order_by, catalogue if products else None)
        guessed += table.found.guessed
        guessed += [
            f"The {field} of {name} is not read: {why}. Mend the values to have it."
            for field, why in table.found.refused.items()
        ]
    guessed += of_products.guessed
    size = measure(events.sample, mapping, targets) if events else Size()
    if products:
        ids = ids or {""}
        size.products = len(ids)
        size.product = size.product or min(ids)
    flags += _flags(tables, of_products, size, targets, guessed)
    whole = not events or events.sample.whole
    return Proposal(tables, mapping, of_products, training_settings(size, whole), flags, size, guessed, left_out)


def _flags(
    tables: dict[str, Table], of_products: Found, size: Size, targets: list[str], guessed: list[str]
) -> list[str]:
    """Return flags of the preprocessing job that differ from its defaults, and say why in `guessed`."""
    flags: list[str] = []
    worst = max(table.check.share for table in tables.values())
    if worst > HOPELESS:
        guessed.append(
            f"{worst:.0%} of a table's rows would be rejected: as it is, the first command below will stop. Mend the "
            "mapping, or the rows (see above)."
        )
    elif worst > CLOSE_TO_IT:
        allowed = min(1.0, round(worst * 1.2 + 0.02, 2))
        flags += ["--max_bad_rows", f"{allowed:g}"]
        guessed.append(
            f"{worst:.1%} of a table's rows would be rejected, and the job stops at {ALLOWED_BAD:.0%}: it is given "
            f"--max_bad_rows {allowed:g}. Better mend the rows (see above), and leave the flag out."
        )
    if targets:
        flags += ["--target_events", ",".join(targets)]
        guessed.append(f"The model learns to foretell {', '.join(targets)} only (--target_events).")
    text = (tables["products"].found if "products" in tables else of_products).fields
    if not {"title", "brand"} & text.keys():
        flags += ["--text_encoder", "none"]
        guessed.append(
            "Products have no title, so no text is encoded (--text_encoder none), and search by text will not work."
        )
    elif size.products > MOST_TEXTS:
        hours = size.products / TEXTS_A_SECOND / 3600
        guessed.append(
            f"{size.products:,} products are encoded by BERT, which takes about {hours:.1f} hours on 2 cores; "
            "--text_encoder none leaves that out."
        )
    if "events" in tables and tables["events"].sample.whole and not size.testable:
        guessed.append("No user has three events to learn from, so nothing is held out to evaluate the model on.")
    return flags
