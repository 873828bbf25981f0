import resource
import subprocess
import sys

LOOP = """
import resource, sys, torch
sys.path.insert(0, ".")
from training.heap import keep_freed_memory
if sys.argv[1] == "keep": assert keep_freed_memory()
def steps():
    for _ in range(8): torch.ones(2**20 * 12)
for _ in range(8): steps()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
steps()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", LOOP, how], capture_output=True, text=True, check=True).stdout)


def test_a_large_tensor_takes_the_place_of_one_that_was_freed():
    pages = 8 * 2**20 * 48 // resource.getpagesize()
    assert faults("leave") > pages / 2
    assert faults("keep") < pages / 4
