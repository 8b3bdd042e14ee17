import math
from functools import partial

import pytest
import torch
from helpers import assert_close, labels, normal, seeded

import funcnn as fn
from experiments.characters.heads import maps, weight_by_distance
from experiments.characters.writing import counting_losses, write
from experiments.core import modules
from experiments.core.beside import compared, cross_entropy
from experiments.core.gpt import Recipe
from experiments.core.text import Text

SIZES = (7, 6, 8, 2, 2)
NETWORK = fn.transformer(*SIZES)
PARAMS, TOKENS = NETWORK.init(seeded(), dtype=torch.float64), labels(20, 7).reshape(4, 5)


def test_the_maps_are_weights_of_places_up_to_each_and_give_what_the_attention_gives():
    found = maps(NETWORK, PARAMS, TOKENS, 2)
    assert found.shape == (4, 2, 2, 5, 5)
    assert_close(found.sum(-1), torch.ones(4, 2, 2, 5, dtype=torch.float64), 1e-14)
    assert torch.equal(found.triu(1), torch.zeros_like(found))
    x = NETWORK.forward.layers[1](PARAMS[1], NETWORK.forward.layers[0](PARAMS[0], TOKENS))
    norm, attention = PARAMS[2]
    y = fn.layer_norm(8)(norm, x)
    v = (y @ attention["qkv"]["w"] + attention["qkv"]["b"])[..., 16:].unflatten(-1, (2, 4))
    read = torch.einsum("nhts,nshd->nthd", found[:, 0], v).flatten(2)
    assert_close(read @ attention["out"]["w"] + attention["out"]["b"], fn.attention(8, 2, causal=True)(attention, y), 1e-14)


def test_the_weight_by_distance_is_that_of_the_last_place():
    found = maps(NETWORK, PARAMS, TOKENS, 2)
    assert_close(weight_by_distance(found)[1, 0, 2], found[:, 1, 0, 4, 2].mean(), 1e-15)


def test_what_is_written_is_drawn_from_what_is_predicted():
    certain = NETWORK._replace(forward=lambda params, x: (100.0 * torch.nn.functional.one_hot((x + 1) % 7, 7), ()))
    assert write(certain, PARAMS, torch.tensor([2]), 8, 6, seeded()).tolist() == [3, 4, 5, 6, 0, 1, 2, 3]


def test_counting_loses_what_the_counts_say():
    text = Text("ab", torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]))
    found = counting_losses(text)
    assert found["all characters alike"] == pytest.approx(math.log(2))
    assert found["by frequency"] == pytest.approx(-math.log(2 / 5))
    # after a: 1 + 1 times a, 1 + 1 times b; after b: once each
    assert found["by the character before"] == pytest.approx(math.log(2))


def test_it_takes_the_steps_of_torchs():
    recipe = Recipe(20, 1e-2, least=1e-3, warm_up=4, betas=(0.9, 0.99), bound=0.5)
    objective = fn.supervised(NETWORK, fn.softmax_cross_entropy())
    batches = [(labels(20, 7, seed=k).reshape(4, 5), labels(20, 7, seed=k + 1).reshape(4, 5)) for k in range(0, 16, 2)]
    classic = partial(recipe.classic_step, criterion=cross_entropy)
    method, module = recipe.transformation(PARAMS), modules.transformer(*SIZES)
    found = compared(objective, method, PARAMS, module, classic, batches, "cpu")
    *_, end = fn.train(fn.explicit(objective), method, PARAMS, batches)
    moved = fn.tree.max_difference(end.params, PARAMS)
    assert found.providers.keys() == {"func_grad", "autograd"} and len(found.differences) == len(batches)
    assert max(*found.differences, *found.providers.values()) < 1e-9 * moved


def test_a_large_gradient_counts_as_one_of_the_bound_and_a_matrix_decays():
    recipe = Recipe(20, 1e-2, least=1e-3, warm_up=1, betas=(0.9, 0.99), bound=0.5)
    params = {"w": normal(3, 3), "b": normal(3)}
    transformation, zero = recipe.transformation(params), fn.tree.zeros_like(params)
    grads = {"w": normal(3, 3, seed=1), "b": normal(3, seed=2)}
    updates, _ = transformation.update(zero, transformation.init(params), params=params)
    assert_close(updates, {"w": -5e-3 * 0.1 * params["w"], "b": zero["b"]}, 1e-12)
    length = fn.tree.dot(grads, grads).sqrt()
    _, (_, after) = transformation.update(grads, transformation.init(params), params=params)
    assert length > 2
    assert_close(after.state.m, fn.tree.map(lambda g: (1 - 0.9) * 0.5 * g / (length + 1e-6), grads), 1e-14)
