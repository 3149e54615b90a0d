"""Directories that are whole or absent."""

from tfrs_shop.whole_directory import move_to_number, partial_directory


def test_a_number_that_was_taken_meanwhile_is_left_alone(tmp_path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "kept").touch()
    numbers = iter([1, 1, 2])
    with partial_directory(tmp_path / "1") as written:
        (written / "new").touch()
        assert move_to_number(written, tmp_path, lambda: next(numbers)) == tmp_path / "2"
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert found == ["1", "1/kept", "2", "2/new"]
