import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the project is a folder of scripts, not a package
torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


@pytest.fixture(params=["gpt2", "llama", "qwen3"])
def family(request):
    return request.param


@pytest.fixture(params=["dense", "grouped"])
def path(request):
    return request.param
