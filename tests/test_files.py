import os
import stat

import pytest

from swinv2.files import written_aside


def test_the_file_appears_whole_with_the_usual_permissions(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with written_aside(path) as aside:
        aside.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_or_interrupt_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)), written_aside(path) as aside:  # noqa: PT012
        aside.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_name_keeps_its_ending_for_writers_that_look_at_it(tmp_path):
    with written_aside(tmp_path / "a.png") as aside:
        assert aside.suffix == ".png"
        assert aside.parent == tmp_path
