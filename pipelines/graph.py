"""The job's Beam graph, from files to records: which transform feeds which.

events, products, users -> rows -> parsed (bad rows -> rejected)
products: one row an id; events: joined with their product; by user: ordered, split, made into examples
lexicon: the products' words, inverted and weighed
texts: each distinct one encoded once; counts, vocabularies, statistics: combined; all written
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import apache_beam as beam

from pipelines.catalogue import FirstOfDuplicates, JoinProducts, MostFrequentFields, finished_product
from pipelines.complements import SumComplements, complement_record
from pipelines.directory import REJECTED
from pipelines.encode import EncodeTexts, attach_vectors
from pipelines.job import TABLES, Job
from pipelines.lexicon import Lexicon
from pipelines.parse import EVENT_TYPE, QUERY, TIMESTAMP, ParseRows, ReadFiles
from pipelines.statistics import HourCounts, NumberStatistics, Tally, TallyKey, time_cuts
from pipelines.transitions import heaviest_neighbors
from pipelines.users import MakeExamples
from pipelines.write import FACTS, PARTS, WriteJson, WriteRecords, WriteVocabulary
from tfrs_shop.manifest import SPLITS

if TYPE_CHECKING:
    from tfrs_shop.text.minilm import EncoderHandles

PRODUCT_NUMBERS = ("price", "rating_mean", "rating_count", "sales_rank")
MADE = ("users", "trained", "transitions", "complements", "numbers", "tallies")
_Keyed = beam.typehints.Tuple[str, Any]


@dataclasses.dataclass
class _Side:
    """What comes out beside the records, collected from all over the graph."""

    rejected: list[Any] = dataclasses.field(default_factory=list)
    tallies: list[Any] = dataclasses.field(default_factory=list)
    facts: list[Any] = dataclasses.field(default_factory=list)
    words: list[Any] = dataclasses.field(default_factory=list)  # (vocabulary, value), to be counted


def build(pipeline: beam.Pipeline, job: Job) -> None:
    """Add the job's transforms to `pipeline`."""
    side = _Side()
    nothing = pipeline | "Nothing" >> beam.Create([])
    parsed = {table: _parsed(pipeline, job, table, side) for table in TABLES if table in job.files}
    products = _products(parsed, job, side)
    profiles = _profiles(parsed["users"].main, job, side) if "users" in parsed else nothing
    kept_products = job.kept.records(pipeline, "products") if job.kept else None
    if job.kept and job.kept.has_events:
        profiles = job.kept.profiles(pipeline)
    events = _joined(parsed["events"], products, job, side) if "events" in parsed else [nothing]
    made = _examples(pipeline, events, profiles, job, side)

    counted = made.trained | "CountTrained" >> beam.combiners.Count.PerElement()
    if job.kept and not job.kept.has_events:
        counted = job.kept.counts(kept_products)
    cached = job.kept.vectors(kept_products) if job.kept and job.handles else None
    products = _finished_products(products, counted, job, cached)
    records = {
        "products": products,
        "users": made.users,
        "transitions": _transitions(made.transitions),
        "complements": made.complements
        | "SumComplements" >> beam.CombinePerKey(SumComplements())
        | "ComplementRows" >> beam.MapTuple(complement_record),
        "lexicon": products | "Lexicon" >> Lexicon(),
    }
    for split in SPLITS:
        of_split = made.main | f"Of_{split}" >> beam.Filter(lambda pair, wanted: pair[0] == wanted, split)
        records[split] = of_split | f"Rows_{split}" >> beam.Values()
    if job.handles is not None:
        records["queries"] = _encoded_queries(events, job.handles, job, cached)
    write = WriteRecords(job.output, job.shards, {folder: job.folder_features(folder) for folder in records})
    side.facts.append(records | "WriteRecords" >> write)

    _statistics(products, profiles, made.numbers, job, side)
    rejected = side.rejected | "AllRejected" >> beam.Flatten()
    rejected | "WriteRejected" >> WriteJson(f"{job.output}/{REJECTED}/{REJECTED}.jsonl")
    side.tallies.append(rejected | "TallyRejected" >> beam.ParDo(Tally(_rejected_keys)))
    totals = side.tallies | "AllTallies" >> beam.Flatten() | "Totals" >> beam.CombinePerKey(sum)
    side.facts.append(totals | "TotalFacts" >> beam.MapTuple(lambda key, count: ("total", (*key, count))))
    _vocabularies(products, totals, profiles, job, side)
    side.facts | "AllFacts" >> beam.Flatten() | "WriteFacts" >> WriteJson(f"{job.output}/{PARTS}/{FACTS}")


def _parsed(pipeline: beam.Pipeline, job: Job, table: str, side: _Side) -> Any:
    files = job.files[table]
    places = pipeline | f"Files_{table}" >> beam.Create(list(range(len(files))))
    read = beam.ParDo(ReadFiles(table, getattr(job.mapping, table), files))
    packs = places | f"Read_{table}" >> read.with_outputs("rejected", "tallies", "fatal", main="main")
    derives = table == "events" and job.catalogue_from_events
    parse = beam.ParDo(ParseRows(files, job.parsers[table], job.parsers["products"] if derives else None))
    parsed = (
        packs.main
        | f"Spread_{table}" >> beam.Reshuffle()
        | f"Parse_{table}" >> parse.with_outputs("rejected", "tallies", "searches", "products", main="main")
    )
    side.rejected += [packs.rejected, parsed.rejected]
    side.tallies += [packs.tallies, parsed.tallies]
    side.facts.append(packs.fatal | f"Fatal_{table}" >> beam.Map(lambda message: ("fatal", message)))
    return parsed


def _products(parsed: dict[str, Any], job: Job, side: _Side) -> Any:
    """Return ``(product id, product)`` once for each product."""
    if job.catalogue_from_events:
        return parsed["events"].products | "BestFields" >> beam.CombinePerKey(MostFrequentFields())
    if job.mapping.products.from_events:
        rows = parsed["products"].main | "Once" >> beam.MapTuple(lambda key, row: (key, (row, 1)))
        return rows | "BestFields" >> beam.CombinePerKey(MostFrequentFields())
    return _first_rows(parsed["products"].main, "products", "product_id", job, side)


def _profiles(rows: Any, job: Job, side: _Side) -> Any:
    """Return ``(user id, attributes)`` once for each user."""
    first = _first_rows(rows, "users", "user_id", job, side)
    return first | "Attributes" >> beam.MapTuple(lambda key, row: (key, row["attributes"])).with_output_types(_Keyed)


def _first_rows(rows: Any, table: str, key: str, job: Job, side: _Side) -> Any:
    first = beam.ParDo(FirstOfDuplicates(table, key, job.files[table])).with_outputs("rejected", main="main")
    found = rows | f"Group_{table}" >> beam.GroupByKey() | f"First_{table}" >> first
    side.rejected.append(found.rejected)
    return found.main


def _joined(parsed: Any, products: Any, job: Job, side: _Side) -> list[Any]:
    """Return ``(user id, event tuple with title)`` of events with a product, and of searches."""
    titles = products | "Titles" >> beam.MapTuple(lambda key, row: (key, row["title"]))
    join = beam.ParDo(JoinProducts(job.files["events"], skip_unknown=job.kept is not None))
    joined = (
        {"events": parsed.main, "titles": titles}
        | "GroupByProduct" >> beam.CoGroupByKey()
        | "JoinProducts" >> join.with_outputs("rejected", "tallies", main="main")
    )
    side.rejected.append(joined.rejected)
    side.tallies.append(joined.tallies)
    searches = parsed.searches | "Searches" >> beam.MapTuple(lambda key, event: (key, (*event, ""))).with_output_types(
        _Keyed
    )
    found = [joined.main, searches]
    for number, events in enumerate(found):
        side.tallies.append(events | f"TallyEvents_{number}" >> beam.ParDo(Tally(_event_keys)))
        queries = events | f"QueryWords_{number}" >> beam.FlatMap(lambda pair: [("query", q) for q in _query(pair)])
        side.words.append(queries)
    return found


def _examples(pipeline: beam.Pipeline, events: list[Any], profiles: Any, job: Job, side: _Side) -> Any:
    cuts: dict[str, Any] = {}
    if job.cuts_by_share:
        times = events | "AllEvents" >> beam.Flatten() | "Times" >> beam.Map(lambda pair: pair[1][TIMESTAMP])
        shares = beam.Map(time_cuts, *job.cuts_by_share)
        found = times | "CountHours" >> beam.CombineGlobally(HourCounts()) | "Cuts" >> shares
        side.facts.append(found | "CutFacts" >> beam.Map(lambda times: ("cuts", times)))
        cuts["cuts"] = beam.pvalue.AsSingleton(found)
    make = MakeExamples(job.rule, job.order_by, job.max_events_per_user, job.profile)
    made = (
        (*events, profiles)
        | "EventsAndProfiles" >> beam.Flatten()
        | "Keyed" >> beam.Map(lambda pair: pair).with_output_types(_Keyed)
        | "GroupByUser" >> beam.GroupByKey()
        | "MakeExamples" >> beam.ParDo(make, **cuts).with_outputs(*MADE, main="main")
    )
    side.tallies.append(made.tallies)
    return made


def _transitions(edges: Any) -> Any:
    """Return the records of ``transitions/``, given ``((from, to), weight)`` of every edge that was counted."""
    summed = edges | "SumEdges" >> beam.CombinePerKey(sum)
    leaving = summed | "Leaving" >> beam.MapTuple(lambda ends, weight: (ends[0], (weight, ends[1])))
    entering = summed | "Entering" >> beam.MapTuple(lambda ends, weight: (ends[1], weight)) | beam.CombinePerKey(sum)
    return (
        {"edges": leaving, "entering": entering}
        | "GroupEdges" >> beam.CoGroupByKey()
        | "HeaviestNeighbors" >> beam.Map(heaviest_neighbors)
    )


def _finished_products(products: Any, counted: Any, job: Job, cached: Any) -> Any:
    finished = (
        {"product": products, "count": counted}
        | "GroupTrainCounts" >> beam.CoGroupByKey()
        | "FinishProducts" >> beam.FlatMap(finished_product)
    )
    if job.handles is None:
        return finished | "ProductRows" >> beam.Values()
    encode = EncodeTexts(job.handles, job.text["sequence_length"], cached)
    vectors = finished | "ProductTexts" >> beam.Keys() | "EncodeProducts" >> encode
    return (
        {"rows": finished, "vectors": vectors}
        | "GroupWithVectors" >> beam.CoGroupByKey()
        | "AttachVectors" >> beam.FlatMap(attach_vectors)
    )


def _encoded_queries(events: list[Any], handles: "EncoderHandles", job: Job, cached: Any) -> Any:
    queries = events | "EventsForQueries" >> beam.Flatten() | "Queries" >> beam.FlatMap(_query)
    encoded = queries | "EncodeQueries" >> EncodeTexts(handles, job.text["sequence_length"], cached)
    return encoded | "QueryRows" >> beam.MapTuple(lambda text, vector: {"query": text, "text_vector": vector})


def _statistics(products: Any, profiles: Any, numbers: Any, job: Job, side: _Side) -> None:
    of_products = products | "ProductNumbers" >> beam.FlatMap(_product_numbers)
    attributes = [(feature.source, feature.name) for feature in job.profile if not feature.vocabulary]
    of_users = profiles | "ProfileNumbers" >> beam.FlatMap(_profile_numbers, attributes)
    statistics = (
        (of_products, of_users, numbers)
        | "AllNumbers" >> beam.Flatten()
        | "Statistics" >> beam.CombinePerKey(NumberStatistics())
    )
    side.facts.append(statistics | "StatisticFacts" >> beam.Map(lambda pair: ("statistic", pair)))


def _vocabularies(products: Any, totals: Any, profiles: Any, job: Job, side: _Side) -> None:
    attributes = [(feature.source, feature.vocabulary) for feature in job.profile if feature.vocabulary]
    side.words += [
        products | "ProductWords" >> beam.FlatMap(_product_words),
        profiles | "ProfileWords" >> beam.FlatMap(_profile_words, attributes),
    ]
    counted = side.words | "AllWords" >> beam.Flatten() | "CountWords" >> beam.combiners.Count.PerElement()
    names = ["product_id", "event_type", "category", "brand", "words", "query", *(name for _, name in attributes)]
    parts = [
        # So that a vocabulary without values is written too.
        products.pipeline | "Vocabularies" >> beam.Create([(name, ("", 0)) for name in names], reshuffle=False),
        counted | "ByVocabulary" >> beam.MapTuple(lambda word, count: (word[0], (word[1], count))),
        products | "ProductIds" >> beam.Map(lambda row: ("product_id", (row["product_id"], row["train_count"]))),
        totals | "EventTypes" >> beam.FlatMap(_event_type),
    ]
    side.facts.append(
        parts
        | "AllVocabularies" >> beam.Flatten()
        | "GroupVocabularies" >> beam.GroupByKey()
        | "WriteVocabularies" >> beam.ParDo(WriteVocabulary(job.output, job.max_vocabulary))
    )


def _rejected_keys(row: dict[str, Any]) -> list[TallyKey]:
    what = f"{row['field']} {row['kind']}".strip()
    return [("rows", f"{row['table']} rejected"), ("reasons", f"{row['table']}: {what}")]


def _event_keys(pair: tuple[str, tuple[Any, ...]]) -> list[TallyKey]:
    return [("event types", pair[1][EVENT_TYPE])]


def _event_type(total: tuple[TallyKey, int]) -> Iterator[tuple[str, tuple[str, int]]]:
    (group, name), count = total
    if group == "event types":
        yield "event_type", (name, count)


def _query(pair: tuple[str, tuple[Any, ...]]) -> Iterable[str]:
    query = pair[1][QUERY]
    return [query] if query else []


def _product_numbers(product: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name in (*PRODUCT_NUMBERS, "train_count"):
        if product[name] is not None:
            yield name, product[name]


def _profile_numbers(profile: tuple[str, dict[str, Any]], attributes: list[tuple[str, str]]) -> Iterator[Any]:
    for attribute, name in attributes:
        if profile[1].get(attribute) is not None:
            yield name, profile[1][attribute]


def _product_words(product: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("category", "words"):
        for value in product[name]:
            yield name, value
    if product["brand"]:
        yield "brand", product["brand"]


def _profile_words(profile: tuple[str, dict[str, Any]], attributes: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for attribute, vocabulary in attributes:
        if profile[1].get(attribute):
            yield vocabulary, profile[1][attribute]
