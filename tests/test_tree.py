from collections import OrderedDict, defaultdict
from itertools import permutations
from typing import NamedTuple

import optree
import pytest
import torch
from helpers import normal, same_bits
from hypothesis import given
from hypothesis import strategies as st

import funcnn as fn
from funcnn import tree
from funcnn.operands import Flattening


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


SMALL = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


@pytest.mark.parametrize("dtype", SMALL)
def test_small_integers_do_not_wrap_around(dtype):
    # The ends of the range: their difference and their product are beyond it.
    info = torch.iinfo(dtype)
    low, high = torch.tensor([info.min, 1]).to(dtype), torch.tensor([info.max, 0]).to(dtype)
    assert tree.max_difference(low, high) == tree.max_difference(high, low) == float(info.max) - float(info.min)
    assert tree.dot(high, high) == float(info.max) ** 2 and tree.dot(low, high) == float(info.min) * float(info.max)


def test_booleans_are_0_and_1():
    x, y = torch.tensor([True, False, True]), torch.tensor([True, True, True])
    assert tree.max_difference(x, y) == 1 and tree.max_difference(x, x) == 0 and tree.dot(x, y) == 2


@pytest.mark.parametrize("function", [tree.dot, tree.max_difference])
def test_kinds_of_numbers_may_differ_but_shapes_may_not(function):
    assert function({"w": torch.tensor([2])}, {"w": torch.tensor([0.5])}) == (1.0 if function is tree.dot else 1.5)
    with pytest.raises(fn.InputError, match=r"other\['w'\]: got shape \(1,\) of float64, needs shape \(2,\)"):
        function({"w": torch.ones(2)}, {"w": torch.ones(1)})


WRAPPED = {
    "a tensor": lambda x: x,
    "a pair": lambda x: (x, 2 * x),
    "a pair with more in it": lambda x: ((x, x), 2 * x),
    "a dict": lambda x: {"w": x, "b": 2 * x},
    "a dict in a tuple": lambda x: ({"w": x}, ()),
    "an OrderedDict": lambda x: OrderedDict(w=x, b=2 * x),
    "an OrderedDict in a tuple": lambda x: (OrderedDict(w=x), ()),
    "a dict in a dict": lambda x: {"layer": {"w": x}},
    "an OrderedDict in a dict": lambda x: {"layer": OrderedDict(w=x)},
    "a defaultdict": lambda x: defaultdict(list, w=x, b=2 * x),
    "a NamedTuple": lambda x: Pair(x, 2 * x),
    "nothing": lambda x: (),
}


@pytest.mark.parametrize("after", WRAPPED)
@pytest.mark.parametrize("before", WRAPPED)
def test_no_tree_is_taken_for_the_one_before(before, after):
    x = torch.ones(2)
    for wrapped in (WRAPPED[before], WRAPPED[after]):
        total = tree.add(wrapped(x), wrapped(x))
        assert tree.same_structure(total, wrapped(x)) and same_bits(total, wrapped(2 * x))
        assert tree.same_structure(tree.moved(wrapped(x), 0.5, wrapped(x)), wrapped(x))


def test_ravel_puts_all_entries_in_one_vector_and_back():
    x = {"b": torch.arange(3.0), "a": (torch.arange(4.0).reshape(2, 2), (), torch.tensor(9.0, dtype=torch.float32))}
    vector, unravel = tree.ravel(x)
    assert vector.tolist() == [0, 1, 2, 3, 9, 0, 1, 2] and vector.dtype == torch.float64
    assert same_bits(unravel(vector), x)
    assert tree.ravel(())[0].shape == (0,) and tree.ravel(())[1](torch.zeros(0)) == ()


def test_a_prefix_is_spread_over_what_stands_beneath():
    full = {"b": torch.ones(2), "a": (torch.ones(3), {"x": torch.ones(())}), "c": ()}
    assert tree.spread("mask", True, full) == {"b": True, "a": (True, {"x": True}), "c": ()}
    assert tree.spread("mask", {"a": 1, "b": 2, "c": 3}, full) == {"b": 2, "a": (1, {"x": 1}), "c": ()}
    assert tree.spread("mask", 1.0, ()) == ()
    turned = tree.spread("mask", {"a": 1, "b": 2}, OrderedDict(b=torch.ones(2), a=(torch.ones(3),)))
    assert list(turned.items()) == [("b", 2), ("a", (1,))] and type(turned) is OrderedDict
    assert tree.spread("mask", OrderedDict(b=2, a=1), {"a": torch.ones(2), "b": torch.ones(3)}) == {"a": 1, "b": 2}
    for other in ({"a": 1}, {"a": (1,), "b": 2, "c": ()}, {"a": 1, "b": {"y": 2}, "c": ()}):
        with pytest.raises(fn.InputError, match="(?s)^mask: got the tree .*, needs the tree of params, .*or a prefix"):
            tree.spread("mask", other, full)


ONE = normal(2)
TREES = {
    "layers": ({"w": ONE, "b": ONE}, (), {"w": ONE, "b": ONE}),
    "other layers": ((), {"w": ONE, "b": ONE}, {"w": ONE, "b": ONE}),
    "a module": {"0": {"weight": ONE, "bias": ONE}, "1": {"weight": ONE, "bias": ONE}},
    "a part": ((), (), {"w": ONE, "b": ONE}),
    "a pair": (ONE, ONE),
    "a dict": {"w": ONE, "b": ONE},
    "a tensor": ONE,
}


@pytest.mark.parametrize(("one", "other"), list(permutations(TREES, 2)))
def test_trees_in_turn_are_told_apart_and_not_printed(one, other, monkeypatch):
    # Where optree finds another tree than it expects, its error would print all tensors of that one, at every step.
    flattened = Flattening("params")
    monkeypatch.setattr(torch.Tensor, "__repr__", lambda *_, **__: pytest.fail("printed"))
    for name in (one, other, one, other, one):
        leaves, spec = flattened(TREES[name])
        assert all(leaf is ONE for leaf in leaves)
        assert spec == optree.tree_structure(TREES[name], none_is_leaf=True)
