"""The other way to the numbers: torch's own operations on plain copies, differentiated by classic autograd."""

import math
from collections.abc import Callable
from numbers import Number
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Formula = Callable[..., Tensor]
WORDS = (str, bytes, Number)


def plain(x: Any) -> Any:
    """A copy of a tree of tensors that have numbers: contiguous, on no tape, of no subclass, on the CPU."""
    if isinstance(x, Tensor):
        if x.layout is not torch.strided or x.is_nested or x.is_quantized or x.numel() > 2**24:
            raise TypeError("a tensor without plain numbers")
        x = x.detach().as_subclass(Tensor)
        return torch.zeros(x.shape, dtype=x.dtype) if x.device.type == "meta" else x.resolve_neg().clone().contiguous()
    return mapped(plain, x)


def mapped(function: Callable[[Any], Any], x: Any) -> Any:
    """The same containers with what a function makes of their parts; what is no tree of tensors raises."""
    if isinstance(x, dict):
        return {key: function(part) for key, part in sorted(x.items(), key=lambda item: str(item[0]))}
    if isinstance(x, (tuple, list)):
        return type(x)(function(part) for part in x) if type(x) in (tuple, list) else type(x)(*map(function, x))
    raise TypeError(f"a {type(x).__name__} in a tree of tensors")


def plain_batch(x: Any) -> Any:
    """The same of a batch, in which there are words and numbers, too."""
    return x if isinstance(x, WORDS) else plain(x) if isinstance(x, Tensor) else mapped(plain_batch, x)


def is_column(x: Any) -> bool:
    """Whether a part of a batch has a word or a number for each sample."""
    return isinstance(x, (list, tuple)) and bool(x) and all(isinstance(part, WORDS) for part in x)


def counts(batch: Any) -> list[int]:
    """How many samples each part of a batch has, those of tensors first."""
    if isinstance(batch, Tensor) or is_column(batch):
        return [len(batch) if is_column(batch) or batch.ndim else 0]
    parts = batch.values() if isinstance(batch, dict) else () if isinstance(batch, WORDS) else batch
    return [count for part in parts for count in counts(part)]


def rows_of(batch: Any, chosen: list[int]) -> Any:
    """Some samples of a batch."""
    if isinstance(batch, Tensor):
        return batch[chosen]
    if is_column(batch):
        return type(batch)(batch[n] for n in chosen)
    return batch if isinstance(batch, WORDS) else mapped(lambda part: rows_of(part, chosen), batch)


def leaves(x: Any) -> list[Tensor]:
    """The tensors of a tree."""
    if isinstance(x, Tensor):
        return [x]
    return [leaf for part in (x.values() if isinstance(x, dict) else x) for leaf in leaves(part)]


def of_leaves(x: Any, values: list[Any]) -> Any:
    """The tree with the next of the values in place of each tensor."""
    return values.pop(0) if isinstance(x, Tensor) else mapped(lambda part: of_leaves(part, values), x)


def differentiable(x: Any) -> list[Tensor]:
    """The floating tensors of a tree, which are to have gradients from now on."""
    return [leaf.requires_grad_() for leaf in leaves(x) if leaf.is_floating_point()]


def gradients(y: Tensor, of: Any, dy: Tensor | None = None) -> Any:
    """The tree of gradients of y with respect to a tree: zeros where y does not depend on it, () for what is no float."""
    wanted = [leaf for leaf in leaves(of) if leaf.is_floating_point()]
    grad = torch.autograd.grad
    found = grad(y, wanted, dy, allow_unused=True, retain_graph=True) if wanted and y.requires_grad else [None] * len(wanted)
    pairs = dict(zip(map(id, wanted), found, strict=True))
    values = [
        () if id(leaf) not in pairs else torch.zeros_like(leaf) if pairs[id(leaf)] is None else pairs[id(leaf)]
        for leaf in leaves(of)
    ]
    return of_leaves(of, values)


def pulled(formula: Callable[[Any, Tensor], Tensor], params: Any, x: Tensor, dy: Tensor) -> tuple[Any, Any, Any]:
    """(y, dparams, dx) of a layer."""
    params, x, dy = plain(params), plain(x), plain(dy)
    same = {leaf.dtype for leaf in [*leaves(params), dy, x] if leaf.is_floating_point()}
    with torch.enable_grad():
        differentiable((params, x))
        y = formula(params, x)
    if dy.shape != y.shape or len(same) > 1 or not y.is_floating_point():
        raise TypeError("dy does not fit y")
    return y.detach(), gradients(y, params, dy), gradients(y, x, dy)


def affine(params: Any, x: Tensor) -> Tensor:
    """X W + b."""
    y = x @ params["w"]
    return y + params["b"] if "b" in params else y


def series(*formulas: Formula) -> Formula:
    """One after the other, each with its own parameters."""

    def formula(params: Any, x: Tensor) -> Tensor:
        for one, own in zip(formulas, params, strict=True):
            x = one(own, x)
        return x

    return formula


def torchs(function: Callable[[Tensor], Tensor]) -> Formula:
    """A function of torch that has no parameters."""

    def formula(params: Any, x: Tensor) -> Tensor:
        if params != ():
            raise TypeError("there are no parameters")
        return function(x)

    return formula


def layer_norm(params: Any, x: Tensor, eps: float = 1e-5) -> Tensor:
    """Over the last axis."""
    return F.layer_norm(x, x.shape[-1:], params["w"], params["b"], eps)


def rms_norm(params: Any, x: Tensor, eps: float = 1e-6) -> Tensor:
    """Over the last axis."""
    return F.rms_norm(x, x.shape[-1:], params["w"], eps)


def batch_norm(params: Any, x: Tensor, eps: float = 1e-5) -> Tensor:
    """Of each channel, which is the second axis."""
    return F.batch_norm(x, None, None, params["w"], params["b"], True, 0.0, eps)


def attention(params: Any, x: Tensor, heads: int, causal: bool) -> Tensor:
    """By torch's scaled dot product."""
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in affine(params["qkv"], x).chunk(3, -1))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=bool(causal))
    return affine(params["out"], y.transpose(1, 2).flatten(2))


def recurrent(kind: type[nn.RNNBase]) -> Callable[..., Tensor]:
    """By torch's module, which has a second bias."""

    def formula(params: Any, x: Tensor, features: int, hidden: int) -> Tensor:
        module = kind(int(features), int(hidden), batch_first=True, dtype=x.dtype)
        second = torch.zeros_like(params["b"])
        if "bn" in params:
            second = torch.cat([second[: -len(params["bn"])], params["bn"]])
        own = {
            "weight_ih_l0": params["wx"].T,
            "weight_hh_l0": params["wh"].T,
            "bias_ih_l0": params["b"],
            "bias_hh_l0": second,
        }
        if sorted(params) not in (["b", "wh", "wx"], ["b", "bn", "wh", "wx"]):
            raise TypeError("other parameters")
        y: Tensor = torch.func.functional_call(module, own, (x,))[0]
        return y

    return formula


def transformer(params: Any, x: Tensor, vocabulary: int, length: int, features: int, heads: int, depth: int) -> Tensor:
    """The decoder of a small GPT."""
    table, places, *blocks, (norm), last = params
    h = F.embedding(x, table["w"]) + places["w"][: x.shape[1]]
    for attend, (first, widen, _, narrow) in zip(blocks[::2], blocks[1::2], strict=True):
        h = h + attention(attend[1], layer_norm(attend[0], h), heads, True)
        h = h + affine(narrow, F.gelu(affine(widen, layer_norm(first, h))))
    return affine(last, layer_norm(norm, h))


def dropped(x: Tensor, seeds: Tensor, which: int, rate: float) -> Tensor:
    """The masks of dropout, by NumPy's integers: Murmur3's finalizer on 31 bits."""

    def mixed(z: Any) -> Any:
        for factor, shift in ((0x45D9F3B, 16), (0x45D9F3B, 15)):
            z = ((z ^ (z >> shift)) * factor) % 2**31
        return z ^ (z >> 16)

    each = []
    for seed in seeds.tolist():
        key = mixed(mixed(mixed(seed % 2**31) ^ ((seed >> 31) % 2**31)) ^ which)
        each.append(mixed(mixed(np.arange(math.prod(x.shape[1:]), dtype=np.int64)) ^ key) >= int(rate * 2**31))
    return x * torch.from_numpy(np.stack(each)).reshape(x.shape) / (1 - rate)
