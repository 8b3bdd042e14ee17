import pytest
import torch
import torch.distributed as dist
from distributed.shards import CASES, FUNCTIONS, trained
from distributed.shares import SMALL, network
from helpers import TOLERANCES, assert_close, normal, same_bits
from together import together

import funcnn as fn
from funcnn.distributed import columns, sharded

# Parts of a vector round otherwise than the whole does, and differences by that divided by the step.
ROUNDING = {name: TOLERANCES[name] if "difference" in name else 1e-14 for name in TOLERANCES}
pytestmark = pytest.mark.usefixtures("as_users_run_it")


@pytest.fixture(scope="module", params=[2, 3])
def ranks(request, tmp_path_factory):
    return together("distributed.shards", "every_case", request.param, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", CASES)
def test_after_a_hundred_steps_ranks_have_the_parameters_of_one_process(name, ranks):
    params, losses = trained(name)
    tolerance = ROUNDING[CASES[name][1]]
    for (found, values), _ in ((every[name], jacobians) for every, jacobians in ranks):
        assert_close(found, params, tolerance)
        assert_close(values, losses, tolerance)
    assert all(same_bits(every[name], ranks[0][0][name]) for every, _ in ranks)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_columns_are_those_of_the_jacobian(name, ranks):
    function, x = FUNCTIONS[name]
    for _, jacobians in ranks:
        for found in (jacobians[name], jacobians[f"{name}, two at once"]):
            assert_close(found, torch.func.jacrev(function)(x), 1e-14)
    assert all(same_bits(jacobians, ranks[0][1]) for _, jacobians in ranks)


@pytest.fixture
def alone(tmp_path):
    """A group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


OBJECTIVE, PARAMS, BATCH = network(SMALL, 4)
STACKED = fn.tree.map(lambda leaf: torch.stack([leaf, leaf]), PARAMS)


def test_inside_a_transform_they_are_refused_by_name(alone):
    step_fn, jacobian = sharded(fn.finite_difference(OBJECTIVE)), columns(torch.sin)
    calls = {
        "sharded(step_fn)(params, batch)": (
            lambda: torch.func.vmap(lambda params: step_fn(params, BATCH)[0])(STACKED),
            lambda: fn.per_sample(step_fn)(PARAMS, BATCH),
            lambda: [*fn.train(step_fn, fn.compiled(fn.sgd(0.1)), PARAMS, [BATCH])],
        ),
        "columns(function)(x)": (
            lambda: torch.func.vmap(jacobian)(normal(2, 3)),
            lambda: torch.func.grad(lambda x: jacobian(x).sum())(normal(3)),
            lambda: torch.func.jvp(jacobian, (normal(3),), (normal(3),)),
        ),
    }
    for place, of_place in calls.items():
        for call in of_place:
            with pytest.raises(fn.InputError, match="inside a transform") as caught:
                call()
            assert caught.value.place == place


# place: a call
REFUSED = {
    "sharded(step_fn)": lambda: sharded(fn.explicit(OBJECTIVE)),
    "step_fn": lambda: sharded(3),
    "sharded(step_fn): group": lambda: sharded(fn.complex_step(OBJECTIVE), group=3),
    "batch[1]": lambda: sharded(fn.complex_step(OBJECTIVE))(PARAMS, (BATCH[0], BATCH[1][:2])),
    "columns(function)": lambda: columns(fn.explicit(OBJECTIVE)),
    "chunk_size": lambda: columns(torch.sin, chunk_size=0),
    "x": lambda: columns(torch.sin)(torch.ones(2, dtype=torch.int64)),
}


@pytest.mark.parametrize("place", REFUSED)
def test_bad_arguments_are_refused_by_name(place, alone):
    with pytest.raises(fn.InputError) as caught:
        REFUSED[place]()
    assert caught.value.place == place


def test_without_a_process_group_they_say_what_to_call():
    for call in (lambda: sharded(fn.finite_difference(OBJECTIVE)), lambda: columns(torch.sin)):
        with pytest.raises(fn.InputError, match=r"torch\.distributed\.init_process_group\(\)"):
            call()


def test_one_rank_has_the_bits_of_none(alone):
    for make in (fn.finite_difference, fn.complex_step):
        assert same_bits(sharded(make(OBJECTIVE))(PARAMS, BATCH), make(OBJECTIVE)(PARAMS, BATCH))
    assert "sharded finite_difference(supervised(" in repr(sharded(fn.finite_difference(OBJECTIVE)))
