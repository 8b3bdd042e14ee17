"""What torch says of operands that are each as they should be, in our words."""

import re

from .errors import InputError
from .memory import in_units

# (its words, what was found, what is needed)
TORCHS = (
    (
        "Inference tensors cannot be saved",
        "tensors of inference mode beside some that require gradients",
        "clones of these, or torch.no_grad()",
    ),
    (
        "mixed torch.Tensor and DTensor",
        "DTensors where tensors are made beside them",
        "plain tensors, such as leaf.full_tensor(); or a gradient by explicit, func_grad or autograd",
    ),
    ("without overflow", "a number beyond what the dtype holds", "one within its range"),
)


def refused_by_torch(place: str, error: RuntimeError) -> InputError | None:
    """What to raise in place of an error of torch that is the CPU's lack of memory, or one of those above."""
    for words, got, needs in TORCHS:
        if words in str(error):
            return InputError(place, got, needs)
    found = re.search(r"can't allocate memory: you tried to allocate (\d+) bytes", str(error))
    if found is None:
        return None
    return InputError(place, f"operands that ask for {in_units(int(found[1]))}", "such as fit into the memory that is free")
