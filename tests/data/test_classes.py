from pathlib import Path

import pytest

from swinv2.data.classes import find_classes, read_classes


def test_names_are_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes("cat\r\n\n tabby cat \nc\u00e3o".encode())
    assert read_classes(tmp_path / "classes.txt") == ("cat", "tabby cat", "c\u00e3o")


@pytest.mark.parametrize(("content", "words"), [(None, "there is no file"), (b"\xff\xfe", "no UTF-8 text")])
def test_a_file_that_names_nothing_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content:
        (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_classes(tmp_path / "classes.txt")
    assert "classes.txt" in str(caught.value)


def test_classes_are_found_however_accents_are_encoded() -> None:
    assert find_classes(["dog", "caf\u00e9", "owl"], ["cafe\u0301", "cat", "dog"]) == [2, 0, None]


def test_numbers_stand_for_places_where_asked() -> None:
    """As the folders of ImageNet-V2 do for the synsets of ImageNet-1K."""
    known = ("n01440764", "n01443537", "n01484850")
    assert find_classes(("0", "2", "10"), known, numbered=True) == [0, 2, None]
    assert find_classes(("0", "2"), known) == [None, None]
    assert find_classes(("1", "0"), ("0", "1"), numbered=True) == [1, 0]
