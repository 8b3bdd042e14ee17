import pytest
import torch
from helpers import assert_close, labels, normal, seeded

import funcnn as fn

ACTIVATIONS = {"sigmoid": (fn.sigmoid, torch.nn.Sigmoid), "tanh": (fn.tanh, torch.nn.Tanh), "relu": (fn.relu, torch.nn.ReLU)}
SIZES = [[4, 3], [4, 5, 3], [4, 5, 6, 5, 4, 3]]

every_depth = pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"depth {len(sizes) - 1}")
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def module(params, activation):
    """torch's modules with a copy of the weights of a tree of (dense, activation, dense, ...)."""
    if isinstance(params, dict):
        linear = torch.nn.Linear(*params["w"].shape)
        with torch.no_grad():
            linear.weight.copy_(params["w"].T)
            linear.bias.copy_(params["b"])
        return linear
    return torch.nn.Sequential(*(module(child, activation) for child in params)) if params else activation()


def gradients(network, params):
    """The .grad of such a module, as the tree of funcnn."""
    if isinstance(params, dict):
        return {"w": network.weight.grad.T, "b": network.bias.grad}
    return tuple(gradients(child, entry) for child, entry in zip(network, params, strict=True)) if params else ()


def compare(layer, loss, torch_loss, activation, inputs, targets):
    params = layer.init(seeded())
    network = module(params, activation)
    outputs = network(inputs)
    torch_loss(outputs, targets).backward()
    assert_close(layer(params, inputs), outputs.detach(), 1e-14)
    value, grads = fn.explicit(fn.supervised(layer, loss))(params, (inputs, targets))
    assert_close(value, torch_loss(outputs, targets).detach(), 1e-14)
    assert_close(grads, gradients(network, params), 1e-14)


@every_depth
@every_activation
def test_an_mlp_is_the_sequential_of_torch(sizes, activation):
    ours, theirs = ACTIVATIONS[activation]
    compare(fn.mlp(sizes, ours), fn.softmax_cross_entropy(), torch.nn.CrossEntropyLoss(), theirs, normal(7, 4), labels(7, 3))


def test_a_perceptron_is_a_linear_unit_and_a_sigmoid():
    loss, targets = torch.nn.BCELoss(), labels(9, 2)[:, None].double()
    compare(fn.perceptron(5), fn.binary_cross_entropy(), loss, torch.nn.Sigmoid, normal(9, 5), targets)


def test_an_autoencoder_is_two_mlps_one_the_mirror_of_the_other():
    x = normal(6, 5)
    compare(fn.autoencoder([5, 4, 2], fn.relu), fn.mean_squared_error(), torch.nn.MSELoss(), torch.nn.ReLU, x, x)
    encoder, decoder = fn.autoencoder([5, 4, 2]).init(seeded())
    assert [encoder[0]["w"].shape, encoder[2]["w"].shape] == [(5, 4), (4, 2)]
    assert [decoder[0]["w"].shape, decoder[2]["w"].shape] == [(2, 4), (4, 5)]


def test_the_code_of_an_autoencoder_is_the_output_of_its_encoder():
    layer, x = fn.autoencoder([5, 3, 2]), normal(6, 5)
    encoder, decoder = layer.init(seeded())
    code = fn.mlp([5, 3, 2])(encoder, x)
    assert code.shape == (6, 2)
    assert torch.equal(fn.mlp([2, 3, 5])(decoder, code), layer((encoder, decoder), x))


class Block(torch.nn.Module):
    """A block of a small GPT as one writes it with torch's modules."""

    def __init__(self, features, heads):
        super().__init__()
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(features) for _ in range(2))
        self.attention = torch.nn.MultiheadAttention(features, heads, batch_first=True)
        self.up, self.down = torch.nn.Linear(features, 4 * features), torch.nn.Linear(4 * features, features)

    def forward(self, x):
        y, later = self.norms[0](x), torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        x = x + self.attention(y, y, y, attn_mask=later, need_weights=False)[0]
        return x + self.down(torch.nn.functional.gelu(self.up(self.norms[1](x))))

    def pairs(self, attend, widen):
        """(torch's parameter, ours as torch keeps it) of the parameters of the two residuals."""
        (norm, attention), (other, up, _, down) = attend, widen
        for module, own in ((self.norms[0], norm), (self.norms[1], other)):
            yield from ((module.weight, own["w"]), (module.bias, own["b"]))
        yield from (
            (self.attention.in_proj_weight, attention["qkv"]["w"].T),
            (self.attention.in_proj_bias, attention["qkv"]["b"]),
        )
        for module, own in ((self.attention.out_proj, attention["out"]), (self.up, up), (self.down, down)):
            yield from ((module.weight, own["w"].T), (module.bias, own["b"]))


class Decoder(torch.nn.Module):
    def __init__(self, vocabulary, length, features, heads, depth):
        super().__init__()
        self.tokens, self.places = torch.nn.Embedding(vocabulary, features), torch.nn.Embedding(length, features)
        self.blocks = torch.nn.ModuleList(Block(features, heads) for _ in range(depth))
        self.norm, self.head = torch.nn.LayerNorm(features), torch.nn.Linear(features, vocabulary)

    def forward(self, x):
        y = self.tokens(x) + self.places.weight[: x.shape[1]]
        for block in self.blocks:
            y = block(y)
        return self.head(self.norm(y))

    def pairs(self, params):
        tokens, places, *blocks, norm, head = params
        yield from ((self.tokens.weight, tokens["w"]), (self.places.weight, places["w"]))
        for block, attend, widen in zip(self.blocks, blocks[::2], blocks[1::2], strict=True):
            yield from block.pairs(attend, widen)
        yield from ((self.norm.weight, norm["w"]), (self.norm.bias, norm["b"]))
        yield from ((self.head.weight, head["w"].T), (self.head.bias, head["b"]))


@pytest.mark.parametrize("depth", [1, 3])
def test_the_transformer_is_torchs_modules_and_its_gradient_autograds(depth):
    layer, network = fn.transformer(7, 6, 8, 2, depth), Decoder(7, 6, 8, 2, depth)
    params, batch = layer.init(seeded()), (labels(20, 7).reshape(4, 5), labels(20, 7, seed=1).reshape(4, 5))
    with torch.no_grad():
        for theirs, ours in network.pairs(params):
            theirs.copy_(ours)
    loss = torch.nn.functional.cross_entropy(network(batch[0]).flatten(0, 1), batch[1].flatten())
    loss.backward()
    value, grads = fn.explicit(fn.supervised(layer, fn.softmax_cross_entropy()))(params, batch)
    assert_close(value, loss.detach(), 1e-12)
    pairs = [*network.pairs(grads)]
    assert len(pairs) == len(fn.tree.leaves(grads))
    for theirs, ours in pairs:
        assert_close(ours, theirs.grad, 1e-12)


def test_a_transformer_starts_as_gpt_2_does():
    depth, params = 4, fn.transformer(65, 64, 128, 4, 4).init(seeded())
    assert sum(leaf.numel() for leaf in fn.tree.leaves(params)) == 818_241
    end = 0.02 / (2 * depth) ** 0.5
    for path, leaf in zip(fn.tree.paths(params), fn.tree.leaves(params), strict=True):
        if leaf.ndim == 2:
            deviation = end if "'out'" in path or leaf.shape[0] == 512 else 0.02
            assert abs(leaf.std() / deviation - 1) < 5 / (2 * leaf.numel()) ** 0.5
        else:
            assert torch.equal(leaf, torch.ones_like(leaf) if path.endswith("['w']") else torch.zeros_like(leaf))
