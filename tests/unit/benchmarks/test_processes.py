import os
import subprocess
import sys
import time

from benchmarks.processes import cpu_seconds, resident_bytes, tree

BURNT = 0.2 - 0.03  # the kernel counts in ticks of ten milliseconds
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
    assert 0 < cpu_seconds(os.getpid()) <= time.process_time() + _of_children() + 0.05


def test_ended_process_takes_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert cpu_seconds(child.pid) == 0
    assert resident_bytes(child.pid) == 0


def _of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system
