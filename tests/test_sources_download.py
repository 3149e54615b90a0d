"""A download goes on after faults, never glues two versions of a file together, and says what went wrong."""

import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest
from sources_server import (
    META_PATH,
    NAMES,
    REVIEW_ROWS,
    REVIEWS_PATH,
    break_off,
    get_fixture,  # noqa: F401
    names,
    packed,
    server_fixture,  # noqa: F401
)

from tfrs_shop.errors import UserError
from tfrs_shop.sources import download
from tfrs_shop.sources.download import UnreachableError


def test_a_connection_cut_half_way_goes_on_at_that_byte(server, get):
    server.shelf.faults = [{"bytes": 1000}]
    size = len(server.shelf.files[REVIEWS_PATH])
    result = get()
    assert server.shelf.sent() == [(None, 200, 1000), ("bytes=1000-", 206, size - 1000)]
    assert result.reviews.read_bytes() == server.shelf.files[REVIEWS_PATH]
    assert server.waits == [1.0]


def test_many_cuts_are_no_matter_as_long_as_it_goes_on(server, get):
    server.shelf.faults = [{"bytes": 150} for _ in range(8)]
    assert get().review_rows == 6
    assert [row[0] for row in server.shelf.sent()][-1] == "bytes=1200-"
    assert server.waits == [1.0] * 8


def test_a_later_call_goes_on_where_a_failed_one_ended(server, get, tmp_path):
    break_off(server, get)
    assert names(tmp_path / "raw") == ["All_Beauty.jsonl.gz.part", "All_Beauty.jsonl.gz.part.json"]
    assert get().review_rows == 6
    assert server.shelf.sent()[0][:2] == ("bytes=1000-", 206)
    assert names(tmp_path / "raw") == NAMES


def test_a_killed_download_leaves_a_part_and_is_gone_on_with(server, get, tmp_path):
    dead = threading.Event()
    server.shelf.faults = [{"bytes": 1000, "holds_until": dead}]
    code = (
        "import pathlib, sys\n"
        "from tfrs_shop.sources import amazon_2023, download\n"
        "download.CHUNK = 100\n"
        "amazon_2023.amazon_2023(pathlib.Path(sys.argv[1]), 'All_Beauty', base_url=sys.argv[2])\n"
    )
    raw = tmp_path / "raw"
    part = raw / "All_Beauty.jsonl.gz.part"
    killed = subprocess.Popen([sys.executable, "-c", code, str(raw), server.url])
    while killed.poll() is None and not (part.exists() and part.stat().st_size == 1000):
        threading.Event().wait(0.01)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    dead.set()
    assert names(raw) == ["All_Beauty.jsonl.gz.part", "All_Beauty.jsonl.gz.part.json"]
    result = get()
    assert server.shelf.sent()[-1] == ("bytes=1000-", 206, len(server.shelf.files[REVIEWS_PATH]) - 1000)
    assert result.reviews.read_bytes() == server.shelf.files[REVIEWS_PATH]
    assert names(raw) == NAMES


def test_a_file_that_changed_meanwhile_starts_anew(server, get):
    break_off(server, get)
    server.shelf.files[REVIEWS_PATH] = packed(REVIEW_ROWS[::-1], 0)
    result = get()
    assert server.shelf.sent() == [("bytes=1000-", 200, len(server.shelf.files[REVIEWS_PATH]))]
    assert result.reviews.read_bytes() == server.shelf.files[REVIEWS_PATH]


def test_a_server_that_ignores_if_range_cannot_glue_two_versions(server, get):
    break_off(server, get)
    server.shelf.files[REVIEWS_PATH] = packed(REVIEW_ROWS[::-1], 0)
    server.shelf.faults = [{"ignores_if_range": True}]
    result = get()
    assert [row[:2] for row in server.shelf.sent()] == [("bytes=1000-", 206), (None, 200)]
    assert result.reviews.read_bytes() == server.shelf.files[REVIEWS_PATH]


def test_a_part_of_another_place_is_not_gone_on_with(server, get):
    break_off(server, get)
    for path in (REVIEWS_PATH, META_PATH):
        server.shelf.files["/mirror" + path] = server.shelf.files[path]
    assert get(base_url=server.url + "/mirror").review_rows == 6
    assert server.shelf.sent("/mirror" + REVIEWS_PATH)[0][:2] == (None, 200)


def test_a_weak_etag_is_no_ground_to_go_on(server, get):
    server.shelf.etags = {REVIEWS_PATH: 'W/"1"'}
    break_off(server, get)
    assert get().review_rows == 6
    assert server.shelf.sent()[0][:2] == (None, 200)


def test_a_date_is_a_ground_to_go_on(server, get):
    server.shelf.etags = {REVIEWS_PATH: ""}
    server.shelf.sends_dates = True
    break_off(server, get)
    assert get().review_rows == 6
    assert server.shelf.sent()[0][:2] == ("bytes=1000-", 206)


def test_a_server_without_ranges_sends_the_whole_again(server, get):
    server.shelf.knows_ranges = False
    server.shelf.faults = [{"bytes": 1000}]
    lines = []
    assert get(progress=lines.append).review_rows == 6
    size = len(server.shelf.files[REVIEWS_PATH])
    assert server.shelf.sent() == [(None, 200, 1000), ("bytes=1000-", 200, size)]
    assert "All_Beauty.jsonl.gz: starts anew, as the file has changed or the server knows no ranges" in lines


def test_a_server_without_ranges_that_always_cuts_is_given_up(server, get):
    server.shelf.knows_ranges = False
    server.shelf.faults = [{"bytes": 1000}] * 50
    with pytest.raises(UnreachableError, match=r"the connection ended after 1,000 of [\d,]+ bytes"):
        get()
    assert len(server.shelf.sent()) == 5
    assert server.waits == [1.0, 2.0, 4.0, 8.0]


def test_a_server_that_is_busy_once_is_asked_again(server, get):
    server.shelf.faults = [{"status": 503, "headers": {"Retry-After": "7"}}]
    lines = []
    assert get(progress=lines.append).review_rows == 6
    assert server.waits == [7.0]
    assert lines[0] == (
        "All_Beauty.jsonl.gz: the server answered 503 Service Unavailable; next attempt in 7 s (1 of 4)"
    )


def test_a_server_that_asks_for_an_hour_is_not_believed(server, get):
    server.shelf.faults = [{"status": 429, "headers": {"Retry-After": "3600"}}]
    get()
    assert server.waits == [60.0]


def test_a_server_that_stays_busy_is_given_up_after_five_attempts(server, get):
    server.shelf.faults = [{"status": 503}] * 50
    with pytest.raises(UserError) as error:
        get()
    assert str(error.value) == (
        f"cannot download {server.url}{REVIEWS_PATH} (the server answered 503 Service Unavailable); "
        "check the network or the proxy and give the same command again."
    )
    assert server.waits == [1.0, 2.0, 4.0, 8.0]


def test_a_file_that_is_not_there_is_named_at_once(server, get):
    del server.shelf.files[META_PATH]
    with pytest.raises(UserError, match=r"meta_All_Beauty\.jsonl\.gz: the server answered 404 Not Found; is the addr"):
        get()
    assert server.waits == []


def test_too_long_a_length_is_found(server, get, tmp_path):
    server.shelf.faults = [{"wrong_length": 10}] * 50
    with pytest.raises(UnreachableError, match=r"All_Beauty\.jsonl\.gz \("):
        get()
    assert not (tmp_path / "raw" / "All_Beauty.jsonl.gz").exists()
    assert len(server.shelf.asked) <= 10


def test_no_server_is_one_clear_sentence(get):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UserError) as error:
        get(base_url=f"http://127.0.0.1:{port}")
    assert str(error.value) == (
        f"cannot download http://127.0.0.1:{port}{REVIEWS_PATH} (Connection refused); "
        "check the network or the proxy and give the same command again."
    )


@pytest.mark.parametrize("url", ["file:///etc", "mcauleylab.ucsd.edu", "http://", "http://a b", "http://host:x"])
def test_what_is_no_address_is_named(get, server, url):
    with pytest.raises(UserError, match="is no address to download from"):
        get(base_url=url)
    assert server.waits == []


def test_a_full_disk_is_said_before_the_download(server, get, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(
        UserError, match=r"has room for 0\.0 MB, and All_Beauty\.jsonl\.gz needs 0\.0 MB more; make room"
    ):
        get()
