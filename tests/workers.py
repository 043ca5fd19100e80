"""What test_files.py has done by workers, in a module that a spawned process imports quickly."""

import os
import signal
import time


def square(n):
    time.sleep(0.2 * (n % 3 == 0))  # the first of three is the last to be done
    return n * n


def refuse(n):
    if n == 3:
        raise FileNotFoundError("x.parquet: row 3: not text")
    return n


def die(n):
    os.kill(os.getpid(), signal.SIGKILL) if n == 3 else None
    return n


class PanicException(BaseException):
    pass


def panic(n):
    raise PanicException("StackOverflow")


def pid_and_megabytes(n):
    return os.getpid(), bytes(2**24)


def take_long(n):
    time.sleep(0.5)
    return os.getpid()
