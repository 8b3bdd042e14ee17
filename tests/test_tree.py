from typing import NamedTuple

import pytest
import torch
from helpers import normal, same_bits
from hypothesis import given
from hypothesis import strategies as st

import funcnn as fn
from funcnn import tree


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


def grown(seed):
    return {"b": normal(2, seed=seed), "a": (Pair(normal(2, 3, seed=seed + 1), normal(seed=seed + 2)), ())}


def flat(x):
    return torch.cat([leaf.flatten() for leaf in tree.leaves(x)])


seeds = st.integers(0, 10**6)


@given(seeds, st.floats(-10, 10))
def test_tree_arithmetic_is_vector_arithmetic(seed, a):
    x, y = grown(seed), grown(seed + 10)
    assert torch.equal(flat(tree.add(x, y)), flat(x) + flat(y))
    assert torch.allclose(flat(tree.add_scaled(x, a, y)), flat(x) + a * flat(y), rtol=1e-15, atol=1e-15)
    assert torch.equal(flat(tree.zeros_like(x)), torch.zeros_like(flat(x)))
    assert torch.allclose(tree.dot(x, y), flat(x) @ flat(y), rtol=1e-14, atol=1e-14)
    assert torch.equal(tree.max_difference(x, y), (flat(x) - flat(y)).abs().max())


@given(seeds)
def test_flattening_and_unflattening_is_the_identity(seed):
    x = grown(seed)
    leaves, unflatten = tree.flatten(x)
    again = unflatten(leaves)
    assert same_bits(again, x) and isinstance(again["a"][0], Pair)


def test_paths_are_code_that_finds_the_leaves():
    params = grown(0)
    found = [eval(path, {"params": params}) for path in tree.paths(params)]
    assert all(x is y for x, y in zip(found, tree.leaves(params), strict=True))


def test_dict_entries_pair_by_key_and_not_by_order():
    x, y = {"w": torch.tensor(1.0), "b": torch.tensor(2.0)}, {"b": torch.tensor(20.0), "w": torch.tensor(10.0)}
    assert same_bits(tree.add(x, y), {"w": torch.tensor(11.0), "b": torch.tensor(22.0)})


def test_none_is_a_leaf_and_never_skipped():
    assert tree.leaves({"w": None, "b": 1}) == [1, None]
    assert tree.paths((None,)) == ["params[0]"]


def test_clones_share_no_memory_and_keep_what_is_no_tensor():
    x = (torch.ones(2), 3, "name")
    copy = tree.clone(x)
    copy[0].zero_()
    assert torch.equal(x[0], torch.ones(2)) and copy[1:] == (3, "name")


@pytest.mark.parametrize("empty", [(), {}, ((), {})], ids=str)
def test_the_empty_tree_is_the_space_of_dimension_zero(empty):
    assert tree.add(empty, empty) == empty and tree.leaves(empty) == []
    assert tree.dot(empty, empty) == 0 and tree.max_difference(empty, empty) == 0


def test_trees_of_different_structure_do_not_add():
    with pytest.raises(ValueError):
        tree.add({"w": torch.ones(2)}, (torch.ones(2),))


def test_empty_leaves_have_no_difference():
    assert fn.tree.max_difference((torch.zeros(0), torch.ones(1)), (torch.zeros(0), torch.zeros(1))) == 1


def test_ravel_puts_all_entries_in_one_vector_and_back():
    x = {"b": torch.arange(3.0), "a": (torch.arange(4.0).reshape(2, 2), (), torch.tensor(9.0, dtype=torch.float32))}
    vector, unravel = tree.ravel(x)
    assert vector.tolist() == [0, 1, 2, 3, 9, 0, 1, 2] and vector.dtype == torch.float64
    assert same_bits(unravel(vector), x)
    assert tree.ravel(())[0].shape == (0,) and tree.ravel(())[1](torch.zeros(0)) == ()
