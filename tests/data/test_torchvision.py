import subprocess
import sys

LOAD = """
from vaelib.data._torchvision import torchvision
assert torchvision() is torchvision()
assert torchvision().datasets.MNIST
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_torchvision_can_be_imported_whatever_torch_is_installed():
    done = run(LOAD)
    assert done.returncode == 0, done.stderr


def test_operators_that_are_already_there_are_left_alone():
    # As with a matching wheel, whose operators a second declaration would collide with.
    there = """
import torch
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
    done = run(there + LOAD)
    assert done.returncode == 0, done.stderr


def test_data_sets_import_nothing_heavy_before_they_are_asked_for():
    done = run("import sys, vaelib.data; print({'torchvision', 'sklearn', 'mlxtend'} & set(sys.modules))")
    assert done.stdout.strip() == "set()", done.stderr
