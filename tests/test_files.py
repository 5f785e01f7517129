import pytest
from filelock import Timeout

from vaelib import files


def test_a_file_is_replaced_whole(tmp_path):
    file = tmp_path / "made" / "a.txt"
    with files.replacing(file) as draft:
        draft.write_text("one")
        assert not file.exists()
        assert draft.parent.name.startswith(f"{files.DRAFT}a.txt.")
    assert [path.name for path in file.parent.iterdir()] == ["a.txt"]


def _interrupted(file, raised):
    with files.replacing(file) as draft:
        draft.write_text("ne")
        raise raised


@pytest.mark.parametrize("raised", [KeyboardInterrupt, OSError])
def test_an_interrupted_write_leaves_what_was_there(tmp_path, raised):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(raised):
        _interrupted(file, raised)
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_text_that_is_there_already_is_left_alone(tmp_path):
    file = tmp_path / "a.txt"
    files.write_text(file, "ä\n")
    before = file.stat()
    files.write_text(file, "ä\n")
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    files.write_text(file, "ö\n")
    assert file.read_bytes() == "ö\n".encode()


def test_a_lock_keeps_others_out(tmp_path):
    with files.lock(tmp_path / "new" / "a"), pytest.raises(Timeout), files.lock(tmp_path / "new" / "a", timeout=0):
        pass
    with files.lock(tmp_path / "new" / "a", timeout=0):
        pass
