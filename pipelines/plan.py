"""The plan: the flags and the files' columns are looked at before anything runs, and become a job."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from pipelines import values
from pipelines.examples import BY_TIME, SplitRule
from pipelines.files import column_names, match_files
from pipelines.job import Job, text_settings
from pipelines.options import PreprocessOptions
from pipelines.row_parser import RowParser
from pipelines.values import RowError
from tfrs_shop.errors import UserError, suggest
from tfrs_shop.features import Feature, profile_feature
from tfrs_shop.mapping import Mapping, TableMapping, load_mapping
from tfrs_shop.schema import EVENT_FIELDS

Say = Callable[[str], None]
# Columns by file, by table.
Columns = dict[str, dict[str, list[str]]]


def plan(options: PreprocessOptions, say: Say = lambda line: None) -> Job:
    """Return what the job with these flags does.

    Raises:
        UserError: a file or a column that is needed is missing, or a flag does not fit the files.
    """
    mapping = load_mapping(options.mapping)
    files = {
        table: match_files(f"--{table}", patterns)
        for table, patterns in (("events", options.events), ("products", options.products), ("users", options.users))
        if patterns
    }
    _check_output(options.output, files)
    columns = {
        table: {path: column_names(path, getattr(mapping, table)) for path in paths} for table, paths in files.items()
    }
    if "products" not in files:
        mapping = _derive_products(mapping)
    order_by = _order_by(options, mapping, columns.get("events", {}))
    parsers = {
        "events": RowParser("events", mapping.events, order_by),
        # The columns of event rows tell of the event.
        "products": RowParser(
            "products", mapping.products, further_text="products" in files and _adds_texts(mapping.products)
        ),
        "users": RowParser("users", mapping.users),
    }
    _check_columns(columns, parsers)
    for note in _unused_columns(columns, mapping):
        say(note)
    handles, text = text_settings(options.text_encoder, options.text_preprocessor, options.text_length)
    by_share = options.split == BY_TIME and not options.test_from
    return Job(
        files=files,
        mapping=mapping,
        parsers=parsers,
        rule=_rule(options, order_by),
        order_by=order_by,
        cuts_by_share=(options.validation_share, options.test_share) if by_share and "events" in files else None,
        profile=_profile(columns.get("users", {}), parsers["users"]),
        max_events_per_user=options.max_events_per_user,
        max_vocabulary=options.max_vocabulary,
        shards=options.shards,
        handles=handles,
        text=text,
    )


def _check_output(output: str, files: dict[str, list[str]]) -> None:
    """Refuse to write over what is read."""
    if "://" in output:
        return
    target = Path(output).resolve()
    for path in (path for paths in files.values() for path in paths):
        if target == Path(path).resolve().parent or target in Path(path).resolve().parents:
            raise UserError(f"--output {output}: holds the input file {path}; give another directory.")


def _adds_texts(products: TableMapping) -> bool:
    """Tell whether texts of columns that no field takes become description: not where a mapping says what does."""
    return not products.from_events and "description" not in products.columns


def _derive_products(mapping: Mapping) -> Mapping:
    """Return the mapping with which products are read out of event rows, whose ``rating`` is not a mean."""
    columns = {"rating_mean": "rating_mean", **mapping.products.columns}
    return dataclasses.replace(mapping, products=dataclasses.replace(mapping.products, columns=columns))


def _order_by(options: PreprocessOptions, mapping: Mapping, columns: dict[str, list[str]]) -> str:
    if not columns:
        return ""
    if options.order_by != "auto":
        return str(options.order_by)
    parser = RowParser("events", mapping.events)
    fields = {field.name: field for field in EVENT_FIELDS}
    for name in ("timestamp", "position"):
        wanted = set(parser.columns(fields[name]))
        if name in mapping.events.constants or all(wanted & set(present) for present in columns.values()):
            return name
    file, present = next(iter(columns.items()))
    raise UserError(
        f"{file}: has neither a timestamp nor a position column, so events have no order; it has "
        f"{', '.join(present)}. Name the column with --mapping (see docs/mappings.md)."
    )


def _check_columns(columns: Columns, parsers: dict[str, RowParser]) -> None:
    for table, by_file in columns.items():
        for path, present in by_file.items():
            missing = parsers[table].missing_columns(present)
            if missing:
                raise UserError(
                    f"{path}: has no column {missing[0]}, which --{table} needs; it has {', '.join(present)}. "
                    "Name the columns with --mapping (see docs/mappings.md)."
                )


def _unused_columns(columns: Columns, mapping: Mapping) -> list[str]:
    """Return a line for each field that the mapping takes from columns that no file has: a typing error, or no data."""
    notes = []
    for table, by_file in columns.items():
        present = {name for names in by_file.values() for name in names}
        for field, mapped in getattr(mapping, table).columns.items():
            names = [mapped] if isinstance(mapped, str) else mapped
            if names and not present.intersection(names):
                near = suggest(names[0], present)
                notes.append(
                    f"Note: no file of --{table} has the mapping's column {' or '.join(names)} ({field}).{near}"
                )
    return notes


def _profile(columns: dict[str, list[str]], parser: RowParser) -> tuple[Feature, ...]:
    present = {column for names in columns.values() for column in names}
    kinds = parser.attribute_kinds(sorted(present))
    for name in parser.mapping.numeric if columns else []:
        if name not in kinds:
            near = suggest(name, kinds)
            raise UserError(f"{next(iter(columns))}: has no attribute '{name}', which the mapping calls numeric.{near}")
    return tuple(profile_feature(name, numeric=kinds[name]) for name in sorted(kinds))


def _rule(options: PreprocessOptions, order_by: str) -> SplitRule:
    targets = frozenset(name.strip() for name in options.target_events.split(",") if name.strip())
    if options.split != BY_TIME:
        return SplitRule(options.split, options.max_history, targets)
    if order_by == "position":
        raise UserError("--split time needs a timestamp in every event; these events have only a position.")
    if not options.test_from:
        return SplitRule(BY_TIME, options.max_history, targets)
    times = []
    for flag in ("validation_from", "test_from"):
        value = getattr(options, flag)
        try:
            times.append(values.time(flag, value))
        except RowError:
            raise UserError(
                f"--{flag} {value}: is not a time; write it like 2024-05-31 or 2024-05-31T12:00Z."
            ) from None
    if times[0] > times[1]:
        raise UserError("--validation_from must not be after --test_from.")
    return SplitRule(BY_TIME, options.max_history, targets, times[0], times[1])
