"""Files and folders appear complete or not at all; the earlier version stays until then."""

import pytest

from research.atomic_files import whole_file, whole_folder
from research.errors import UserError


@pytest.mark.parametrize("interruption", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("text", [False, True])
def test_an_interruption_leaves_the_file_that_was_there(tmp_path, interruption, text):
    path, content = tmp_path / "file", "new\n" if text else b"new\n"
    path.write_bytes(b"old\n")
    with pytest.raises(interruption), whole_file(path, text=text) as file:
        file.write(content)
        raise interruption
    assert [other.name for other in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old\n"
    with whole_file(path, text=text) as file:
        file.write(content)
        assert path.read_bytes() == b"old\n"
    assert [other.name for other in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"new\n"


def test_another_writer_s_half_of_a_file_stays(tmp_path):
    with whole_file(tmp_path / "file", suffix=".1.tmp") as file:
        file.write(b"one")
    (tmp_path / "file.2.tmp").write_bytes(b"half")
    with whole_file(tmp_path / "file", suffix=".1.tmp") as file:
        file.write(b"two")
    assert sorted(other.name for other in tmp_path.iterdir()) == ["file", "file.2.tmp"]


def test_a_folder_is_there_when_it_is_full(tmp_path):
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "out") as folder:
        (folder / "a").touch()
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with whole_folder(tmp_path / "out") as folder:
        (folder / "a").touch()
        assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]
    with (
        pytest.raises(UserError, match="exists already, expected"),
        whole_folder(tmp_path / "out"),
    ):
        pass
