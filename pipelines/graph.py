"""The job's Beam graph, from files to records: which transform feeds which.

    events, products, users -> rows -> parsed (bad rows -> rejected)
    products: one row an id; events: joined with their product; by user: ordered, split, made into examples
    texts: each distinct one encoded once; counts, vocabularies, statistics: combined; all written
"""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import apache_beam as beam

from pipelines.catalogue import FirstOfDuplicates, JoinProducts, MostFrequentFields, complete_product
from pipelines.encode import EncodeTexts, attach_vectors
from pipelines.examples import BY_TIME, SplitRule
from pipelines.parse import ParseRows
from pipelines.rows import ReadFiles
from pipelines.statistics import HourCounts, NumberStatistics, TopCounts, time_cuts
from pipelines.users import MakeExamples
from pipelines.write import PARTS, WriteJson, WriteLines, WriteRecords
from tfrs_shop import features as spec
from tfrs_shop.errors import UserError
from tfrs_shop.manifest import SPLITS
from tfrs_shop.mapping import Mapping
from tfrs_shop.schema import RowParser, category_prefixes, product_text
from tfrs_shop.text import words

if TYPE_CHECKING:
    from tfrs_shop.text.minilm import EncoderHandles

PRODUCT_NUMBERS = ("price", "rating_mean", "rating_count", "sales_rank")
TABLES = ("events", "products", "users")


@dataclasses.dataclass(frozen=True)
class Job:
    """All that the graph needs to know, decided before it is built."""

    files: dict[str, list[str]]
    mapping: Mapping
    parsers: dict[str, RowParser]
    rule: SplitRule
    order_by: str
    cuts_by_share: tuple[float, float] | None
    profile: tuple[spec.Feature, ...]
    max_events_per_user: int
    max_vocabulary: int
    shards: int
    handles: "EncoderHandles | None"
    text: dict[str, Any]
    output: str = ""

    @property
    def features(self) -> dict[str, tuple[spec.Feature, ...]]:
        """The feature spec of each record kind."""
        vector = (spec.text_vector_feature(self.text["width"]),) if self.handles else ()
        kinds = {
            "products": (*spec.PRODUCT_FEATURES, *vector),
            "users": (*spec.USER_FEATURES, *self.profile),
            "examples": (*spec.EXAMPLE_FEATURES, *self.profile),
        }
        if self.handles:
            kinds["queries"] = spec.query_features(self.text["width"])
        return kinds

    @property
    def folders(self) -> list[str]:
        """The folders of records."""
        return ["products", "users", *SPLITS, *(["queries"] if self.handles else [])]


def text_settings(encoder: str, preprocessor: str, length: int) -> tuple["EncoderHandles | None", dict[str, Any]]:
    """Return the encoder's handles and what the manifest says of it, for the flags given."""
    if encoder == "none":
        return None, {}
    from tfrs_shop.text import EncoderHandles, default_encoder, encode_texts

    handles = default_encoder() if encoder == "default" else EncoderHandles(preprocessor, encoder)
    try:
        width = encode_texts(["width"], handles=handles, sequence_length=length).shape[1]
    except (OSError, ValueError) as error:
        raise UserError(f"--text_encoder {encoder}: cannot be loaded ({error}).") from None
    settings = {"encoder": encoder, "preprocessor": preprocessor, "width": width, "sequence_length": length}
    return handles, settings


def build(pipeline: beam.Pipeline, job: Job) -> None:
    """Add the job's transforms to `pipeline`."""
    rejected, counts = [], []
    parsed: dict[str, Any] = {}
    fatal = []
    for table in TABLES:
        rows = _read(pipeline, job, table)
        parsed[table] = _parse(rows.main, job, table)
        rejected += [rows.rejected, parsed[table].rejected]
        fatal.append(rows.fatal)
        counts += [(f"{table}_split", rows.main), (f"{table}_unsplit", rows.rejected)]
        counts += [(f"{table}_skipped", parsed[table].skipped)]
    products, duplicates = _products(parsed, job)
    profiles = parsed["users"].main | "GroupProfiles" >> beam.GroupByKey()
    profiles = profiles | "FirstProfile" >> beam.ParDo(FirstOfDuplicates("users", "user_id")).with_outputs(
        "rejected", main="main"
    )
    joined = _join(parsed["events"].main, products)
    rejected += [duplicates, profiles.rejected, joined.rejected]
    events = (joined.main, joined.searches) | "AllEvents" >> beam.Flatten()
    made = _examples(pipeline, events, profiles.main, job)

    products = _with_train_counts(products, made.trained)
    if job.handles:
        products = _encode_products(products, job)
        _encode_queries(events, job)
    else:
        products = products | "ProductRows" >> beam.Values()
    products | "Products" >> WriteRecords(job.output, "products", job.features["products"], job.shards)
    made.users | "Users" >> WriteRecords(job.output, "users", job.features["users"], job.shards)
    for split in SPLITS:
        of_split = made.main | f"Of_{split}" >> beam.Filter(lambda pair, wanted: pair[0] == wanted, split)
        rows = of_split | f"Rows_{split}" >> beam.Values()
        rows | split >> WriteRecords(job.output, split, job.features["examples"], job.shards)
        counts.append((f"examples_{split}", rows))

    all_rejected = rejected | "AllRejected" >> beam.Flatten()
    all_rejected | "Rejected" >> WriteJson(f"{job.output}/rejected/rejected.jsonl")
    reasons = all_rejected | "Reason" >> beam.Map(_reason) | "CountReasons" >> beam.combiners.Count.PerElement()
    reasons | "WriteReasons" >> WriteJson(f"{job.output}/{PARTS}/reasons.jsonl")
    for table in TABLES:
        of_table = all_rejected | f"RejectedOf_{table}" >> beam.Filter(lambda row, name: row["table"] == name, table)
        counts.append((f"{table}_rejected", of_table))
    counts += [("products", products), ("users", made.users)]
    fatal | "AllFatal" >> beam.Flatten() | "Fatal" >> WriteJson(f"{job.output}/{PARTS}/fatal.jsonl")
    event_types = events | "EventType" >> beam.Map(lambda pair: pair[1]["event_type"])
    counted_types = event_types | "CountEventTypes" >> beam.combiners.Count.PerElement()
    counted_types | "WriteEventTypes" >> WriteJson(f"{job.output}/{PARTS}/event_types.jsonl")
    _write_counts(counts, made.over_cap, job)
    _write_statistics(products, made.numbers, job)
    _write_vocabularies(products, events, counted_types, profiles.main, job)


def _read(pipeline: beam.Pipeline, job: Job, table: str) -> Any:
    paths = pipeline | f"Files_{table}" >> beam.Create(job.files.get(table, []), reshuffle=False)
    paths = paths | f"SpreadFiles_{table}" >> beam.Reshuffle()
    read = beam.ParDo(ReadFiles(table, getattr(job.mapping, table))).with_outputs("rejected", "fatal", main="main")
    return paths | f"Read_{table}" >> read


def _parse(rows: Any, job: Job, table: str) -> Any:
    derives = table == "events" and "products" not in job.files
    parse = ParseRows(job.parsers[table], job.parsers["products"] if derives else None)
    return (
        rows
        | f"SpreadRows_{table}" >> beam.Reshuffle()
        | f"Parse_{table}" >> beam.ParDo(parse).with_outputs("rejected", "skipped", "products", main="main")
    )


def _products(parsed: dict[str, Any], job: Job) -> tuple[Any, Any]:
    """Return ``(product_id, product)`` once for each product, and the rejected duplicates."""
    if "products" in job.files and not job.mapping.products.from_events:
        grouped = parsed["products"].main | "GroupProducts" >> beam.GroupByKey()
        first = grouped | "FirstProduct" >> beam.ParDo(FirstOfDuplicates("products", "product_id")).with_outputs(
            "rejected", main="main"
        )
        return first.main, first.rejected
    rows = parsed["products"].main if "products" in job.files else parsed["events"].products
    products = (
        rows
        | "WithoutSource" >> beam.MapTuple(lambda key, row: (key, {k: v for k, v in row.items() if k != "source"}))
        | "BestFields" >> beam.CombinePerKey(MostFrequentFields())
        | "WholeProduct" >> beam.Map(complete_product)
    )
    nothing = parsed["users"].rejected | "NoDuplicates" >> beam.Filter(lambda _: False)
    return products, nothing


def _join(events: Any, products: Any) -> Any:
    """Return ``(user_id, event)``: ``main`` with products, ``searches`` without one; and ``rejected``."""
    parts = events | "HasProduct" >> beam.Partition(lambda pair, _: int(pair[0] != ""), 2)
    titles = products | "Titles" >> beam.MapTuple(lambda key, row: (key, row["title"]))
    joined = (
        {"events": parts[1], "titles": titles}
        | "GroupWithProducts" >> beam.CoGroupByKey()
        | "JoinProducts" >> beam.ParDo(JoinProducts()).with_outputs("rejected", main="main")
    )
    searches = parts[0] | "Searches" >> beam.MapTuple(lambda _, event: (event["user_id"], {**event, "title": ""}))
    return _Joined(joined.main, joined.rejected, searches)


@dataclasses.dataclass(frozen=True)
class _Joined:
    main: Any
    rejected: Any
    searches: Any


def _examples(pipeline: beam.Pipeline, events: Any, profiles: Any, job: Job) -> Any:
    attributes = profiles | "Attributes" >> beam.MapTuple(lambda key, row: (key, row["attributes"]))
    grouped = {"events": events, "profiles": attributes} | "GroupByUser" >> beam.CoGroupByKey()
    make = MakeExamples(job.rule, job.order_by, job.max_events_per_user, job.profile)
    side: dict[str, Any] = {}
    cuts = pipeline | "NoCuts" >> beam.Create([])
    if job.rule.rule == BY_TIME and job.cuts_by_share:
        hours = (
            events
            | "Times" >> beam.Map(lambda pair: pair[1]["timestamp"])
            | "CountHours" >> beam.CombineGlobally(HourCounts())
        )
        cuts = hours | "Cuts" >> beam.Map(time_cuts, *job.cuts_by_share)
        side["cuts"] = beam.pvalue.AsSingleton(cuts)
    cuts | "WriteCuts" >> WriteJson(f"{job.output}/{PARTS}/cuts.jsonl")
    return grouped | "MakeExamples" >> beam.ParDo(make, **side).with_outputs(
        "users", "trained", "numbers", "over_cap", main="main"
    )


def _with_train_counts(products: Any, trained: Any) -> Any:
    counted = trained | "CountTrained" >> beam.combiners.Count.PerElement()
    return (
        {"product": products, "count": counted}
        | "GroupTrainCounts" >> beam.CoGroupByKey()
        | "AddTrainCounts" >> beam.FlatMap(_add_train_count)
    )


def _add_train_count(element: tuple[str, dict[str, Iterable[Any]]]) -> Iterable[tuple[str, dict[str, Any]]]:
    key, groups = element
    for product in groups["product"]:
        count = next(iter(groups["count"]), 0)
        prefixes = category_prefixes(product["category"])
        text = f"{product['title']} {product['brand']} {' '.join(product['category'])}"
        yield (
            product_text(product),
            {
                **product,
                "product_id": key,
                "category": prefixes,
                "words": words(text, drop_stop_words=True),
                "train_count": count,
            },
        )


def _encode_products(products: Any, job: Job) -> Any:
    vectors = products | "ProductTexts" >> beam.Keys() | "EncodeProducts" >> EncodeTexts(job.handles, job.text["sequence_length"])
    return (
        {"rows": products, "vectors": vectors}
        | "GroupWithVectors" >> beam.CoGroupByKey()
        | "AttachVectors" >> beam.FlatMap(attach_vectors)
    )


def _encode_queries(events: Any, job: Job) -> None:
    queries = events | "Queries" >> beam.FlatMap(lambda pair: [pair[1]["query"]] if pair[1]["query"] else [])
    encoded = queries | "EncodeQueries" >> EncodeTexts(job.handles, job.text["sequence_length"])
    rows = encoded | "QueryRows" >> beam.MapTuple(lambda text, vector: {"query": text, "text_vector": vector})
    rows | "WriteQueries" >> WriteRecords(job.output, "queries", job.features["queries"], job.shards)


def _reason(row: dict[str, Any]) -> str:
    """Return a reason without its particulars, so that like ones are counted together."""
    reason = row["reason"].split(":", 1)[0]
    if row["reason"].startswith("unknown product"):
        reason = "unknown product"
    elif " is " in reason and reason.split(" is ", 1)[0][-1:] in "'\"0123456789n":
        reason = "is " + reason.split(" is ", 1)[1]
    return f"{row['table']}: {row['field']} {reason}" if row["field"] else f"{row['table']}: row {reason}"


def _write_counts(counts: list[tuple[str, Any]], over_cap: Any, job: Job) -> None:
    numbers = [
        rows | f"Count_{name}" >> beam.combiners.Count.Globally() | f"Name_{name}" >> beam.Map(_named, name)
        for name, rows in counts
    ]
    numbers.append(
        over_cap | "SumOverCap" >> beam.CombineGlobally(sum) | "NameOverCap" >> beam.Map(_named, "events_over_cap")
    )
    numbers | "AllCounts" >> beam.Flatten() | "WriteCounts" >> WriteJson(f"{job.output}/{PARTS}/counts.jsonl")


def _named(number: int, name: str) -> tuple[str, int]:
    return name, number


def _write_statistics(products: Any, numbers: Any, job: Job) -> None:
    of_products = products | "ProductNumbers" >> beam.FlatMap(
        lambda row: [(name, row[name]) for name in PRODUCT_NUMBERS if row[name] is not None]
        + [("train_count", row["train_count"])]
    )
    (
        (of_products, numbers)
        | "AllNumbers" >> beam.Flatten()
        | "Statistics" >> beam.CombinePerKey(NumberStatistics())
        | "WriteStatistics" >> WriteJson(f"{job.output}/{PARTS}/statistics.jsonl")
    )


def _write_vocabularies(products: Any, events: Any, event_types: Any, profiles: Any, job: Job) -> None:
    values = {
        "product_id": products | "IdCounts" >> beam.Map(lambda row: (row["product_id"], row["train_count"])),
        "event_type": event_types,
        "category": products | "Categories" >> beam.FlatMap(lambda row: row["category"]),
        "brand": products | "Brands" >> beam.FlatMap(lambda row: [row["brand"]] if row["brand"] else []),
        "words": products | "Words" >> beam.FlatMap(lambda row: row["words"]),
        "query": events | "QueryWords" >> beam.FlatMap(lambda pair: [pair[1]["query"]] if pair[1]["query"] else []),
    }
    for feature in job.profile:
        if feature.vocabulary:
            values[feature.vocabulary] = profiles | f"Values_{feature.name}" >> beam.FlatMap(
                lambda pair, name: [pair[1]["attributes"][name]] if pair[1]["attributes"].get(name) else [],
                feature.source,
            )
    sizes = []
    for name, found in values.items():
        counted = found
        if name not in ("product_id", "event_type"):
            counted = found | f"CountValues_{name}" >> beam.combiners.Count.PerElement()
        # Every product must have its number, however many there are.
        largest = 100_000_000 if name == "product_id" else job.max_vocabulary
        top = counted | f"Top_{name}" >> beam.CombineGlobally(TopCounts(largest))
        lines = top | f"Lines_{name}" >> beam.Map(lambda pairs: "\n".join(value for value, _ in pairs))
        lines | f"Vocabulary_{name}" >> WriteLines(f"{job.output}/vocabularies/{name}.txt")
        sizes.append(top | f"Size_{name}" >> beam.Map(lambda pairs, name: (name, len(pairs)), name))
    sizes | "AllSizes" >> beam.Flatten() | "WriteSizes" >> WriteJson(f"{job.output}/{PARTS}/vocabularies.jsonl")


def manifest_counts(
    numbers: dict[str, int], event_types: list[tuple[str, int]], reasons: dict[str, int]
) -> dict[str, Any]:
    """Return the manifest's ``counts`` from what the graph counted."""
    by_table = {}
    for table in TABLES:
        read = numbers[f"{table}_split"] + numbers[f"{table}_unsplit"]
        bad, skipped = numbers[f"{table}_rejected"], numbers[f"{table}_skipped"]
        by_table[table] = {"read": read, "kept": read - bad - skipped, "rejected": bad, "skipped": skipped}
    by_table["events"]["over_cap"] = numbers["events_over_cap"]
    return {
        "rows_read": sum(table["read"] for table in by_table.values()),
        "rows_kept": sum(table["kept"] for table in by_table.values()),
        "rows_rejected": sum(table["rejected"] for table in by_table.values()),
        "rows_skipped": sum(table["skipped"] for table in by_table.values()),
        "users": numbers["users"],
        "products": numbers["products"],
        "examples": {split: numbers[f"examples_{split}"] for split in SPLITS},
        "event_types": dict(sorted(event_types)),
        "by_table": by_table,
        "rejected_by_reason": dict(sorted(reasons.items())),
    }
