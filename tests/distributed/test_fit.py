import shutil

import pytest
from distributed.runs import fitted, stop, until
from helpers import assert_close, same_bits
from together import together

import funcnn as fn

pytestmark = pytest.mark.usefixtures("as_users_run_it")


def run(function, size, folder, path=None):
    """What ranks return, beginning with a checkpoint in their folder."""
    folder.mkdir()
    if path is not None:
        shutil.copy(path, folder / "run")
    return together("distributed.runs", function, size, folder)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("alone") / "run")


def is_as(found, expected):
    assert_close((found.params, found.state.m, found.state.v), (expected.params, expected.state.m, expected.state.v), 1e-12)
    assert_close(found.history.losses, expected.history.losses, 1e-12)
    assert found.history.epoch_ends == expected.history.epoch_ends


def test_a_run_that_stopped_goes_on_with_another_number_of_ranks(tmp_path, expected):
    before = run("stopped", 2, tmp_path / "2")
    assert [len(trained.history.losses) for trained in before] == [7, 7]
    kept = tmp_path / "2" / "run"
    for size in (2, 3):
        found = run("gone_on", size, tmp_path / f"to {size}", kept)
        assert all(same_bits(trained, found[0]) for trained in found)
        is_as(found[0], expected)
        assert same_bits(fn.load(tmp_path / f"to {size}" / "run")["trained"], found[0])
    shutil.copy(kept, tmp_path / "run")
    with pytest.raises(fn.InputError, match="as in the run that"):  # without data_parallel
        fitted(tmp_path / "run", until(100, stop))


def test_a_rank_that_is_killed_is_named_by_the_others_and_the_checkpoint_loads(tmp_path, expected):
    found = run("one_dies", 3, tmp_path / "3")
    assert found[1] is None
    for error in (found[0], found[2]):
        assert error.ranks == [1] and str(error).startswith("rank 1 of 3 ended, so the others cannot go on")
    trained = fn.load(tmp_path / "3" / "run")["trained"]
    assert len(trained.history.losses) == 7
    is_as(run("gone_on", 2, tmp_path / "2", tmp_path / "3" / "run")[0], expected)


def test_calls_that_differ_from_rank_to_rank_are_refused_and_write_nothing(tmp_path):
    for found, names in run("different", 2, tmp_path / "2"):
        for name in ("data", "seeds"):
            assert found[name].startswith("fit: got a call that differs from rank to rank")
        assert not {"data", "seeds"} & set(names)
