"""Reading files: CSV, JSON lines and Parquet, whole and broken, and the patterns that name them."""

import csv
import gzip
import io
import json
from datetime import datetime

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import files, rows
from pipelines.files import column_names, match_files
from pipelines.rows import FileError, read_rows
from pipelines.values import RowError
from tfrs_shop.errors import UserError
from tfrs_shop.mapping import TableMapping

PLAIN = TableMapping()


def read(path, mapping=PLAIN):
    """Read a file; rows that cannot be split come as their reason."""
    return [(n, row.reason if isinstance(row, RowError) else row) for n, row in read_rows(str(path), mapping)]


def written(tmp_path, name, content):
    path = tmp_path / name
    data = content if isinstance(content, bytes) else content.encode("utf-8")
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


# --- CSV ---


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.CSV"])
def test_csv_has_quotes_line_breaks_and_a_byte_order_mark(tmp_path, name):
    path = written(tmp_path, name, '\ufeffid, title\r\n1,"a ""b"", c"\r\n2,"two\nlines"\r\n\r\n4,Ü\r\n')
    assert column_names(str(path), PLAIN) == ["id", "title"]
    assert read(path) == [
        (2, {"id": "1", "title": 'a "b", c'}),
        (3, {"id": "2", "title": "two\nlines"}),
        (5, {"id": "4", "title": "Ü"}),
    ]


def test_a_ragged_row_is_refused_and_the_next_is_read(tmp_path):
    path = written(tmp_path, "a.csv", "a,b\n1\n1,2\n1,2,3\n")
    assert read(path) == [
        (2, "wrong number of columns: 1 where the header has 2"),
        (3, {"a": "1", "b": "2"}),
        (4, "wrong number of columns: 3 where the header has 2"),
    ]


def test_a_quote_that_is_never_closed_costs_rows_and_not_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "LARGEST_CELL", 100)
    path = written(tmp_path, "a.csv", 'a,b\n1,"' + "x" * 200 + "\n1,2\n")
    found = read(path)
    assert found[0] == (2, "not CSV: field larger than field limit (100)")
    assert found[-1][1] == {"a": "1", "b": "2"}


def test_a_byte_that_is_not_utf_8_stays_in_its_cell(tmp_path):
    path = written(tmp_path, "a.csv", b"a,b\n\xff1,2\n")
    assert read(path) == [(2, {"a": "\udcff1", "b": "2"})]


def test_a_mapping_names_the_columns_and_the_delimiter(tmp_path):
    path = written(tmp_path, "a.csv", "1;2\n3;4\n")
    mapping = TableMapping(header=["a", "b"], delimiter=";")
    assert column_names(str(path), mapping) == ["a", "b"]
    assert read(path, mapping) == [(1, {"a": "1", "b": "2"}), (2, {"a": "3", "b": "4"})]
    assert read(written(tmp_path, "b.tsv", "a\tb\n1,5\t2\n")) == [(2, {"a": "1,5", "b": "2"})]


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), min_size=2, max_size=2),
        max_size=5,
    )
)
def test_what_python_writes_as_csv_is_read_back(tmp_path_factory, cells):
    text = io.StringIO()
    csv.writer(text).writerows([["a", "b"], *cells])
    path = written(tmp_path_factory.mktemp("csv"), "a.csv", text.getvalue())
    assert [list(row.values()) for _, row in read(path)] == cells


# --- JSON lines ---


def test_json_lines_that_are_broken_or_no_object_are_refused(tmp_path):
    lines = ['{"a": 1}', "", "{broken", "[1]", '"text"', '{"b": [1, "\\ud83d"]}', "[" * 100_000]
    found = read(written(tmp_path, "a.jsonl", "\n".join(lines)))
    assert found[0] == (1, {"a": 1})
    assert found[1][1].startswith("not JSON: Expecting property name")
    assert found[2:4] == [(4, "not a JSON object: [1]"), (5, "not a JSON object: 'text'")]
    assert found[4] == (6, {"b": [1, "\ud83d"]})
    assert found[5][0] == 7
    assert found[5][1].startswith("not JSON")


def test_the_columns_of_json_lines_are_those_of_the_first_thousand(tmp_path):
    lines = [json.dumps({"a": 1}), json.dumps({"b": 2, "a": 1})] + ['{"a": 3}'] * 998 + ['{"late": 1}']
    assert column_names(str(written(tmp_path, "a.ndjson.gz", "\n".join(lines))), PLAIN) == ["a", "b"]


@pytest.mark.parametrize("indent", [None, 2])
def test_one_json_array_is_read_element_by_element(tmp_path, indent):
    rows = [{"a": place, "b": ["x, ]", {"c": None}]} for place in range(50_000)]
    path = written(tmp_path, "a.json.gz", " \n" + json.dumps(rows, indent=indent))
    assert read(path) == list(enumerate(rows, 1))
    assert column_names(str(path), PLAIN) == ["a", "b"]


def test_elements_of_a_json_array_that_are_no_objects_are_refused(tmp_path):
    path = written(tmp_path, "a.json", '[1, {"a": 2}, "x", null, 12]')
    assert read(path) == [
        (1, "not a JSON object: 1"),
        (2, {"a": 2}),
        (3, "not a JSON object: 'x'"),
        (4, "not a JSON object: None"),
        (5, "not a JSON object: 12"),
    ]
    assert read(written(tmp_path, "none.json", "[ ]")) == []


@pytest.mark.parametrize("text", ["[", '[{"a": 1}', '[{"a": 1}, {"a', "[12", '[{"a": 1} {b}]'])
def test_a_json_array_that_is_cut_off_or_broken(tmp_path, text):
    with pytest.raises(FileError, match="is no whole JSON array: after element"):
        read(written(tmp_path, "a.json", text))


def test_lines_that_python_wrote_are_read(tmp_path):
    lines = ["{'a': \"it's\", 'b': [['x']]}", "{'a': open('x')}"]
    found = read(written(tmp_path, "a.json", "\n".join(lines)))
    assert found[0] == (1, {"a": "it's", "b": [["x"]]})
    assert found[1][1].startswith("not JSON")


# --- Parquet ---


def test_parquet_has_types_and_its_nan_is_no_value(tmp_path):
    moment = datetime(2023, 11, 15, 12, 0, 0, 1000)
    table = pyarrow.table(
        {
            "id": pyarrow.array([1, None], pyarrow.int64()),
            "price": [1.5, float("nan")],
            "at": pyarrow.array([1_700_049_600_001_000_001, None], pyarrow.timestamp("ns")),
            "tags": [["a", "b"], None],
        }
    )
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(table, path)
    assert column_names(str(path), PLAIN) == ["id", "price", "at", "tags"]
    assert read(path) == [
        (1, {"id": 1, "price": 1.5, "at": moment, "tags": ["a", "b"]}),
        (2, {"id": None, "price": None, "at": None, "tags": None}),
    ]


def test_parquet_that_is_cut_off_is_a_broken_file(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": list(range(1000))}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"a\.parquet: is not whole Parquet .*get the file again"):
        column_names(str(path), PLAIN)
    with pytest.raises(FileError, match="is not whole Parquet"):
        read(path)


# --- files ---


def test_gzip_that_is_cut_off_is_a_broken_file_and_not_a_short_one(tmp_path):
    whole = gzip.compress(("a,b\n" + "1,2\n" * 50_000).encode())
    path = tmp_path / "a.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match="is cut off or not gzip"):
        read(path)
    path.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(
        UserError, match=r"a\.csv\.gz: is cut off or not gzip \(Not a gzipped file .*get the file again"
    ):
        column_names(str(path), PLAIN)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.gz", "a.jsonl.gz"])
def test_an_empty_file_is_told(tmp_path, name):
    with pytest.raises(UserError, match=r"is empty; it needs at least a row\.$"):
        column_names(str(written(tmp_path, name, "")), PLAIN)


def test_a_header_with_one_name_twice_or_bad_bytes_is_refused(tmp_path):
    with pytest.raises(UserError, match="names the column 'a' twice in its header; rename one"):
        column_names(str(written(tmp_path, "a.csv", "a,b,a\n")), PLAIN)
    with pytest.raises(UserError, match=r"the column name 'gr\\udcf6sse' is not UTF-8; save the file as UTF-8"):
        column_names(str(written(tmp_path, "b.csv", "id,größe\n".replace("ß", "ss").encode("latin-1"))), PLAIN)


def test_patterns_name_files_once_each_in_order(tmp_path, monkeypatch):
    for name in ("b.csv", "a.csv", "c.jsonl"):
        written(tmp_path, name, "x")
    monkeypatch.chdir(tmp_path)
    assert match_files("--events", ["*.csv", "a.csv", f"{tmp_path}/c.*"]) == [
        "./a.csv",
        "./b.csv",
        f"{tmp_path}/c.jsonl",
    ]


def test_a_pattern_that_names_no_file_says_so(tmp_path):
    with pytest.raises(UserError, match=r"^--events .*none\.csv: no such file; check the path\.$"):
        match_files("--events", [str(tmp_path / "none.csv")])
    with pytest.raises(UserError, match=r"is a directory; name its files, as in .*\*\.csv\.$"):
        match_files("--events", [str(tmp_path)])
    with pytest.raises(UserError, match=r"a\.xlsx: unknown format; known endings: \.csv, \.tsv, \.jsonl"):
        match_files("--events", [str(written(tmp_path, "a.xlsx", "x"))])
    with pytest.raises(UserError, match=r"^--events nowhere://x/y\.csv: cannot be looked up"):
        match_files("--events", ["nowhere://x/y.csv"])
    assert files.SAMPLED_JSON_ROWS == 1000
