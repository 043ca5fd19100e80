import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the project is a folder of scripts, not a package
torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


from model import FAMILIES  # noqa: E402


@pytest.fixture(params=[name for name in FAMILIES if name != "qwen2"])  # a Llama with three more biases: see test_parity.py
def family(request):
    return request.param


@pytest.fixture(params=["dense", "grouped"])
def path(request):
    return request.param
