"""The report: one page that is well-formed, loads nothing, and takes no title for markup."""

import dataclasses
import json
import re
import types
from xml.etree import ElementTree

import numpy as np
import pytest
import tensorflow as tf
from conftest import quiet
from typer.testing import CliRunner

from tfrs_shop.cli import app
from tfrs_shop.errors import UserError
from tfrs_shop.report import report
from tfrs_shop.report_accuracy import compared_section
from tfrs_shop.report_charts import line_chart, ticks
from tfrs_shop.report_examples import because, example_users
from tfrs_shop.report_page import Words, cards, page, section, table, text
from tfrs_shop.report_run import data_section
from tfrs_shop.served.explain import PER_USER


def parsed(html: str) -> ElementTree.Element:
    """Return the page as a tree; any tag that is not closed, or text that is not escaped, raises."""
    return ElementTree.fromstring(html.removeprefix("<!DOCTYPE html>"))


@pytest.fixture(scope="module")
def html(run, tmp_path_factory) -> str:
    output = tmp_path_factory.mktemp("report") / "new" / "report.html"
    given = ["report", "--run", str(run), "--output", str(output), "--exclude-seen", "--compare", str(run)]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert f"Wrote {output}" in done.output
    assert [path.name for path in output.parent.iterdir()] == ["report.html"]
    return output.read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_has_every_section(html) -> None:
    assert [heading.text for heading in parsed(html).iter("h2")] == [
        "run against run (compared)",
        "Ranking",
        "By slice",
        "Cold start",
        "Coverage, diversity, popularity",
        "Diverse lists",
        "Ranking head",
        "Behaviour",
        "Example recommendations",
        "Data",
        "Training",
        "Cost",
        "Settings of run",
        "Settings of run (compared)",
    ]
    assert html.count('<div class="user">') == 5


def test_two_runs_stand_side_by_side(html) -> None:
    # The same run twice: no difference, the same settings, and each number is there twice.
    assert "The two differ by no more in NDCG@10 than the choice of users may make (+0.0000)" in html
    assert "The settings of the two are the same." in html
    rows = [[cell.text for cell in row] for row in parsed(html).iter("tr")]
    assert ["at", "recall, run", "recall, run (compared)", "ndcg, run"] in [row[:4] for row in rows]
    ten = next(row for row in rows if row[0] == "10")
    assert ten[1::2] == ten[2::2]
    assert html.count("Recommended by run<ol>") == html.count("Recommended by run (compared)<ol>") == 5


def test_the_page_loads_nothing(html) -> None:
    tree = parsed(html)
    tags = {element.tag for element in tree.iter()}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "image", "use"}
    for element in tree.iter():
        assert not {"src", "href", "srcset"} & set(element.attrib)
        assert not any(name.startswith("on") for name in element.attrib)
    assert not re.search(r"https?://|url\(|@import", html)
    assert "default-src 'none'" in html


def test_the_page_fits_a_phone_and_follows_the_dark_mode(html) -> None:
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in html
    assert "@media (prefers-color-scheme: dark)" in html
    tables = parsed(html).iter("table")
    scrolled = list(parsed(html).iterfind(".//div[@class='scroll']/table"))
    assert len(list(tables)) == len(scrolled) > 5


def test_the_page_shows_the_courses_of_training(html, run) -> None:
    epochs = len((run / "history.jsonl").read_text().splitlines())
    lines = [len(line.attrib["points"].split()) for line in parsed(html).iter("polyline")]
    # Loss, Recall@10 and NDCG@10 of two runs.
    assert lines.count(epochs) >= 6


def test_titles_queries_and_users_with_markup_stay_text(trained) -> None:
    model, data = trained
    evil = b"<script>alert('x')</script>&\x00\xff\"'"
    titles = np.full_like(data.catalogue.title, evil)
    values = {**data.values, "event_type": [evil] * len(data.values["event_type"])}
    tampered = dataclasses.replace(data, catalogue=dataclasses.replace(data.catalogue, title=titles), values=values)
    # The lookup tables of the data itself: only what is shown is tampered with.
    tampered.__dict__["tables"] = data.tables
    tampered.__dict__["target_types"] = data.target_types
    shown = page("<b>", section("x", *example_users({"<i>": model, "b": model}, tampered, "test", False)))
    assert "<script" not in shown
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;\ufffd\ufffd&quot;&#x27;" in shown
    tree = parsed(shown)
    assert next(tree.iter("title")).text == "<b>"
    assert "because of &lt;script" in shown
    assert "Recommended by &lt;i&gt;" in shown
    assert len(list(tree.iter("ol"))) == 10


def test_a_product_without_a_title_is_named_by_its_id(trained) -> None:
    model, data = trained
    titles = np.full_like(data.catalogue.title, b"")
    nameless = dataclasses.replace(data, catalogue=dataclasses.replace(data.catalogue, title=titles))
    shown = "".join(example_users({"run": model}, nameless, "test", False))
    listed = re.findall(r"<li[^>]*>([^<]+) <span", re.search(r"<ol>.*?</ol>", shown).group())
    assert len(listed) == 10
    assert {product.encode() for product in listed} <= set(data.catalogue.product_id.tolist())


def test_a_reason_is_the_event_without_which_the_chance_falls_most(trained) -> None:
    model, data = trained
    batch = next(iter(data.evaluation_batches("test", model.config.towers.max_history)))
    rows = {name: value.numpy()[:3] for name, value in batch.items()}
    vectors = model.product_vectors()
    scores = model.final_scores(vectors, {name: tf.constant(value) for name, value in rows.items()}).numpy()
    products = np.argsort(-scores, 1)[:, :4].astype(np.int32)
    reasons = because(model, {name: tf.constant(value) for name, value in rows.items()}, scores, products)
    pads = {"history_product": 0, "history_event_type": 0, "history_query": 0, "history_timestamp": -1}
    for row in range(3):
        # What each product, or each search, of the history adds: by its number, or its place below 0.
        adds: dict[int, np.ndarray] = {}
        history, kinds = rows["history_product"][row], rows["history_event_type"][row]
        for place in np.flatnonzero(kinds):
            left = {name: np.append(pad, np.delete(rows[name][row], place)) for name, pad in pads.items()}
            left = {name: tf.constant(value[None], batch[name].dtype) for name, value in left.items()}
            left |= {name: tf.constant(rows[name][row : row + 1]) for name in PER_USER if name in rows}
            score = model.final_scores(vectors, left)
            what = history[place] or place - len(history)
            adds[what] = adds.get(what, 0.0) + scores[row, products[row]] - score.numpy()[0, products[row]]
        assert len(adds) > 1
        for column, place in enumerate(reasons[row]):
            most = max(added[column] for added in adds.values())
            assert (place == -1) == (most <= 0.0)
            # Two searches without a text are the same to the model.
            if place >= 0:
                assert adds[history[place] or place - len(history)][column] == pytest.approx(most, abs=1e-5)


def test_without_a_history_there_is_no_reason(trained) -> None:
    model, data = trained
    batch = next(iter(data.evaluation_batches("test", model.config.towers.max_history)))
    rows = {name: value[:1] * 0 if name.startswith("history") else value[:1] for name, value in batch.items()}
    scores = model.final_scores(model.product_vectors(), rows).numpy()
    assert because(model, rows, scores, np.array([[1, 2, 0]])).tolist() == [[-1, -1, -1]]


def test_two_runs_that_differ_are_told_apart(trained, run, tmp_path) -> None:
    sides = [types.SimpleNamespace(name=name, path=tmp_path / name, result={"ndcg@10": 0.1}) for name in "ab"]
    for side, rate in zip(sides, ("0.1", "0.2"), strict=True):
        side.path.mkdir()
        (side.path / "config.yaml").write_text(f"training:\n  learning_rate: {rate}\n")
    tests = {"ndcg@10": {"other": 0.3, "difference": -0.2, "interval": [-0.3, -0.1], "p_value": 0.001}}
    shown = compared_section(sides, tests)
    assert "b is better than a by 0.2000 of NDCG@10." in shown
    assert "<td>training.learning_rate</td>" in shown
    assert '<td class="words">0.1</td><td class="words">0.2</td>' in shown


def test_the_data_section_counts(trained) -> None:
    _, data = trained
    shown = data_section(data, np.array([2, 4, 9]))
    assert "<td>events of a history, median</td><td>4</td>" in shown
    assert "<td>title</td><td>100.0%</td>" in shown
    assert "<b>120</b><span>users</span>" in shown
    assert "<b>200</b><span>products</span>" in shown
    assert "<td>leave_one_out</td>" in shown


def test_a_history_without_validation_still_makes_a_page(run, tmp_path) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    for path in run.iterdir():
        (copy / path.name).symlink_to(path)
    (copy / "history.jsonl").unlink()
    (copy / "history.jsonl").write_text(json.dumps({"epoch": 1, "seconds": 1.0, "metrics": {"loss": 2.0}}) + "\n")
    report(copy, tmp_path / "r.html", "validation", False, quiet)
    parsed((tmp_path / "r.html").read_text())


def test_a_page_that_cannot_be_written_is_one_sentence(run, tmp_path) -> None:
    with pytest.raises(UserError, match="is a directory; name the HTML file to write"):
        report(run, tmp_path, "test", False, quiet)
    with pytest.raises(UserError, match="is no run directory"):
        report(tmp_path / "nothing", tmp_path / "r.html", "test", False, quiet)


def test_text_drops_what_markup_cannot_hold() -> None:
    assert text("a\x0b<") == "a\ufffd&lt;"
    assert text(b"\xc3\xa4\xff") == "ä\ufffd"


def test_tables_and_cards_escape_their_cells() -> None:
    assert "<td>&lt;i&gt;</td><td>0.5000</td><td>1,234</td>" in table(("a",), [("<i>", 0.5, 1234)])
    assert '<td class="words">&lt;i&gt;</td>' in table(("a",), [(Words("<i>"),)])
    assert "<b>0.2500</b><span>&amp;</span>" in cards({"&": 0.25})
    assert section("empty", "", "") == ""


def test_a_chart_draws_each_point_and_leaves_out_what_is_not_finite() -> None:
    chart = line_chart({"a<b": [(1, 0.5), (2, float("nan")), (3, 1.0)], "c": [(1, 0.1)]}, title="t", x_label="x")
    tree = ElementTree.fromstring(chart)
    assert len(list(tree.iter("circle"))) == 3
    assert [len(line.attrib["points"].split()) for line in tree.iter("polyline")] == [2, 1]
    assert "a&lt;b" in chart
    assert line_chart({"a": []}, title="t", x_label="x") == ""
    ElementTree.fromstring(line_chart({"a": [(1, 0.0)]}, title="t", x_label="x"))


def test_the_axis_of_a_chart_has_ticks_within_its_ends() -> None:
    def below(points: list[tuple[float, float]], **more) -> list[str]:
        tree = ElementTree.fromstring(line_chart({"a": points}, title="t", x_label="x", **more))
        return [label.text for label in tree.iter("text") if label.attrib["y"] == "200.0"]

    assert below([(1, 0.5), (4, 0.6)]) == ["1", "2", "3", "4"]
    assert below([(0.5, 0.1), (0.78, 0.2)]) == ["0.5", "0.6", "0.7"]
    assert below([(0.0, 0.0)], ends=(0.0, 0.079)) == ["0", "0.02", "0.04", "0.06"]


@pytest.mark.parametrize("high", [1e-6, 0.3, 7.0, 99.0, 12345.0])
def test_an_axis_has_a_few_round_ticks_that_reach_its_end(high: float) -> None:
    found = ticks(0.0, high)
    assert 3 <= len(found) <= 7
    assert found[-1] >= high * (1 - 1e-9)
