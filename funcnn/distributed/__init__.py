"""Many machines: providers whose work is divided among the ranks of torch.distributed.

What a rank sends in a step, in bytes, with d parameters and gradients of b bytes each, R ranks, N samples in all, k draws:

    data_parallel              2 (R - 1)/R b (d + 2)                          the gradient around a ring, twice
        and asking for N_r     16 (R - 1)                                     where factors may be smaller
        factors of D x H       (R - 1) b max_r N_r T (D + H)                  in place of 2 (R - 1)/R b D H
    sharded                    (R - 1) b (1 + sum_l ceil(n_l / R))            about (R - 1)/R b d, for leaves of n_l entries
    columns of H x D           (R - 1) b H ceil(D / R)
    seeded                     (R - 1) (16 ceil(k / R) + 8)                   no d in it

Counted at the sockets of 2 and of 4 ranks, it is that and the headers of gloo, 288 bytes for each piece that goes from one
rank to the next: see `experiments.distributed.wire`. Evaluations, 2 d of a difference quotient or 2 k of an estimate, are
divided by R; a data parallel rank runs through N / R samples.

With d = 10^9 in float32 and R = 1,000 that comes to

    data_parallel     8.0 GB     0.32 s at 25 GB/s, which hide behind a step of 5,300 tokens on each rank (6 d operations a
                                 token, 10^14 a second). The ring has 1,998 turns, of 20 to 50 microseconds each on top.
    factors           -          fewer numbers than the gradient where N T < D H / (D + H): 2,000 rows of all ranks for a
                                 matrix of 4,000 x 4,000, two a rank. They are for few ranks and small batches.
    sharded           4.0 GB     and 2 million evaluations on every rank, 11 hours at 50 a second: not for training, but for
                                 the columns of a part.
    seeded            24 kB      for 1,000 draws. Nothing else is so small; but each rank makes the directions of all draws,
                                 10^12 numbers, 100 s at 10^10 a second, and keeps them, 4 TB. So k d has to fit: fewer draws
                                 than ranks, whose samples are divided in place of the draws, or `mezo` on each.

Beside that every rank has the parameters, the gradient, the bucket of an all-reduce and what the optimizer keeps: 20 GB
with adam. Where that is too much, the parameters themselves are divided. Tried with torch 2.13 on 2 and 3 ranks: the
DTensors of FSDP2 (`fully_shard`), with a batch that is one too, go through explicit, func_grad and autograd, through
per_sample, its norms and clipped means, and through train with momentum, nesterov, adam, adamw, clip_by_norm and
line_search as they are, and end where one process ends. What makes tensors of its own beside the parameters (differences,
complex steps, stochastic providers, bfgs, mezo, check) is refused by name, and so are compiled steps, at which torch's
compiler fails.
"""

from .bucket import data_parallel as data_parallel
from .bucket import rows as rows
from .entries import columns as columns
from .entries import sharded as sharded
from .ranks import RankEnded as RankEnded
from .seeds import seeded as seeded
