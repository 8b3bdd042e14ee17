"""What ranks exchange, and what becomes of them where one ends: the only file that calls torch's collectives.

A rank that is killed closes its connections, and gloo tells whoever is waiting for it and nobody else: in a ring of four the
rank across goes on waiting, for half an hour by default, while its neighbours are gone already. So each rank that waits for
more than a second tries to reach the others, and each that finds one gone stays until the others have found the same: then
all name the one that ended first, and none of those that ended because of it.

Torch's collectives are no operations for its transforms. Measured on torch 2.13 with two ranks, all_reduce of its functional
collectives gives wrong and changing numbers under vmap and tangent 0 under jvp, both silently, raises under grad, and a tape
gives through it the gradient of the sum over the ranks. So whatever exchanges anything here is refused under all of these.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import InputError
from ..fused import watched

Group: TypeAlias = Any  # a ProcessGroup, or None for all ranks
PATIENCE, FAREWELL = timedelta(seconds=1), timedelta(seconds=5)
PROBE, LAST = 7061, 7062  # tags of the messages by which ranks are tried and wait for one another


class RankEnded(RuntimeError):
    """A rank ended, so that the others cannot go on; `ranks` are those that did."""

    def __init__(self, ranks: list[int], size: int) -> None:
        """Keeps which."""
        names = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"
        needs = "the same call with a checkpoint goes on, with any number of ranks"
        super().__init__(f"{names} of {size} ended, so the others cannot go on: {needs}")
        self.ranks, self.size = ranks, size

    def __reduce__(self) -> tuple[Any, ...]:
        """The same error in another process."""
        return type(self), (self.ranks, self.size)


def check_group(place: str, group: Group) -> None:
    """Raises InputError unless there are ranks, and this is one of the group."""
    if not dist.is_available() or not dist.is_initialized():
        needs = "torch.distributed.init_process_group() before it, as under torchrun"
        raise InputError(place, "a process that knows of no others", needs)
    if group is not None and not isinstance(group, dist.ProcessGroup):
        found = "no rank of the group" if group is dist.GroupMember.NON_GROUP_MEMBER else f"a {type(group).__name__}"
        raise InputError(f"{place}: group", found, "a process group that this rank belongs to, or None for all ranks")


def check_alone(place: str, leaves: Iterable[Any]) -> None:
    """Raises InputError where a transform, a tape or a tracer would see what ranks exchange."""
    if watched(*(leaf for leaf in leaves if isinstance(leaf, Tensor) and not leaf.is_complex())):
        found = "a call inside a transform (vmap, grad, jvp), a tape or a tracer"
        raise InputError(
            place, found, "one outside of all, where torch's collectives are right; put the transform inside it"
        )


def size(group: Group) -> int:
    """How many ranks there are, R."""
    return dist.get_world_size(group)


def rank(group: Group) -> int:
    """Which of them this is."""
    return dist.get_rank(group)


def summed(x: Tensor, group: Group) -> Tensor:
    """The sum over the ranks of tensors of one shape, written into x, with the same bits on every rank: one all-reduce.

    Raises RankEnded where a rank did.
    """
    _begun(lambda: dist.all_reduce(x, group=group, async_op=True), x, group)()
    return x


def gathered(x: Tensor, group: Group) -> Tensor:
    """The tensors of all ranks, which are of one shape, stacked along a leading axis (R, ...): one all-gather.

    Raises RankEnded where a rank did.
    """
    return gathering(x, group)()


def gathering(x: Tensor, group: Group) -> Callable[[], Tensor]:
    """The same on its way, while something else is done: the function that waits for it."""
    result = x.new_empty(size(group), *x.shape)
    finish = _begun(lambda: dist.all_gather([*result.unbind(0)], x.contiguous(), group=group, async_op=True), x, group)

    def wait() -> Tensor:
        finish()
        return result

    return wait


def is_first() -> bool:
    """Whether this is rank 0, as is a process that knows of no others: what all ranks have, it writes."""
    return not dist.is_available() or not dist.is_initialized() or rank(None) == 0


def unlike(numbers: list[int]) -> set[int]:
    """The places at which the ranks have other numbers than rank 0; none of a process that knows of no others."""
    if not dist.is_available() or not dist.is_initialized():
        return set()
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    table = gathered(torch.tensor(numbers, device=device), None)
    return {place for place, same in enumerate((table == table[0]).all(0).tolist()) if not same}


def _begun(begin: Callable[[], Any], x: Tensor, group: Group) -> Callable[[], None]:
    """A collective that has begun, of tensors like x: the function that waits for its end, or for that of a rank."""
    work = _named(begin, group)
    if x.device.type != "cpu":  # there they wait on a stream, and have watchdogs of their own
        return lambda: work.wait()

    def wait() -> None:
        while not _waited(work):
            if ended := _ended(group):
                raise RankEnded(ended, size(group))

    return lambda: _named(wait, group)


def _named(call: Callable[[], Any], group: Group) -> Any:
    """What a call returns. Raises RankEnded where it failed because a rank did."""
    try:
        return call()
    except RankEnded:
        raise
    except RuntimeError:
        if ended := _ended(group):
            raise RankEnded(ended, size(group)) from None
        raise


def _waited(work: Any) -> bool:
    """Whether it is done, after a second at most. Raises RuntimeError where it failed."""
    try:
        work.wait(PATIENCE)
    except RuntimeError:
        if work.is_completed():
            raise
        return False
    return True


def _ended(group: Group) -> list[int]:
    """The ranks to which there is no connection; where there are any, once all others have looked too."""
    others = [other for other in range(size(group)) if other != rank(group)]
    mark = torch.zeros(1, dtype=torch.uint8, device="cpu")
    ended = [other for other in others if _message(mark, other, group, PROBE) is None]
    if ended:
        left = [other for other in others if other not in ended]
        sent = [_message(mark, other, group, LAST) for other in left]
        with suppress(RuntimeError):  # one of them does not come
            for other in left:
                _received(mark.clone(), other, group).wait(FAREWELL)
            for message in filter(None, sent):
                message.wait(FAREWELL)
    return ended


def _received(mark: Tensor, other: int, group: Group) -> Any:
    return dist.irecv(mark, group=group, group_src=other, tag=LAST)


def _message(mark: Tensor, other: int, group: Group, tag: int) -> Any:
    """A message on its way, which is taken back where nobody keeps it; None where there is no connection."""
    try:
        return dist.isend(mark, group=group, group_dst=other, tag=tag)
    except RuntimeError:
        return None
