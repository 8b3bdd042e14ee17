"""A step of the networks that people train, a transformer and LeNet-5, and what a step hides of its samples.

The transformer has 4 layers, 4 heads, 128 features and 818,241 parameters, on 8 texts of 64 tokens and on one.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import torch

import funcnn as fn
from experiments.benchmark import network_peers, peers
from experiments.benchmark.measure import Race, Row
from experiments.benchmark.overheads import memory_row
from experiments.core import modules
from experiments.core.memory import peak
from funcnn import tree

LR, MAX_NORM = 0.01, 1.0
GPT = (65, 64, 128, 4, 4)  # vocabulary, length, features, heads, depth


class Scene(NamedTuple):
    """A network, what it is in torch and in JAX, a batch, and the ratios aimed at: eager, compiled, of JAX."""

    layer: fn.Layer
    made: Callable[[], torch.nn.Module]
    in_jax: Callable[[], Callable[[Any, Any], Any]]
    batch: Any
    targets: tuple[float, float, float]


def scenes(generator: torch.Generator, device: str) -> dict[str, Scene]:
    """The transformer on 8 and on 1 texts, LeNet-5 on 64 images."""
    transformer = (fn.transformer(*GPT), partial(modules.transformer, *GPT), partial(network_peers.jax_transformer, GPT[3]))

    def texts(count: int) -> Any:
        return tuple(torch.randint(GPT[0], (count, GPT[1]), generator=generator).to(device) for _ in range(2))

    digits = torch.randn(64, 1, 28, 28, generator=generator), torch.randint(10, (64,), generator=generator)
    images = tuple(leaf.to(device) for leaf in digits)
    return {
        "transformer, 8 x 64 tokens": Scene(*transformer, texts(8), (0.70, 0.60, 0.75)),
        "transformer, 1 x 64 tokens": Scene(*transformer, texts(1), (0.85, 0.60, 1.0)),
        "LeNet-5, 64 images": Scene(fn.lenet(), modules.lenet, lambda: network_peers.jax_lenet, images, (0.90, 0.80, 1.0)),
    }


def run(race: Race, generator: torch.Generator) -> Iterator[Row]:
    """Steps of every scene, the samples of two of them, and on a processor the memory of the transformer."""
    for name, scene in scenes(generator, race.device).items():
        params = scene.layer.init(generator, dtype=torch.float32, device=race.device)
        step_fn = fn.explicit(fn.supervised(scene.layer, fn.softmax_cross_entropy()))
        yield from steps_of(name, scene, params, step_fn, race)
        if len(scene.batch[0]) > 1:
            yield from samples_of(name, scene, params, step_fn, race)
    if race.device == "cpu":
        yield from memory(scenes(generator, race.device)["transformer, 8 x 64 tokens"], generator, race)


def steps_of(name: str, scene: Scene, params: Any, step_fn: Any, race: Race) -> Iterator[Row]:
    """Eager and compiled against classic PyTorch, torch.compile and JAX."""
    row = partial(race, "networks", rounds=9)
    eager = partial(next, fn.train(step_fn, fn.sgd(LR), params, repeat(scene.batch)))
    steps: Any = fn.train(step_fn, fn.compiled(fn.sgd(LR)), params, repeat(scene.batch))
    expected = tree.leaves(next(fn.train(step_fn, fn.sgd(LR), params, [scene.batch])).params)
    same = (tree.leaves(next(steps).params), expected, 1e-3)
    compiled = partial(next, steps)
    for peer, make in (("classic PyTorch", network_peers.classic), ("torch.compile", network_peers.torch_compile)):
        module = modules.copied(params, scene.made())
        theirs = make(module, scene.batch, LR)
        theirs()
        after = [leaf.clone() for leaf in modules.leaves_of(module)]
        aims = scene.targets[:2] if peer == "classic PyTorch" else (None, None)
        yield row(f"eager, {name}", peer, eager, theirs, same=(expected, after, 1e-3), target=aims[0])
        yield row(f"compiled, {name}", peer, compiled, theirs, same=same, target=aims[1])
    if peers.installed("jax") and race.device == "cpu":
        jitted = network_peers.jax_step(scene.in_jax(), params, scene.batch, LR)
        same = (expected, network_peers.after_jax(jitted), 1e-3)
        yield row(f"compiled, {name}", "JAX jit", compiled, jitted, same=same, target=scene.targets[2])


def samples_of(name: str, scene: Scene, params: Any, step_fn: Any, race: Race) -> Iterator[Row]:
    """The norms and the clipped mean of the samples' gradients against one gradient, and the norms against others'."""
    row = partial(race, "networks", rounds=7)
    norms = partial(fn.per_sample_norms(step_fn), params, scene.batch)
    clipped = partial(fn.per_sample_clip(step_fn, MAX_NORM), params, scene.batch)
    gradient = partial(step_fn, params, scene.batch)
    theirs = {"vmap(grad)": (network_peers.vmapped_norms(params, scene.made, scene.batch), 1 / 5)}
    if peers.installed("opacus"):
        for words, ghost in (("Opacus, hooks", False), ("Opacus, ghost clipping", True)):
            theirs[words] = (network_peers.opacus_norms(params, scene.made, scene.batch, ghost), 1 / 3)
    found = norms()
    mean = tree.map(
        lambda g: (g * (MAX_NORM / found).clamp(max=1).reshape(-1, *[1] * (g.ndim - 1))).mean(0),
        each(step_fn, params, scene),
    )
    pairs = tree.leaves(clipped()[1]), tree.leaves(mean)
    own = ([found], [theirs["vmap(grad)"][0]()], 1e-3)
    yield row(f"norms, {name}", "one gradient of ours", norms, gradient, same=own, target=2.0)
    yield row(f"clipped mean, {name}", "one gradient of ours", clipped, gradient, same=(*pairs, 1e-3), target=2.0)
    for peer, (other, target) in theirs.items():
        yield row(f"norms, {name}", peer, norms, other, same=([found], [other()], 1e-3), target=target)


def each(step_fn: Any, params: Any, scene: Scene) -> Any:
    """The gradients of all samples."""
    return fn.per_sample(step_fn)(params, scene.batch)[1]


def memory(scene: Scene, generator: torch.Generator, race: Race) -> Iterator[Row]:
    """The peak of a step against classic's, and what rematerialised blocks save of it and cost.

    Of a step by itself: the parameters that it begins with are there before it, as classic's are.
    """
    layers = scene.layer.forward.layers  # type: ignore[attr-defined]
    halves = [fn.serial(*pair) for pair in zip(layers[2:-2:2], layers[3:-2:2], strict=True)]
    again = fn.serial(*layers[:2], *map(fn.rematerialised, halves), *layers[-2:])
    plain = fn.serial(*layers[:2], *halves, *layers[-2:])
    params = again.init(generator, dtype=torch.float32)

    def step(layer: fn.Layer) -> fn.Step:
        step_fn = fn.explicit(fn.supervised(layer, fn.softmax_cross_entropy()))
        return next(fn.train(step_fn, fn.sgd(LR), params, [scene.batch]))

    ours, thrifty = partial(step, plain), partial(step, again)
    theirs = network_peers.classic(modules.copied(params, scene.made()), scene.batch, LR)
    held = peak(ours), peak(theirs), peak(thrifty)
    yield memory_row("a step, transformer", "classic PyTorch", held[0], held[1], race, 1.0)
    yield memory_row("a step, transformer rematerialised", "classic PyTorch", held[2], held[1], race, 0.5)
    same = (tree.leaves(thrifty().params), tree.leaves(ours().params), 1e-2)
    yield race("networks", "transformer rematerialised", "as it is", thrifty, ours, same=same, target=1.4, rounds=7)
