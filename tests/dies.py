"""A script that ends itself with SIGKILL as it syncs its n-th file to the disk, inside a checkpoint: dies.py n script.py ..."""

import os
import runpy
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import runtime

left, sync = [int(sys.argv[1])], runtime.sync


def sync_or_die(path):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(path)


runtime.sync = sync_or_die
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
