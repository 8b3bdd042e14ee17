import jaxtyping
import pytest
import torch
from hypothesis import settings

settings.register_profile("funcnn", deadline=None, derandomize=True, database=None, max_examples=25)
settings.load_profile("funcnn")
torch.set_num_threads(1)  # the networks here are too small to share


@pytest.fixture(autouse=True)
def float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def as_users_run_it():
    # Under pytest beartype checks every annotation before the library sees a bad argument. For users nobody does.
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
