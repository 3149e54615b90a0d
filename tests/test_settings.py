"""Typed settings out of YAML: what each kind of field takes, and how a mistake is told."""

import dataclasses
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrs_shop.config import Config
from tfrs_shop.errors import UserError
from tfrs_shop.settings import from_dict, load_yaml, to_dict


@dataclasses.dataclass(frozen=True)
class Inner:
    width: int = 8

    def __post_init__(self):
        if self.width < 1:
            raise ValueError("width: must be at least 1.")


@dataclasses.dataclass(frozen=True)
class Settings:
    rate: float
    name: str = "a"
    on: bool = True
    optional: int | None = None
    mode: Literal["fast", "slow"] = "fast"
    sizes: list[int] = dataclasses.field(default_factory=list)
    pair: tuple[float, ...] = ()
    shares: dict[str, float] = dataclasses.field(default_factory=dict)
    one_or_more: str | list[str] = ""
    inner: Inner = dataclasses.field(default_factory=Inner)
    more: list[Inner] = dataclasses.field(default_factory=list)
    anything: Any = None


def settings(**values):
    return from_dict(Settings, {"rate": 1, **values}, where="file")


def test_each_kind_of_field_takes_its_values():
    found = settings(
        rate=1, optional=3, mode="slow", sizes=[1, 2], pair=[1, 2.5], shares={"a": 1}, one_or_more=["x"],
        inner={"width": 3}, more=[{"width": 1}, {}], anything={"x": [1]},
    )  # fmt: skip
    assert found == Settings(
        1.0, "a", True, 3, "slow", [1, 2], (1.0, 2.5), {"a": 1.0}, ["x"], Inner(3), [Inner(1), Inner()], {"x": [1]}
    )
    assert isinstance(found.rate, float)
    assert settings(one_or_more="x", optional=None).one_or_more == "x"
    assert settings(rate="1e-3").rate == 0.001  # YAML 1.1 reads it as text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nmae": "x"}, "file: unknown setting 'nmae'. Did you mean 'name'? Known: rate, name, on, "),
        ({"rate": "fast"}, "file: rate: expected a number, found 'fast'."),
        ({"rate": True}, "file: rate: expected a number, found True."),
        ({"rate": None}, "file: rate: expected a number, found None."),
        ({"name": 3}, "file: name: expected text, found 3."),
        ({"on": "yes"}, "file: on: expected true or false, found 'yes'."),
        ({"optional": 1.5}, "file: optional: expected a whole number, found 1.5."),
        ({"optional": True}, "file: optional: expected a whole number, found True."),
        ({"mode": "slo"}, "file: mode: 'slo' is not one of fast, slow. Did you mean 'slow'?"),
        ({"mode": ["fast"]}, "file: mode: ['fast'] is not one of fast, slow."),
        ({"sizes": 3}, "file: sizes: expected a list, found 3."),
        ({"sizes": [1, "x"]}, "file: sizes[1]: expected a whole number, found 'x'."),
        ({"shares": [1]}, "file: shares: expected names with values, found [1]."),
        ({"shares": {"a": "x"}}, "file: shares: a: expected a number, found 'x'."),
        ({"one_or_more": 3}, "file: one_or_more: expected text or a list, found 3."),
        ({"one_or_more": ["x", 3]}, "file: one_or_more[1]: expected text, found 3."),
        ({"inner": 3}, "file: inner: expected named settings, found 3."),
        ({"inner": {"wdth": 3}}, "file: inner: unknown setting 'wdth'. Did you mean 'width'?"),
        ({"inner": {"width": 0}}, "file: inner: width: must be at least 1."),
        ({"more": [{}, {"width": "x"}]}, "file: more[1]: width: expected a whole number, found 'x'."),
    ],
)
def test_a_mistake_is_told_with_its_place(values, message):
    with pytest.raises(UserError) as caught:
        settings(**values)
    assert str(caught.value).startswith(message)


def test_a_setting_without_default_must_be_given():
    with pytest.raises(UserError, match=r"^file: missing setting rate\.$"):
        from_dict(Settings, {}, where="file")


@given(
    st.builds(
        Settings,
        rate=st.floats(allow_nan=False),
        name=st.text(),
        optional=st.none() | st.integers(),
        mode=st.sampled_from(["fast", "slow"]),
        sizes=st.lists(st.integers(), max_size=3),
        shares=st.dictionaries(st.text(), st.floats(allow_nan=False), max_size=3),
        one_or_more=st.text() | st.lists(st.text(), max_size=2),
        inner=st.builds(Inner, st.integers(1, 9)),
        more=st.lists(st.builds(Inner, st.integers(1, 9)), max_size=2),
    )
)
def test_settings_come_back_from_plain_data(found):
    assert from_dict(Settings, to_dict(found), where="file") == found


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml: cannot be read \(No such file or directory\); give the path"):
        load_yaml(Settings, tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
    with pytest.raises(UserError, match=r"latin\.yaml: is not UTF-8 text"):
        load_yaml(Settings, tmp_path / "latin.yaml")
    (tmp_path / "tab.yaml").write_text("a:\n\tb: 1")
    with pytest.raises(UserError, match=r"tab\.yaml: is not valid YAML: [^\n]*line 2"):
        load_yaml(Settings, tmp_path / "tab.yaml")
    (tmp_path / "empty.yaml").write_text("")
    assert load_yaml(Inner, tmp_path / "empty.yaml") == Inner()


def test_shipped_settings_are_taken_by_name_and_a_near_miss_is_told() -> None:
    from tfrs_shop.config import Config, load_config

    assert load_config("") == Config()
    assert load_config("fast").towers.width < Config().towers.width
    with pytest.raises(UserError, match=r"--config fats: no such file.*Did you mean 'fast'\?"):
        load_config("fats")


MISTYPED = [
    (section.name, name) for section in dataclasses.fields(Config) for name in to_dict(getattr(Config(), section.name))
]


@pytest.mark.parametrize(("section", "name"), MISTYPED)
def test_a_mistyped_setting_of_any_section_is_answered_with_its_name(section: str, name: str) -> None:
    typed = name[:-1] if len(name) > 3 else name + "x"
    with pytest.raises(UserError, match=rf"file: {section}: unknown setting '{typed}'\. Did you mean '{name}'\?"):
        from_dict(Config, {section: {typed: 1}}, where="file")


@pytest.mark.parametrize("section", [field.name for field in dataclasses.fields(Config)])
def test_a_mistyped_section_is_answered_with_its_name(section: str) -> None:
    with pytest.raises(UserError, match=f"unknown setting '{section[1:]}'. Did you mean '{section}'"):
        from_dict(Config, {section[1:]: {}}, where="file")
