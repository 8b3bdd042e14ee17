import pytest
import torch
from helpers import assert_close, normal, says, seeded

import funcnn as fn
from funcnn.layers.embedding import Chosen

TOKENS = torch.tensor([[0, 3, 0, 6], [1, 1, 1, 1], [2, 5, 4, 0]])
TABLE, PLACES = fn.embedding(7, 3), fn.positions(4, 3)


@pytest.mark.parametrize(
    "tokens", [TOKENS, TOKENS[:, 0], TOKENS[:, :, None], TOKENS.int()], ids=["text", "one", "three axes", "int32"]
)
def test_it_is_torchs_embedding_and_its_gradient_autograds(tokens):
    params = TABLE.init(seeded(), dtype=torch.float64)
    w = params["w"].clone().requires_grad_()
    expected = torch.nn.functional.embedding(tokens, w)
    dy = normal(*expected.shape)
    expected.backward(dy)
    y, residuals = TABLE.forward(params, tokens)
    assert_close(y, expected.detach(), 1e-15)
    assert_close(TABLE.backward(residuals, dy), ({"w": w.grad}, ()), 1e-13)


def test_a_token_that_is_repeated_accumulates():
    params = TABLE.init(seeded(), dtype=torch.float64)
    dy = normal(3, 4, 3)
    grad = TABLE.backward(TABLE.forward(params, TOKENS)[1], dy)[0]["w"]
    assert_close(grad[0], dy[0, 0] + dy[0, 2] + dy[2, 3], 1e-14)
    assert_close(grad[1], dy[1].sum(0), 1e-14)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_factors_are_the_matrices_that_they_stand_for(axes):
    tokens, dy = TOKENS[:, 0] if axes == 1 else TOKENS.reshape(3, *[2] * (axes - 1), -1)[..., 0], None
    tokens = TOKENS if axes == 2 else tokens
    dy, weights = normal(*tokens.shape, 5), normal(3, seed=2)
    each = torch.stack(
        [
            torch.zeros(7, 5, dtype=torch.float64).index_add(0, t.reshape(-1), g.reshape(-1, 5))
            for t, g in zip(tokens, dy, strict=True)
        ]
    )
    summand = Chosen(tokens, dy, 7)
    assert summand.shape == (7, 5)
    assert_close(summand.each(), each, 1e-13)
    assert_close(summand.total(), each.sum(0), 1e-13)
    assert_close(summand.norms(torch.float64), each.reshape(3, -1).norm(dim=1), 1e-13)
    assert_close(summand.weighted(weights), torch.einsum("n,nvd->vd", weights, each), 1e-13)


def test_positions_beyond_the_text_have_gradient_0():
    params, x, dy = PLACES.init(seeded(), dtype=torch.float64), normal(5, 2, 3), normal(5, 2, 3, seed=1)
    (grads, dx) = PLACES.backward(PLACES.forward(params, x)[1], dy)
    assert_close(grads["w"], torch.cat([dy.sum(0), torch.zeros(2, 3)]), 1e-14)
    assert torch.equal(dx, dy)


@pytest.mark.usefixtures("as_users_run_it")
def test_what_is_no_token_is_refused():
    params, of_places = TABLE.init(seeded()), PLACES.init(seeded())
    for call, message in (
        (lambda: fn.embedding(0, 3), ("num_embeddings", "0", "positive integer")),
        (lambda: fn.positions(3, True), ("features", "True", "positive integer")),
        (lambda: TABLE(params, TOKENS + 1), ("inputs of embedding(7, 3)", "the token 7", "from 0 to 6")),
        (lambda: TABLE(params, TOKENS - 1), ("inputs of embedding(7, 3)", "the token -1", "from 0 to 6")),
        (lambda: TABLE(params, TOKENS.float()), ("inputs of embedding(7, 3)", "float32", "int64")),
        (lambda: TABLE(params, TOKENS.bool()), ("inputs of embedding(7, 3)", "bool", "int64")),
        (lambda: TABLE(params, torch.tensor(3)), ("inputs of embedding(7, 3)", "()", "(N, ...)")),
        (lambda: TABLE({"w": params["w"].T}, TOKENS), ("params['w']", "(3, 7)", "(7, 3)")),
        (lambda: PLACES(of_places, torch.randn(2, 5, 3)), ("inputs of positions(4, 3)", "(2, 5, 3)", "T from 1 to 4")),
        (lambda: PLACES(of_places, torch.randn(2, 0, 3)), ("inputs of positions(4, 3)", "(2, 0, 3)", "T from 1 to 4")),
        (lambda: PLACES(of_places, torch.randn(2, 3)), ("inputs of positions(4, 3)", "(2, 3)", "(N, T, 3)")),
    ):
        with pytest.raises(fn.InputError) as caught:
            call()
        assert says(caught.value, *message), caught.value
