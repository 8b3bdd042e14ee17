import pytest
import torch
import torch.distributed as dist
from distributed.draws import BATCH, CASES, NETWORKS, OBJECTIVE, PARAMS, trained
from helpers import assert_close, same_bits
from helpers import seeded as generator
from together import together

import funcnn as fn
from experiments.distributed.wire import HEADERS
from funcnn.distributed import seeded

pytestmark = pytest.mark.usefixtures("as_users_run_it")


@pytest.fixture(scope="module", params=[2, 3])
def ranks(request, tmp_path_factory):
    return together("distributed.draws", "every_case", request.param, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", CASES)
def test_ranks_whose_generators_have_one_state_make_the_estimates_of_one_process(name, ranks):
    expected = trained(name)
    assert all(same_bits(same[name], ranks[0][0][name]) for same, *_ in ranks)
    assert_close(ranks[0][0][name], expected, 1e-11)


@pytest.mark.parametrize("name", CASES)
def test_ranks_whose_generators_differ_have_the_same_bits_all_the_same(name, ranks):
    assert all(same_bits(own[name], ranks[0][1][name]) for _, own, _ in ranks)
    assert not same_bits(ranks[0][1][name], ranks[0][0][name])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_samples_of_a_stochastic_provider_may_be_divided_too(name, ranks):
    assert all(same_bits(shares[name], ranks[0][2][name]) for *_, shares in ranks)
    assert_close(ranks[0][2][name], trained(name), 1e-11)


@pytest.mark.parametrize("size", [2, 4])
def test_a_draw_costs_sixteen_bytes_whatever_the_number_of_parameters(size, tmp_path):
    for found in together("distributed.draws", "bytes_sent", size, tmp_path):
        for (_, draws), counted in found.items():
            of_each_rank = -(-draws // size)
            assert counted == (size - 1) * (16 * of_each_rank + 8 + 2 * HEADERS)


@pytest.fixture
def alone(tmp_path):
    """A group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_inside_a_transform_it_is_refused_by_name(alone):
    step_fn = seeded(fn.spsa(OBJECTIVE, generator()))
    stacked = fn.tree.map(lambda leaf: torch.stack([leaf, leaf]), PARAMS)
    for call in (
        lambda: torch.func.vmap(lambda params: step_fn(params, BATCH)[0])(stacked),
        lambda: fn.per_sample(step_fn)(PARAMS, BATCH),
        lambda: [*fn.train(step_fn, fn.compiled(fn.sgd(0.1)), PARAMS, [BATCH])],
    ):
        with pytest.raises(fn.InputError, match="inside a transform") as caught:
            call()
        assert caught.value.place == "seeded(step_fn)(params, batch)"


# place: a call
REFUSED = {
    "seeded(step_fn)": lambda: seeded(fn.explicit(OBJECTIVE)),
    "step_fn": lambda: seeded(3),
    "seeded(step_fn): group": lambda: seeded(fn.spsa(OBJECTIVE, generator()), group=3),
    "batch[1]": lambda: seeded(fn.spsa(OBJECTIVE, generator()))(PARAMS, (BATCH[0], BATCH[1][:2])),
}


@pytest.mark.parametrize("place", REFUSED)
def test_bad_arguments_are_refused_by_name(place, alone):
    with pytest.raises(fn.InputError) as caught:
        REFUSED[place]()
    assert caught.value.place == place


def test_one_rank_has_the_bits_of_none(alone):
    make = lambda: fn.forward_gradient(OBJECTIVE, generator(), samples=3)  # noqa: E731
    assert same_bits(seeded(make())(PARAMS, BATCH), make()(PARAMS, BATCH))
    assert repr(seeded(make())).startswith("seeded forward_gradient(supervised(")


def test_without_a_process_group_it_says_what_to_call():
    with pytest.raises(fn.InputError, match=r"torch\.distributed\.init_process_group\(\)"):
        seeded(fn.spsa(OBJECTIVE, generator()))
