"""Many machines: providers whose work is divided among the ranks of torch.distributed."""

from .bucket import data_parallel as data_parallel
from .bucket import rows as rows
from .entries import columns as columns
from .entries import sharded as sharded
from .ranks import RankEnded as RankEnded
from .seeds import seeded as seeded
