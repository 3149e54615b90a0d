"""The commands ``tfrs-shop query``: a running server asked, and its answer shown for people or as JSON."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from tfrs_shop.client import Answer, Explained, Filter, ShopClient
from tfrs_shop.errors import UserError
from tfrs_shop.output import say

query_app = typer.Typer(no_args_is_help=True, help="Ask a running server.")

Url = Annotated[str, typer.Option(help="The server's REST address.")]
Model = Annotated[str, typer.Option(help="The model's name.")]
Most = Annotated[int, typer.Option("--k", min=1, help="Show at most so many products.")]
User = Annotated[str, typer.Option(help="The user id; an unknown user gets what is popular.")]
History = Annotated[str, typer.Option(help="Or product ids, oldest first, comma-separated.")]
EventTypes = Annotated[str, typer.Option(help="Their event types, comma-separated; views if not given.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@query_app.command("recommend")
def query_recommend(
    user: User = "",
    history: History = "",
    event_types: EventTypes = "",
    exclude_products: Annotated[str, typer.Option(help="Leave out these product ids, comma-separated.")] = "",
    category: Annotated[str, typer.Option(help="Only of this category path, or below it: 'Makeup > Face'.")] = "",
    price_min: Annotated[float | None, typer.Option(min=0.0, help="Only at this price or above.")] = None,
    price_max: Annotated[float | None, typer.Option(min=0.0, help="Only at this price or below.")] = None,
    exclude_seen: Annotated[bool, typer.Option("--exclude-seen", help="Leave out all products seen before.")] = False,
    url: Url = "http://127.0.0.1:8501",
    model: Model = "shop",
    k: Most = 10,
    as_json: AsJson = False,
) -> None:
    """Recommend products for a user, or after a history."""
    client = ShopClient(url, model)
    _check_one(user, history)
    only: Filter | None = Filter(_split(exclude_products), category, price_min, price_max, exclude_seen)
    only = None if only == Filter([]) else only
    if user:
        _show(client.recommend(user, only)[:k], as_json)
    else:
        _show(client.recommend_for_history(_split(history), _split(event_types), only)[:k], as_json)


@query_app.command("diverse")
def query_diverse(
    user: User = "",
    history: History = "",
    event_types: EventTypes = "",
    method: Annotated[
        str, typer.Option(help="mmr, dpp, category_quota, explore_walk or explore_sample; see docs/diversity.md.")
    ] = "mmr",
    strength: Annotated[float, typer.Option(min=0.0, max=1.0, help="0: as recommend answers; 1: the most.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of the methods that draw: another seed draws another list.")] = 0,
    url: Url = "http://127.0.0.1:8501",
    model: Model = "shop",
    k: Most = 10,
    as_json: AsJson = False,
) -> None:
    """Recommend products that are not all of a kind."""
    client = ShopClient(url, model)
    _check_one(user, history)
    if user:
        _show(client.recommend_diverse(user, method, strength, seed)[:k], as_json)
    else:
        events = _split(history), _split(event_types)
        _show(client.recommend_for_history_diverse(*events, method, strength, seed)[:k], as_json)


@query_app.command("explain")
def query_explain(
    user: User = "",
    history: History = "",
    event_types: EventTypes = "",
    product: Annotated[str, typer.Option(help="Of this product; if not given, why each recommendation is one.")] = "",
    words: Annotated[bool, typer.Option("--words", help="With --product: which words of the history's texts.")] = False,
    url: Url = "http://127.0.0.1:8501",
    model: Model = "shop",
    k: Most = 10,
    as_json: AsJson = False,
) -> None:
    """Show what makes a product's score; without --product, recommendations and because of what they are."""
    client = ShopClient(url, model)
    _check_one(user, history)
    events = _split(history), _split(event_types)
    if words and not product:
        raise UserError("--words explains one product: give --product as well.")
    if words:
        _show_words(
            client.explain_words(user, product) if user else client.explain_words_for_history(*events, product), as_json
        )
        return
    if not product:
        found = client.recommend_explained(user) if user else client.recommend_for_history_explained(*events)
        _show(found[:k], as_json)
        return
    row = client.explain(user, product) if user else client.explain_for_history(*events, product)
    if as_json:
        say(json.dumps(row, ensure_ascii=False, indent=2))
        return
    say(f"score {row['score']:.3f}, of which {row['baseline']:.3f} without anything known, and")
    for share, part in sorted(zip(row["share"], row["part"], strict=True), reverse=True):
        say(f"{share:+9.3f}  {part}")
    say("The history's parts are made of:")
    reasons = zip(row["because_share"], row["because_product_id"], row["because_title"], strict=True)
    for share, name, title in [reason for reason in reasons if reason[1] or reason[2]][:k]:
        say(f"{share:+9.3f}  {name:14}  {title}")


@query_app.command("profile")
def query_profile(
    user: User = "",
    history: History = "",
    event_types: EventTypes = "",
    url: Url = "http://127.0.0.1:8501",
    model: Model = "shop",
    as_json: AsJson = False,
) -> None:
    """Show what a user's newest events are about: categories, brands, prices, activity."""
    client = ShopClient(url, model)
    _check_one(user, history)
    events = _split(history), _split(event_types)
    row = client.user_profile(user) if user else client.user_profile_for_history(*events)
    if as_json:
        say(json.dumps(row, ensure_ascii=False, indent=2))
    else:
        say(row["summary"].replace("; ", "\n") or "Nothing is known.")


@query_app.command("similar")
def query_similar(
    product: Annotated[str, typer.Option(help="The product id.")],
    url: Url = "http://127.0.0.1:8501",
    model: Model = "shop",
    k: Most = 10,
    as_json: AsJson = False,
) -> None:
    """Show the products most like one."""
    _show(ShopClient(url, model).similar(product)[:k], as_json)


@query_app.command("complements")
def query_complements(
    products: Annotated[str, typer.Option(help="Product ids, comma-separated: a basket.")],
    url: Url = "http://127.0.0.1:8501",
    model: Model = "shop",
    k: Most = 10,
    as_json: AsJson = False,
) -> None:
    """Show what goes with some products."""
    _show(ShopClient(url, model).complements(_split(products))[:k], as_json)


@query_app.command("search")
def query_search(
    query: Annotated[str, typer.Option(help="What a user would type.")],
    history: Annotated[str, typer.Option(help="The user's products, oldest first, comma-separated.")] = "",
    event_types: EventTypes = "",
    highlight: Annotated[
        bool, typer.Option("--highlight", help="Mark [words] of the titles that were asked for.")
    ] = False,
    url: Url = "http://127.0.0.1:8501",
    model: Model = "shop",
    k: Most = 10,
    as_json: AsJson = False,
) -> None:
    """Search the catalogue; with a history, in the order that it suggests."""
    if highlight:
        if history:
            raise UserError("--highlight is of a search without --history.")
        _show_highlighted(ShopClient(url, model).search_explained(query), k, as_json)
        return
    _show(ShopClient(url, model).search(query, _split(history), _split(event_types))[:k], as_json)


@query_app.command("rank")
def query_rank(
    user: Annotated[str, typer.Option(help="The user id.")],
    products: Annotated[str, typer.Option(help="Product ids, comma-separated.")],
    url: Url = "http://127.0.0.1:8501",
    model: Model = "shop",
    as_json: AsJson = False,
) -> None:
    """Put products in the order in which a user would want them."""
    _show(ShopClient(url, model).rank(user, _split(products)), as_json)


@query_app.command("predict-behavior")
def query_predict_behavior(
    user: User = "",
    history: History = "",
    event_types: EventTypes = "",
    url: Url = "http://127.0.0.1:8501",
    model: Model = "shop",
    as_json: AsJson = False,
) -> None:
    """Predict the next event's type and category, a purchase in this session, and the rating of the latest product."""
    client = ShopClient(url, model)
    _check_one(user, history)
    _show_named(client.predict_behavior(_split(history), _split(event_types), user), as_json)


@query_app.command("intent")
def query_intent(
    query: Annotated[str, typer.Argument(help="What a shopper types.")],
    url: Url = "http://127.0.0.1:8501",
    model: Model = "shop",
    as_json: AsJson = False,
) -> None:
    """Show which category a query is about, and what it is for."""
    _show_named(ShopClient(url, model).query_intent(query), as_json)


@query_app.command("details")
def query_details(
    products: Annotated[str, typer.Option(help="Product ids, comma-separated.")],
    url: Url = "http://127.0.0.1:8501",
    model: Model = "shop",
    as_json: AsJson = False,
) -> None:
    """Show what the catalogue says of products: title, category, brand, price (-1 where it is not known)."""
    found = ShopClient(url, model).product_details(_split(products))
    _show_rows({"product_id": _split(products), **found}, as_json)


@query_app.command("history")
def query_history(
    user: Annotated[str, typer.Option(help="The user id.")],
    url: Url = "http://127.0.0.1:8501",
    model: Model = "shop",
    as_json: AsJson = False,
) -> None:
    """Show the newest events of a stored user, oldest first."""
    _show_rows(ShopClient(url, model).user_history(user), as_json)


@query_app.command("users")
def query_users(
    seed: Annotated[int, typer.Option(help="Another seed draws others.")] = 0,
    url: Url = "http://127.0.0.1:8501",
    model: Model = "shop",
    as_json: AsJson = False,
) -> None:
    """Show some stored users, to try things with."""
    _show_rows(ShopClient(url, model).example_users(seed), as_json)


@query_app.command("status")
def query_status(url: Url = "http://127.0.0.1:8501", model: Model = "shop") -> None:
    """Show the versions of the model and their states."""
    say(json.dumps(ShopClient(url, model).status(), indent=2))


def _check_one(user: str, history: str) -> None:
    if bool(user) == bool(history):
        raise UserError("give either --user or --history.")


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _show(answers: Sequence[Answer], as_json: bool) -> None:
    if as_json:
        say(json.dumps([dataclasses.asdict(answer) for answer in answers], ensure_ascii=False, indent=2))
        return
    for place, answer in enumerate(answers, 1):
        title = answer.because_title if isinstance(answer, Explained) else ""
        because = f"  (because of {title})" if title else ""
        say(f"{place:3}  {answer.score:8.4f}  {answer.product_id:14}  {answer.title}{because}")


def _show_rows(columns: dict[str, list[Any]], as_json: bool) -> None:
    """Show outputs of equal length side by side; rows of empty texts are padding."""
    if as_json:
        say(json.dumps(columns, ensure_ascii=False, indent=2))
        return
    names = [name for name in columns if name != "title"] + ["title"] * ("title" in columns)
    for row in zip(*(columns[name] for name in names), strict=True):
        if any(value != "" for value in row):
            say("  ".join(f"{value:<14}" if place < len(names) - 1 else str(value) for place, value in enumerate(row)))


def _show_words(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say(json.dumps(answer, ensure_ascii=False, indent=2))
        return
    events = zip(answer["event_title"], answer["event_share"], answer["word"], answer["word_share"], strict=True)
    for title, total, words, shares in (event for event in events if event[0]):
        say(f"{total:+9.4f}  {title}")
        for word, share in ((word, share) for word, share in zip(words, shares, strict=True) if word):
            say(f"           {share:+9.4f}  {word}")


def _show_highlighted(answer: dict[str, Any], most: int, as_json: bool) -> None:
    if as_json:
        say(json.dumps(answer, ensure_ascii=False, indent=2))
        return
    names = ("product_id", "score", "title_word", "title_word_weight")
    rows = list(zip(*(answer[name] for name in names), strict=True))[:most]
    for place, (product, score, words, weights) in enumerate((row for row in rows if row[0]), 1):
        marked = (f"[{word}]" if weight > 0 else word for word, weight in zip(words, weights, strict=True) if word)
        say(f"{place:3}  {score:8.4f}  {product:14}  {' '.join(marked)}")


def _show_named(answer: dict[str, Any], as_json: bool) -> None:
    """Show outputs by name; a list of names and that of their probabilities line by line."""
    if as_json:
        say(json.dumps(answer, ensure_ascii=False, indent=2))
        return
    for name, value in answer.items():
        if not isinstance(value, list):
            say(f"{name}: {value:.4f}")
        elif f"{name}_probability" in answer:
            say(f"{name}:")
            for entry, chance in zip(value, answer[f"{name}_probability"], strict=True):
                say(f"  {chance:7.4f}  {entry}")
