import os
import subprocess
import sys

from benchmarks.processes import cpu_seconds, resident_bytes, tree

TICKS = 0.03  # the kernel counts in ticks of ten milliseconds
BURNT = 0.2 - TICKS
BURN = "import time\nwhile time.process_time() < 0.2: pass\n"


def test_cpu_time_counts_children_that_run_and_children_that_have_ended() -> None:
    before = cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", BURN], check=True)
    assert cpu_seconds(os.getpid()) - before >= BURNT

    child = subprocess.Popen(
        [sys.executable, "-c", f"{BURN}print(flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout
        child.stdout.readline()
        assert child.pid in tree(os.getpid())
        assert cpu_seconds(child.pid) >= BURNT
        assert cpu_seconds(os.getpid()) - before >= 2 * BURNT
    finally:
        child.communicate(b"\n")


def test_cpu_time_is_in_seconds() -> None:
    program = f"{BURN}print(time.process_time(), flush=True)\ninput()"
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout
        own = float(child.stdout.readline())
        assert own - TICKS <= cpu_seconds(child.pid) <= own + TICKS
    finally:
        child.communicate(b"\n")


def test_ended_process_takes_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert cpu_seconds(child.pid) == 0
    assert resident_bytes(child.pid) == 0
