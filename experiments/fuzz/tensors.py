"""Spoilers of tensors: strange layouts of the same numbers, and tensors that are hostile."""

from collections.abc import Callable
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from experiments.fuzz.case import Sort, Spoiler

STRANGE, NUMBERS = Sort.STRANGE, Sort.NUMBERS


class Labelled(Tensor):
    """A subclass that adds nothing."""


def _with_strides(x: Tensor, random: Random) -> Tensor:
    """The same numbers, the axes in another order in memory, or with gaps."""
    order = random.sample(range(x.ndim), x.ndim)
    back = sorted(range(x.ndim), key=order.__getitem__)
    wide = torch.stack([x.permute(order)] * 2, -1).contiguous()
    return wide[..., random.randrange(2)].permute(back)


def _offset(x: Tensor, random: Random) -> Tensor:
    return torch.cat([x.new_zeros(3), x.flatten(), x.new_zeros(2)])[3 : 3 + x.numel()].view(x.shape)


def _negated_bit(x: Tensor, random: Random) -> Tensor:
    return torch.complex(torch.zeros_like(x), -x).conj().imag


def _inference(x: Tensor, random: Random) -> Tensor:
    with torch.inference_mode():
        return x.clone()


def _on_tape(x: Tensor, random: Random) -> Tensor:
    with torch.enable_grad():
        return x.clone().requires_grad_() * 1


def _entry(*values: float) -> Callable[[Tensor, Random], Tensor]:
    def make(x: Tensor, random: Random) -> Tensor:
        changed = x.clone().contiguous()
        changed.view(-1)[random.randrange(x.numel())] = random.choice(values)
        return changed

    return make


def _resized(x: Tensor, random: Random) -> Tensor:
    shape = list(x.shape)
    shape[random.randrange(x.ndim)] += random.choice([1, 2, -1])
    return x.new_ones(shape)


def _one(x: Tensor, random: Random) -> Tensor:
    return x.narrow(random.randrange(x.ndim), 0, 1)


def _to(*dtypes: torch.dtype) -> Callable[[Tensor, Random], Tensor]:
    def make(x: Tensor, random: Random) -> Tensor:
        return x.to(random.choice([dtype for dtype in dtypes if dtype is not x.dtype]))

    return make


def _overlapping(x: Tensor, random: Random) -> Tensor:
    return torch.arange(float(sum(x.shape)), dtype=x.dtype).as_strided(x.shape, [1] * x.ndim)


def _sparse(x: Tensor, random: Random) -> Tensor:
    return x.to_sparse() if x.ndim != 2 or random.random() < 0.5 else x.to_sparse_csr()


def _nested(x: Tensor, random: Random) -> Tensor:
    layout: Any = random.choice([torch.strided, torch.jagged])
    return torch.nested.nested_tensor(list(x), layout=layout)


def _huge(x: Tensor, random: Random) -> Tensor:
    """Many entries, in the memory of one."""
    return x.new_ones(1).expand(2 ** random.choice([20, 31, 40]), *x.shape[1:])


TENSORS = {
    "with other strides": Spoiler(_with_strides, STRANGE),
    "at an offset": Spoiler(_offset, STRANGE),
    "with a bit for its sign": Spoiler(_negated_bit, STRANGE),
    "of a subclass": Spoiler(lambda x, random: x.as_subclass(Labelled), STRANGE),
    "a parameter": Spoiler(lambda x, random: nn.Parameter(x), STRANGE),
    "that requires a gradient": Spoiler(lambda x, random: x.clone().requires_grad_(), STRANGE),
    "on a tape": Spoiler(_on_tape, STRANGE),
    "of inference mode": Spoiler(_inference, STRANGE),
    "expanded": Spoiler(lambda x, random: x[:1].expand_as(x), NUMBERS),
    "overlapping itself": Spoiler(_overlapping, NUMBERS),
    "with NaN": Spoiler(_entry(float("nan")), NUMBERS),
    "with infinity": Spoiler(_entry(float("inf"), float("-inf")), NUMBERS),
    "with a huge entry": Spoiler(_entry(1e300, -1e300, 1e30, -1e30), NUMBERS),
    "with a tiny entry": Spoiler(_entry(1e-310, -1e-310, -0.0), NUMBERS),
    "with another entry": Spoiler(_entry(-1, 0, 1, 7), NUMBERS),
    "scaled up": Spoiler(lambda x, random: x * random.choice([1e3, 1e10, 1e30]), NUMBERS),
    "without samples": Spoiler(lambda x, random: x[:0]),
    "without entries": Spoiler(lambda x, random: x.new_ones(*x.shape, 0)),
    "of another size": Spoiler(_resized),
    "of one row": Spoiler(_one),
    "with an axis more": Spoiler(lambda x, random: x.unsqueeze(random.randint(0, x.ndim))),
    "with an axis less": Spoiler(lambda x, random: x.select(random.randrange(x.ndim), 0)),
    "transposed": Spoiler(lambda x, random: x.mT),
    "of another float": Spoiler(_to(torch.float64, torch.float32, torch.float16, torch.bfloat16)),
    "of another dtype": Spoiler(_to(torch.int64, torch.int32, torch.bool, torch.complex128, torch.uint8, torch.float8_e5m2)),
    "sparse": Spoiler(_sparse),
    "nested": Spoiler(_nested),
    "on meta": Spoiler(lambda x, random: x.to("meta")),
    "quantized": Spoiler(lambda x, random: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8)),
    "huge by strides": Spoiler(_huge),
    "None": Spoiler(lambda x, random: None),
    "a list": Spoiler(lambda x, random: x.tolist()),
    "an array": Spoiler(lambda x, random: x.numpy()),
    "a number": Spoiler(lambda x, random: random.choice([0, 1.5, float("nan")])),
    "a word": Spoiler(lambda x, random: "word"),
    "an empty tuple": Spoiler(lambda x, random: ()),
    "in a tuple": Spoiler(lambda x, random: (x, x)),
}
