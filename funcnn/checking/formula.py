"""What a rule is derived from: y = f(x), for a hypothesis to read, to differentiate, and to try the rule elsewhere on."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from torch import Tensor

Swap: TypeAlias = Callable[[int, Tensor], Tensor]  # the i-th saved tensor, to what the rule is given in its place


class Formula(NamedTuple):
    """A function, the rule that claims to be its pullback, and a point, all in float64.

    f         (*leaves) -> y, the outputs; with **{name: tensor}, where others of the `rest` stand in their places
    leaves    the x at which g and r were compared, and `names`, how they are written
    u         the cotangent of each output
    pull      (leaves, u, swap) -> J^T u by the rule; it is handed swap(i, tensor) for the i-th tensor that it saved
    position  the leaf that is in question
    rest      the tensors among the inputs that have no gradient, such as a mask, with how they are written
    """

    f: Callable[..., tuple[Tensor, ...]]
    leaves: tuple[Tensor, ...]
    names: tuple[str, ...]
    u: tuple[Tensor, ...]
    pull: Callable[[Sequence[Tensor], Sequence[Tensor], Swap | None], list[Tensor]]
    position: int
    rest: tuple[tuple[str, Tensor], ...] = ()

    @property
    def x(self) -> Tensor:
        """The leaf that is in question."""
        return self.leaves[self.position]
