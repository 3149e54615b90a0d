"""What `tfrs-shop init` tells of values: times, category paths, and the numbers that mappings can say."""

import pytest

from pipelines import values
from pipelines.values import RowError
from tfrs_shop.own_data.evidence import Column
from tfrs_shop.own_data.times import times_of


@pytest.mark.parametrize(
    ("values", "formats", "unit"),
    [
        ([1511544070, 1511544999], (), "s"),
        (["1391990400000"], (), "ms"),
        ([1569888000000000], (), "us"),
        ([1569888000000000000], (), "ns"),
        (["20191001", "20191231"], ("%Y%m%d",), "auto"),
        (["20191001123000"], ("%Y%m%d%H%M%S",), "auto"),
        (["12/1/2010 8:26", "12/31/2010 8:26"], ("%m/%d/%Y %H:%M",), "auto"),
        (["1/12/2010 8:26", "31/12/2010 8:26"], ("%d/%m/%Y %H:%M",), "auto"),
        (["1.2.2020 10:00"], ("%d.%m.%Y %H:%M",), "auto"),
        (["02 10, 2014", "11 21, 2013"], ("%m %d, %Y",), "auto"),
        (["2019-10-01 00:00:00 UTC"], (), "auto"),
        (["2019-10-01T00:00:00.123Z"], (), "auto"),
    ],
)
def test_times_in_their_many_forms(values, formats, unit):
    found = times_of(values)
    assert (found.formats, found.unit) == (formats, unit)


@pytest.mark.parametrize("values", [["abc"], [5, 4, 3], [180, 35, 0], ["P-001"], [["2019-10-01"]], [True], []])
def test_what_is_no_time(values):
    assert times_of(values) is None


def test_days_and_months_that_could_be_either_are_said():
    assert times_of(["01/02/2010 8:26"]).or_else == "%d/%m/%Y %H:%M"


@pytest.mark.parametrize(
    ("paths", "separator"),
    [
        (["Home > Kitchen", "Home > Garden", "Toys > Cars", "Toys > Dolls"], " > "),
        (["electronics.phone", "electronics.audio", "home.lamp", "home.sofa"], "."),
        (["Drama|Comedy", "Drama|War", "Crime|Film-Noir", "Crime|Drama"], "|"),
        (["Creams, Gels & Lotions", "Tools, Brushes", "Eyes", "Lips"], ""),
        (["Men/Shoes/Boots", "Men/Shoes/Flats", "Women/Bags", "Women/Belts"], "/"),
        (["Shoes", "Bags"], ""),
    ],
)
def test_what_stands_between_the_levels_of_a_category(paths, separator):
    assert Column("category", paths * 5).separator() == separator


@pytest.mark.parametrize(
    ("text", "number"), [("12,5", 12.5), ("1.234,50", 1234.5), ("-3", -3.0), ("1.234.567", 1234567.0)]
)
def test_decimal_commas_are_read(text, number):
    assert values.number("price", text, decimal=",") == number


@pytest.mark.parametrize("text", ["1.5", "12.34,5", "1,2,3", ",5", "x"])
def test_what_is_no_number_with_a_decimal_comma_is_refused(text):
    with pytest.raises(RowError, match="not a number"):
        values.number("price", text, decimal=",")


def test_nanoseconds_are_told_by_their_size():
    assert values.time("timestamp", "1569888000000000000") == 1569888000000
    assert values.time("timestamp", "1569888000000000000", unit="ns") == 1569888000000
    assert values.time("timestamp", "1569888000000000") == 1569888000000
