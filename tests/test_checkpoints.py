"""Checkpoints: which are kept, how damage is noticed, and how many runs save at once in one process."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from research.errors import UserError
from research.runs import checkpoints
from research.runs.checkpoints import Checkpoints


@struct.dataclass
class State:
    step: jnp.ndarray
    values: jnp.ndarray


def state(step, value=0.0):
    return State(jnp.asarray(step, jnp.int32), jnp.full(1000, value, jnp.float32))


def steps_in(folder):
    return sorted(int(path.name) for path in folder.iterdir())


def test_the_best_and_the_last_are_kept(tmp_path):
    with Checkpoints(tmp_path / "c", state(0)) as checkpoints:
        assert checkpoints.last_step() is None
        assert checkpoints.best_step() is None
        for step, selection in ((1, 0.5), (2, 0.8), (3, 0.8), (4, 0.6)):  # 2 and 3 are equal: the earlier one is kept
            checkpoints.save(state(step), selection=selection)
        assert (checkpoints.best_step(), checkpoints.last_step()) == (2, 4)
    assert steps_in(tmp_path / "c") == [2, 4]
    with Checkpoints(tmp_path / "c", read_only=True) as checkpoints:
        assert (checkpoints.best_step(), checkpoints.last_step()) == (2, 4)


def test_earlier_checkpoints_are_deleted_after_the_next_is_sealed(tmp_path, monkeypatch):
    """Otherwise a kill in between could leave one half-deleted checkpoint and one without a seal."""
    seal, steps_when_sealed = checkpoints.seal, []

    def record_and_seal(folder):
        steps_when_sealed.append(steps_in(tmp_path / "c"))
        seal(folder)

    monkeypatch.setattr(checkpoints, "seal", record_and_seal)
    with Checkpoints(tmp_path / "c") as saved:
        for step in (1, 2, 3):
            saved.save(state(step), selection=float(step))
    assert steps_when_sealed == [[1], [1, 2], [2, 3]]
    assert steps_in(tmp_path / "c") == [3]


def test_a_restored_state_equals_the_saved_one(tmp_path):
    with Checkpoints(tmp_path / "c", state(0)) as checkpoints:
        checkpoints.save(state(7, 1 / 3), selection=0.0)
        restored = checkpoints.restore(7)
    assert int(restored.step) == 7
    np.testing.assert_array_equal(restored.values, np.full(1000, 1 / 3, np.float32))
    with Checkpoints(tmp_path / "c", state(0)) as checkpoints, pytest.raises(UserError, match="cannot be restored"):
        checkpoints.restore(8)


def test_many_runs_save_at_once(tmp_path):
    """Orbax's saves share process-wide state; without the lock they would fail or hang."""

    def run(number):
        with Checkpoints(tmp_path / f"{number}", state(0)) as checkpoints:
            for step in range(1, 6):
                checkpoints.save(state(step, number + step / 10), selection=-float(step))
            best, last = checkpoints.best_step(), checkpoints.last_step()
            return best, last, [float(checkpoints.restore(s).values[0]) for s in (best, last)]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, range(8)))
    for number, (best, last, values) in enumerate(results):
        assert (best, last) == (1, 5)
        assert values == [np.float32(number + 0.1), np.float32(number + 0.5)]


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip_highest_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 128  # makes text invalid UTF-8
    path.write_bytes(content)


DAMAGES = {
    "a bit flipped": flip,
    "the highest bit flipped": flip_highest_bit,
    "truncated": truncate,
    "missing": lambda path: path.unlink(),
}


def save_two_steps(folder):
    """Save the steps 1 (the best) and 2; return the non-empty files of each."""
    with Checkpoints(folder, state(0)) as checkpoints:
        checkpoints.save(state(1, 0.25), selection=0.9)
        checkpoints.save(state(2, 0.5), selection=0.1)
    return [sorted(p for p in (folder / str(step)).rglob("*") if p.is_file() and p.stat().st_size) for step in (1, 2)]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_with_any_damaged_file_is_ignored_with_a_warning(tmp_path, caplog, damage):
    files = [path.relative_to(tmp_path / "0") for path in save_two_steps(tmp_path / "0")[1]]
    assert len(files) > 4
    for number, file in enumerate(files, start=1):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "0", folder)
        DAMAGES[damage](folder / file)
        caplog.clear()
        with Checkpoints(folder, state(0), read_only=True) as checkpoints:
            assert (checkpoints.last_step(), checkpoints.best_step()) == (1, 1)
            np.testing.assert_array_equal(checkpoints.restore(1).values, np.full(1000, 0.25, np.float32))
        assert f"{folder / '2'}: this checkpoint is damaged" in caplog.text
        with Checkpoints(folder, state(0)) as checkpoints:
            checkpoints.save(state(2, 0.75), selection=0.1)
            assert checkpoints.last_step() == 2
            assert float(checkpoints.restore(2).values[0]) == 0.75


@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_is_changed_if_no_checkpoint_is_intact(tmp_path, damage):
    for files in save_two_steps(tmp_path / "c"):
        DAMAGES[damage](files[-1])
    before = sorted(tmp_path.rglob("*"))
    for read_only in (True, False):
        with pytest.raises(UserError, match="no checkpoint is intact"):
            Checkpoints(tmp_path / "c", read_only=read_only)
    assert sorted(tmp_path.rglob("*")) == before


def test_checkpoints_of_an_earlier_version_are_read(tmp_path):
    save_two_steps(tmp_path / "c")
    for seal in tmp_path.rglob("files.sha256"):
        seal.unlink()
    with Checkpoints(tmp_path / "c", read_only=True) as checkpoints:
        assert (checkpoints.last_step(), checkpoints.best_step()) == (2, 1)
    for damage in (lambda path: path.write_text("{"), lambda path: path.write_text("3"), DAMAGES["missing"]):
        damage(tmp_path / "c" / "2" / "metrics" / "metrics")
        with Checkpoints(tmp_path / "c", read_only=True) as checkpoints:
            assert (checkpoints.last_step(), checkpoints.best_step()) == (1, 1)


def test_a_checkpoint_whose_writer_was_killed_before_sealing_is_sealed_later(tmp_path):
    """Otherwise it would count as damaged as soon as the next checkpoint is sealed."""
    with Checkpoints(tmp_path / "c", state(0)) as checkpoints:
        checkpoints.save(state(1, 0.25), selection=0.9)
    (tmp_path / "c" / "1" / "files.sha256").unlink()
    with Checkpoints(tmp_path / "c", state(0)) as checkpoints:
        checkpoints.save(state(2, 0.5), selection=0.1)
    with Checkpoints(tmp_path / "c", read_only=True) as checkpoints:
        assert (checkpoints.best_step(), checkpoints.last_step()) == (1, 2)
