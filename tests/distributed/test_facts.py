import pytest
import torch
from distributed.facts import OF_SAMPLES, OPTIMIZERS, REFUSING, REVERSE, of_samples, stepped, trained
from helpers import assert_close
from together import together

import funcnn as fn
from experiments.distributed import wire
from experiments.distributed.wire import HEADERS


@pytest.mark.parametrize("size", [2, 4])
def test_what_is_sent_is_what_the_formulas_say_and_headers(size, tmp_path):
    for schemes in together("distributed.facts", "bytes_sent", size, tmp_path):
        for name, scheme in schemes.items():
            rest = scheme["counted"] - scheme["formula"] - HEADERS * scheme["pieces"]
            assert abs(rest) <= 8 * scheme["pieces"], name  # one may be longer than another by a number


@pytest.fixture(scope="module")
def torchs(tmp_path_factory):
    """What torch 2.13's all_reduce gives inside of transforms, on two ranks."""
    return together("distributed.facts", "transforms", 2, tmp_path_factory.mktemp("ranks"))


SUM = 2 * torch.arange(6.0).reshape(3, 2) + 1  # of x and x + 1
WEIGHTS = torch.tensor([1.0, 10.0])  # and twice these on rank 1


def test_vmap_over_all_reduce_gives_wrong_numbers_in_silence(torchs):
    assert all(torch.equal(rank["plain"], SUM) for rank in torchs)
    assert all(isinstance(found, torch.Tensor) for rank in torchs for found in rank["vmap"])
    assert any(not torch.equal(found, SUM) for rank in torchs for found in rank["vmap"])


def test_jvp_through_all_reduce_gives_tangent_0_in_silence(torchs):
    for number, rank in enumerate(torchs):
        value, tangent = rank["jvp"]
        assert value == (number + 1) * (WEIGHTS * SUM[0]).sum() and tangent == 0


def test_grad_through_all_reduce_raises(torchs):
    assert all("autograd.Function with functorch transforms" in rank["grad"] for rank in torchs)


def test_a_tape_through_all_reduce_gives_the_gradient_of_the_sum_over_the_ranks(torchs):
    assert all(torch.equal(rank["tape"], WEIGHTS + 2 * WEIGHTS) for rank in torchs)


@pytest.mark.parametrize("size", [2, 3])
def test_the_same_step_functions_train_the_dtensors_of_fsdp(size, tmp_path):
    for found in together("distributed.facts", "with_dtensors", size, tmp_path):
        for name in REVERSE:
            assert_close(found[name], trained(name), 1e-14)
        for name in OPTIMIZERS:
            assert_close(found[name], stepped(name), 1e-14)
        for name in OF_SAMPLES:
            assert_close(found[name], of_samples(name), 1e-14)
        assert all(found[f"{name} is refused"] for name in REFUSING)


def test_the_page_on_larger_machines_says_what_the_formulas_give():
    page, d, ranks = fn.distributed.__doc__, 10**9, 1000
    whole, shares = wire.all_reduce(d, ranks, 4), wire.all_gather(d // ranks, ranks, 4)
    assert f"data_parallel     {whole / 1e9:.1f} GB     {whole / 25e9:.2f} s at 25 GB/s" in page
    assert f"a step of {round(whole / 25e9 * 1e14 / (6 * d), -2):,.0f} tokens" in page
    assert f"The ring has {2 * (ranks - 1):,} turns" in page
    assert f"sharded           {shares / 1e9:.1f} GB     and {2 * d / ranks / 1e6:.0f} million evaluations" in page
    assert f"{2 * d / ranks / 50 / 3600:.0f} hours at 50 a second" in page
    assert f"seeded            {wire.all_gather(3, ranks, 8) / 1e3:.0f} kB      for 1,000 draws" in page
