"""The operations of a forward rule, recorded as they run: what a formula is, read off from it.

Recorded are torch's elementary operations, below any autograd.Function and below any hand-written backward rule, so that
the derivatives of the record owe nothing to the rule under test. An operation in which shapes are broadcast becomes one
on equal shapes, after operations that expand; softmax, the norms and some more become what they are made of: see `parts`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .parts import PARTS

Call: TypeAlias = Callable[[], Tensor]


class UnreadableError(Exception):
    """A formula that does what cannot be replayed, or too much to be read."""


class Ref(NamedTuple):
    """The value with this number."""

    number: int


class Node(NamedTuple):
    """values[outs] = op(*args, **kwargs), where a Ref stands for a value: those of the `given`, in order.

    `name` is that of the operation, such as mul.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outs: tuple[int, ...]
    given: tuple[int, ...]
    name: str
    pointwise: bool
    mutable: bool


class Tape(NamedTuple):
    """Nodes in the order of their running, and the values: the leaves first, of which there are `leaves`.

    Values that no node makes are constants.
    """

    nodes: list[Node]
    values: list[Tensor]
    leaves: int
    outputs: tuple[int, ...]


def record(f: Callable[..., tuple[Tensor, ...]], leaves: Sequence[Tensor]) -> Tape:
    """Runs f(*leaves) and returns what it did. Raises UnreadableError for what cannot be replayed."""
    tape = _recorded(f, leaves)
    if any(node.mutable for node in tape.nodes):  # a second time, without writing in place
        tape = _recorded(torch.func.functionalize(lambda *leaves: replay(tape, leaves)), leaves)
        if any(node.mutable for node in tape.nodes):
            raise UnreadableError
    return tape


def _recorded(f: Callable[..., tuple[Tensor, ...]], leaves: Sequence[Tensor]) -> Tape:
    own = [leaf.detach().clone() for leaf in leaves]
    recorder = _Recorder(own)
    with torch.no_grad(), recorder:
        y = f(*own)
    outputs = tuple(recorder.numbers.get(id(each), -1) for each in y)
    if -1 in outputs:
        raise UnreadableError
    return Tape(recorder.nodes, recorder.values, len(own), outputs)


def replay(tape: Tape, leaves: Sequence[Tensor], also: Callable[[int, int, Tensor], Tensor] | None = None) -> Any:
    """The outputs at other leaves; `also(n, slot, value)` is what node n is given in its place."""
    values = dict(enumerate(tape.values)) | dict(enumerate(leaves))
    for n, node in enumerate(tape.nodes):
        run(node, n, values, also)
    return tuple(values[i] for i in tape.outputs)


def run(node: Node, n: int, values: Any, also: Callable[[int, int, Tensor], Tensor] | None = None) -> None:
    """Adds what a node makes of the values to them."""
    slot = -1

    def given(ref: Ref) -> Tensor:
        nonlocal slot
        slot += 1
        value: Tensor = values[ref.number]
        return value if also is None else also(n, slot, value)

    args, kwargs = filled((node.args, node.kwargs), given)
    found = node.op(*args, **kwargs)
    made = [each for each in (found if isinstance(found, (tuple, list)) else [found]) if isinstance(each, Tensor)]
    values.update(zip(node.outs, made, strict=True))


def filled(args: Any, given: Callable[[Any], Any], what: type = Ref) -> Any:
    """The arguments with what stands for values in them replaced, in order."""
    if isinstance(args, what):
        return given(args)
    if isinstance(args, tuple):
        return tuple([filled(each, given, what) for each in args])
    if isinstance(args, list):
        return [filled(each, given, what) for each in args]
    return {key: filled(each, given, what) for key, each in args.items()} if isinstance(args, dict) else args


class _Recorder(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch loads its compiler, which takes seconds

    def __init__(self, leaves: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nodes: list[Node] = []
        self.values = list(leaves)
        self.numbers = {id(leaf): i for i, leaf in enumerate(leaves)}
        self.constants: dict[int, int] = {}

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, op.name().split("::")[1].split(".")[0]
        if name in PARTS:
            with self:
                found = PARTS[name](*args, **kwargs)
            if found is not NotImplemented:
                return found
        tensors: list[Tensor] = []
        filled((args, kwargs), tensors.append, Tensor)
        found = op(*args, **kwargs)
        random = torch.Tag.nondeterministic_seeded in op.tags
        if random or not any(id(each) in self.numbers for each in tensors):
            return found  # a constant
        if name == "copy" and args[0].dtype == args[1].dtype:  # has no derivative; the first argument is but a place
            if id(args[1]) not in self.numbers:
                return found
            op, name, args = torch.clone, "clone", (self._broadcast(args[1], found.shape),)
        if name == "detach":  # no value depends on what is detached
            op, name = torch.clone, "clone"
        mutable = op is not torch.clone and op._schema.is_mutable
        pointwise = op is not torch.clone and torch.Tag.pointwise in op.tags
        if pointwise and isinstance(found, Tensor) and not mutable:
            args = tuple(self._broadcast(each, found.shape) for each in args)
        return self._kept((op, name, pointwise, mutable), args, kwargs, found)

    def _broadcast(self, x: Any, shape: torch.Size) -> Any:
        if not isinstance(x, Tensor) or x.shape == shape or id(x) not in self.numbers:
            return x
        return self._kept((torch.Tensor.expand, "expand", False, False), (x, list(shape)), {}, x.expand(shape))

    def _kept(self, what: tuple[Any, str, bool, bool], args: Any, kwargs: Any, found: Any) -> Any:
        op, name, pointwise, mutable = what
        args, kwargs = filled((args, kwargs), lambda x: Ref(self._number(x)), Tensor)
        outs = []
        for each in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(each, Tensor):
                outs.append(self._number(each, new=True))
        given: list[int] = []
        filled((args, kwargs), lambda ref: given.append(ref.number))
        self.nodes.append(Node(op, args, kwargs, tuple(outs), tuple(given), name, pointwise, mutable))
        return found

    def _number(self, x: Tensor, new: bool = False) -> int:
        numbers = self.numbers if id(x) in self.numbers else self.constants
        if new or id(x) not in numbers:
            numbers = self.numbers if new else self.constants
            numbers[id(x)] = len(self.values)
            self.values.append(x)
        return numbers[id(x)]
