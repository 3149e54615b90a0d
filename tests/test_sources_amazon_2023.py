"""Amazon Reviews 2023: whole files with their checksums, nothing twice, and ready for the preprocessing."""

import hashlib
import json
import math
import os

import pytest
from preprocess_support import preprocess, records
from sources_server import (
    META_PATH,
    META_ROWS,
    NAMES,
    REVIEW_ROWS,
    REVIEWS_PATH,
    get_fixture,  # noqa: F401
    names,
    packed,
    server_fixture,  # noqa: F401
)

from tfrs_shop.errors import UserError
from tfrs_shop.sources import amazon_2023 as source
from tfrs_shop.sources.amazon_2023 import amazon_2023


def test_both_files_come_whole_with_their_checksums(server, get, tmp_path):
    result = get()
    reviews, meta = server.shelf.files.values()
    assert result.reviews.read_bytes() == reviews
    assert result.meta.read_bytes() == meta
    assert (result.review_rows, result.meta_rows) == (6, 4)
    assert result.downloaded == ("All_Beauty.jsonl.gz", "meta_All_Beauty.jsonl.gz")
    assert names(tmp_path / "raw") == NAMES
    assert json.loads((tmp_path / "raw" / "download.json").read_text())["All_Beauty.jsonl.gz"] == {
        "remote": {
            "url": server.url + REVIEWS_PATH,
            "etag": f'"{hashlib.md5(reviews).hexdigest()}"',
            "last_modified": "",
            "size": len(reviews),
        },
        "size": len(reviews),
        "sha256": hashlib.sha256(reviews).hexdigest(),
        "rows": 6,
    }


def test_the_result_says_which_command_comes_next(get, tmp_path):
    raw = tmp_path / "raw"
    assert str(get()) == (
        "All_Beauty: 6 reviews and 4 products, downloaded. Next:\n"
        f"$ tfrs-shop preprocess --events {raw}/All_Beauty.jsonl.gz --products {raw}/meta_All_Beauty.jsonl.gz "
        "--mapping amazon_reviews_2023 --output DIR"
    )
    assert str(get()).startswith("All_Beauty: 6 reviews and 4 products, all there already. Next:\n")


def test_the_official_place_and_its_34_names():
    assert source.OFFICIAL == "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023"
    assert len(set(source.CATEGORIES)) == 34


def test_a_second_call_downloads_nothing(server, get):
    first = get()
    server.shelf.asked.clear()
    second = get()
    assert server.shelf.asked == [(REVIEWS_PATH, None, 304, 0), (META_PATH, None, 304, 0)]
    assert second.downloaded == ()
    assert (second.review_rows, second.meta_rows) == (first.review_rows, first.meta_rows)


def test_a_second_call_downloads_nothing_from_a_server_that_only_has_dates(server, get):
    server.shelf.etags = {REVIEWS_PATH: "", META_PATH: ""}
    server.shelf.sends_dates = True
    get()
    assert get().downloaded == ()


def test_a_second_call_without_network_keeps_what_is_whole(server, get):
    get()
    server.shelf.faults = [{"status": 503}] * 10
    lines = []
    assert get(progress=lines.append).downloaded == ()
    assert any(line.startswith("All_Beauty.jsonl.gz: is here in whole; whether there is a newer one") for line in lines)


def test_a_changed_file_is_fetched_anew_and_the_other_is_not(server, get):
    get()
    server.shelf.files[META_PATH] = packed(META_ROWS[:3])
    result = get()
    assert result.downloaded == ("meta_All_Beauty.jsonl.gz",)
    assert result.meta_rows == 3
    assert result.meta.read_bytes() == server.shelf.files[META_PATH]


def test_a_damaged_file_is_fetched_anew(server, get):
    result = get()
    content = bytearray(result.reviews.read_bytes())
    content[500] ^= 1
    result.reviews.write_bytes(content)
    assert get().downloaded == ("All_Beauty.jsonl.gz",)
    assert result.reviews.read_bytes() == server.shelf.files[REVIEWS_PATH]


@pytest.mark.parametrize("content", ["", "[]", '{"All_Beauty.jsonl.gz": 3}', '{"All_Beauty.jsonl.gz": {"size": 1}}'])
def test_a_spoiled_sidecar_is_as_good_as_none(get, content):
    (get().reviews.parent / "download.json").write_text(content)
    assert get().downloaded == ("All_Beauty.jsonl.gz", "meta_All_Beauty.jsonl.gz")


def test_two_categories_share_a_directory(server, get, tmp_path):
    get()
    server.shelf.files["/raw/review_categories/Gift_Cards.jsonl.gz"] = packed(REVIEW_ROWS[:2])
    server.shelf.files["/raw/meta_categories/meta_Gift_Cards.jsonl.gz"] = packed(META_ROWS[:1])
    assert amazon_2023(tmp_path / "raw", "Gift_Cards", base_url=server.url + "/").review_rows == 2
    assert get().downloaded == ()


def test_a_kill_before_the_last_rename_costs_no_second_download(server, get, monkeypatch, tmp_path):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(
            source.os, "replace", lambda old, new: die() if str(old).endswith(".part") else os.rename(old, new)
        )
        with pytest.raises(KeyboardInterrupt):
            get()
    assert names(tmp_path / "raw") == ["All_Beauty.jsonl.gz.part", "All_Beauty.jsonl.gz.part.json", "download.json"]
    size = len(server.shelf.files[REVIEWS_PATH])
    server.shelf.asked.clear()
    assert get().review_rows == 6
    assert server.shelf.sent() == [(f"bytes={size}-", 416, 0)]


def test_too_short_a_length_is_found_by_reading_the_gzip(server, get, tmp_path):
    server.shelf.faults = [{"wrong_length": -10}]
    with pytest.raises(UserError, match=r"All_Beauty\.jsonl\.gz is not a whole gzip file \(.*\); try again later"):
        get()
    assert names(tmp_path / "raw") == []


def test_a_wrong_crc_is_found(server, get, tmp_path):
    content = bytearray(server.shelf.files[REVIEWS_PATH])
    content[-8] ^= 1
    server.shelf.files[REVIEWS_PATH] = bytes(content)
    with pytest.raises(UserError, match=r"is not a whole gzip file \(CRC check failed"):
        get()
    assert names(tmp_path / "raw") == []


@pytest.mark.parametrize("content", [b"", b"<html>Please log in</html>"])
def test_what_is_no_gzip_file_is_refused(server, get, tmp_path, content):
    server.shelf.files[REVIEWS_PATH] = content
    with pytest.raises(UserError, match=r"is not a whole gzip file"):
        get()
    assert names(tmp_path / "raw") == []


def test_a_checksum_can_be_insisted_on(server, get, tmp_path):
    right = hashlib.sha256(server.shelf.files[REVIEWS_PATH]).hexdigest()
    with pytest.raises(UserError, match=f"has the sha256 {right}, not {'0' * 64}"):
        get(sha256={"All_Beauty.jsonl.gz": "0" * 64})
    assert names(tmp_path / "raw") == []
    assert get(sha256={"All_Beauty.jsonl.gz": right.upper()}).review_rows == 6


def test_an_unknown_category_gets_the_nearest_name(tmp_path):
    with pytest.raises(UserError) as error:
        amazon_2023(tmp_path / "raw", "toys & game")
    assert str(error.value) == (
        "--category toys & game: is none of the 34 published names. Did you mean 'Toys_and_Games'?"
    )
    with pytest.raises(UserError, match=r"xyz: is none of the 34 published names\. They are: All_Beauty, Amazon_Fash"):
        amazon_2023(tmp_path / "raw", "xyz")
    assert not (tmp_path / "raw").exists()


def test_a_file_in_the_directory_s_place_is_named(get, tmp_path):
    (tmp_path / "raw").write_text("")
    with pytest.raises(UserError, match=r"cannot use .*raw as a directory"):
        get()


def test_a_second_download_into_the_directory_is_kept_out(get, tmp_path):
    with source._alone_in(tmp_path / "raw"), pytest.raises(UserError, match="another download is writing into"):
        get()
    assert get().review_rows == 6


def test_the_downloaded_files_go_through_the_preprocessing(get, tmp_path):
    result = get()
    manifest, _ = preprocess(
        tmp_path / "data", "--events", result.reviews, "--products", result.meta, "--mapping", "amazon_reviews_2023",
        "--max_bad_rows", "0.5",
    )  # fmt: skip
    assert manifest.counts["by_table"]["events"]["read"] == 6
    assert manifest.counts["by_table"]["events"]["kept"] == 5
    assert manifest.counts["by_table"]["events"]["rejected"] == 1  # of a product that the catalogue does not have
    assert manifest.counts["by_table"]["products"]["kept"] == 4
    assert (manifest.counts["users"], manifest.counts["products"]) == (2, 4)
    assert manifest.counts["event_types"] == {"review": 5}
    assert manifest.counts["examples"] == {"train": 2, "validation": 1, "test": 1}  # a window of each user
    products = {row["product_id"]: row for row in records(tmp_path / "data", "products")}
    assert products["B00YQ6X8EO"]["title"] == "Herbivore Sea Mist"
    assert products["B00YQ6X8EO"]["brand"] == "Howard Products"
    assert products["B00YQ6X8EO"]["description"] == "A mist. For hair. Vegan"
    assert products["B00YQ6X8EO"]["category"] == ["All Beauty"]
    assert products["B00YQ6X8EO"]["price"] == 19.5
    assert products["B0PARENT01"]["category"] == ["Beauty", "Beauty > Face"]
    assert math.isnan(products["B0PARENT01"]["price"])
