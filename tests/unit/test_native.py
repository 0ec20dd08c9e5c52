"""Work in native threads under gevent: what it raises arrives where it was asked for, and is written nowhere else."""

import subprocess
import sys
from pathlib import Path

import pytest

from utils import native

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
from gevent import monkey
monkey.patch_all()
from utils import native

def half(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2

assert native.is_cooperative()
print(native.run(half, number=8))
try:
    native.run(half, 3)
except ValueError as exc:
    print(exc)
"""


def test_under_gevent_a_failure_is_raised_and_not_printed():
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n3 is odd\n", "")


def test_without_gevent_the_work_is_done_right_here():
    assert not native.is_cooperative()
    assert native.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        native.run(divmod, 7, 0)
