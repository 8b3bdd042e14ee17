import pytest
import torch
import torch.distributed as dist
from distributed.shares import CASES, DTYPES, SMALL, at_the_start, network, trained
from helpers import TOLERANCES, assert_close, normal, same_bits
from together import together

import funcnn as fn
from funcnn.distributed import data_parallel

# Products of other shapes round differently, and so do differences of their values, by that divided by the step.
DIFFERENCES = {name: TOLERANCES[name] for name in CASES if "difference" in name}
pytestmark = pytest.mark.usefixtures("as_users_run_it")


def ranks_of(function, *sizes):
    @pytest.fixture(scope="module", params=sizes)
    def ranks(request, tmp_path_factory):
        return together("distributed.shares", function, request.param, tmp_path_factory.mktemp("ranks"))

    return ranks


ranks, others = ranks_of("every_case", 2), ranks_of("other_cases", 2, 3)


@pytest.mark.parametrize("name", CASES)
def test_after_a_hundred_steps_ranks_have_the_parameters_of_one_process(name, ranks):
    params, losses = trained(name)
    for found, values in (rank[name] for rank in ranks):
        assert_close(found, params, DIFFERENCES.get(name, 1e-12))
        assert_close(values, losses, DIFFERENCES.get(name, 1e-12))
    assert all(same_bits(rank[name], ranks[0][name]) for rank in ranks)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_one_process(name, others):
    value, (same, grads) = at_the_start(name)
    for starts, *_ in others:
        assert_close(starts[name][0], value, 1e-14)
        assert_close(starts[name][1], (same, grads), DIFFERENCES.get(name, 1e-14))
    assert all(same_bits(starts[name], others[0][0][name]) for starts, *_ in others)


@pytest.mark.parametrize("name", ["explicit", "a plain function"])
def test_shares_of_any_size_count_by_their_samples(name, others):
    expected = at_the_start(name)[1]
    for _, uneven, *_ in others:
        assert_close(uneven[name], expected, 1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_have_the_dtype_of_their_parameters_and_sums_are_in_float32_at_least(dtype, others):
    objective, params, batch = network(SMALL, 11)
    value, grads = fn.explicit(objective)(params, batch)
    for _, _, dtypes, _ in others:
        found, slopes = dtypes[str(dtype)]
        assert found.dtype == torch.promote_types(dtype, torch.float32)
        assert {leaf.dtype for leaf in fn.tree.leaves(slopes)} == {dtype}
        tolerance = 20 * torch.finfo(dtype).eps
        assert_close(fn.tree.map(torch.Tensor.double, (found, slopes)), (value, grads), tolerance)


def test_a_batch_of_which_no_rank_has_a_sample_is_refused(others):
    assert all(empty == "" for *_, empty in others)


@pytest.fixture
def alone(tmp_path):
    """A group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


OBJECTIVE, PARAMS, BATCH = network(SMALL, 4)
STACKED = fn.tree.map(lambda leaf: torch.stack([leaf, leaf]), PARAMS)
ONES = fn.tree.map(torch.ones_like, PARAMS)

# name: what is done with a step function
INSIDE = {
    "vmap": lambda step_fn: torch.func.vmap(lambda params: step_fn(params, BATCH))(STACKED),
    "vmap of the value": lambda step_fn: torch.func.vmap(lambda params: step_fn.value(params, BATCH))(STACKED),
    "grad": lambda step_fn: torch.func.grad(lambda params: step_fn.value(params, BATCH))(PARAMS),
    "jvp": lambda step_fn: torch.func.jvp(lambda params: step_fn.value(params, BATCH), (PARAMS,), (ONES,)),
    "per_sample": lambda step_fn: fn.per_sample(step_fn)(PARAMS, BATCH),
    "a tape": lambda step_fn: step_fn(fn.tree.map(lambda leaf: leaf.clone().requires_grad_(), PARAMS), BATCH),
    "autograd": lambda step_fn: fn.autograd(fn.Objective(step_fn.value))(PARAMS, BATCH),
    "a compiled step": lambda step_fn: [*fn.train(step_fn, fn.compiled(fn.sgd(0.1)), PARAMS, [BATCH])],
}


@pytest.mark.parametrize("name", INSIDE)
def test_inside_a_transform_it_is_refused_by_name(name, alone):
    with pytest.raises(fn.InputError, match=r"data_parallel\(.*inside a transform") as caught:
        INSIDE[name](data_parallel(fn.explicit(OBJECTIVE)))
    assert caught.value.place.startswith("data_parallel(")


def test_transforms_stand_inside_it(alone):
    for make in (fn.func_grad, fn.autograd):
        assert same_bits(data_parallel(make(OBJECTIVE))(PARAMS, BATCH), make(OBJECTIVE)(PARAMS, BATCH))


def test_it_prints_what_it_is_the_mean_of(alone):
    assert repr(data_parallel(fn.explicit(OBJECTIVE))).startswith("data_parallel(explicit(supervised(")


def test_its_arguments_are_left_as_they_are(alone):
    params, batch = fn.tree.clone((PARAMS, BATCH))
    data_parallel(fn.explicit(OBJECTIVE), share=fn.distributed.rows)(params, batch)
    assert same_bits((params, batch), (PARAMS, BATCH))


# place: a call
REFUSED = {
    "step_fn": lambda: data_parallel(3),
    "data_parallel(share)": lambda: data_parallel(fn.explicit(OBJECTIVE), share=2),
    "data_parallel(step_fn): group": lambda: data_parallel(fn.explicit(OBJECTIVE), group=3),
    "batch": lambda: data_parallel(fn.explicit(OBJECTIVE))(PARAMS, (BATCH[0][:0], BATCH[1][:0])),
    "batch[1]": lambda: data_parallel(fn.explicit(OBJECTIVE))(PARAMS, (BATCH[0], BATCH[1][:2])),
    "params[0]['w']": lambda: data_parallel(fn.explicit(OBJECTIVE))(({"w": 1, "b": normal(3)},), BATCH),
}


@pytest.mark.parametrize("place", REFUSED)
def test_bad_arguments_are_refused_by_name(place, alone):
    with pytest.raises(fn.InputError) as caught:
        REFUSED[place]()
    assert caught.value.place == place


def test_without_a_process_group_it_says_what_to_call():
    for call in (lambda: data_parallel(fn.explicit(OBJECTIVE)), lambda: fn.distributed.rows(BATCH)):
        with pytest.raises(fn.InputError, match=r"torch\.distributed\.init_process_group\(\)"):
            call()
