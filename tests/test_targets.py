"""Every kind of vector registers: the same results as this machine's own, and no sums that are put on the stack."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from llvmlite import binding

from assembly import innermost_loops
from trueoracle.api import doctor
from trueoracle.lanes import Target, target
from trueoracle.lanes.target import AVX2, AVX512, NEON, SSE, chosen, family
from trueoracle.words.errors import TargetError

FULL = {"avx512f", "avx512vl", "avx2", "fma"}
KNOWN = family(platform.machine(), FULL & {name for name, here in binding.get_host_cpu_features().items() if here})

# What a process of its own does: the variable is read once, and decides what everything is compiled for.
WORK = """
import sys
import numpy, torch
from test_fleet import CHAINS, SGD, nets
from trueoracle.data import Split
from trueoracle.fleet import train_alone, train_fleet
from trueoracle.nets import build
from trueoracle.oracle.exact import exact
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.shape import InputShape

found = {}
make, data = CHAINS["pruned lenet"]
members = nets(make, 2)
for i, trained in enumerate([*train_fleet(members, data, SGD, 4, backend="lanes"), train_alone(members[0], data, SGD, 4)]):
    found[f"weights{i}"] = torch.cat([p.detach().flatten() for p in trained.net.parameters()]).numpy()
    found[f"curve{i}"] = [[f.train_loss, f.train_accuracy, f.test_loss, f.test_accuracy] for f in trained.curve]
numbers = torch.Generator().manual_seed(0)
split = Split(images_NCHW=torch.randn(40, 1, 32, 32, generator=numbers), labels_N=torch.arange(40) % 10)
net = build("lenet5-mini", InputShape(channels=1, height=32, width=32, classes=10), seed=5)
for sites in (["conv1", "conv3"], ["conv2"]):
    space = MaskSpace(tuple(SiteChoice(site=site, units=10, pruned=5) for site in sites))
    sums = exact(net, space, InputShape(channels=1, height=32, width=32, classes=10)).sums(range(min(space.count, 800)), split)
    found[f"loss{len(sites)}"], found[f"correct{len(sites)}"] = sums.loss_M, sums.correct_M
numpy.savez(sys.argv[1], **found)
"""


def results(kind: Target, kernels: Path, folder: Path) -> dict[str, np.ndarray]:
    """What `WORK` finds on this kind of registers, beside a NumPy that knows of none wider."""
    wider = {AVX512: "", AVX2: "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"}
    environment = {
        **os.environ,
        "TRUEORACLE_VECTORS": kind.name,
        "TRUEORACLE_CACHE": str(kernels.parent),
        "NPY_DISABLE_CPU_FEATURES": wider.get(kind, ""),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }
    out = folder / f"{kind.name}.npz"
    subprocess.run([sys.executable, "-W", "ignore", "-c", WORK, str(out)], env=environment, check=True)
    with np.load(out, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def own(kernels: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return results(KNOWN[0], kernels, tmp_path_factory.mktemp("own"))


@pytest.mark.parametrize("kind", KNOWN[1:], ids=str)
def test_results_do_not_depend_on_the_registers(
    kind: Target, own: dict[str, np.ndarray], kernels: Path, tmp_path: Path
) -> None:
    found = results(kind, kernels, tmp_path)
    assert found.keys() == own.keys()
    for name, value in found.items():
        if all(one.fuses and one.permutes for one in (kind, KNOWN[0])):
            np.testing.assert_array_equal(value, own[name], err_msg=name)
        elif name.startswith("loss"):
            np.testing.assert_allclose(value, own[name], rtol=1e-6)
        else:
            np.testing.assert_allclose(value, own[name], atol=2e-5)


def assembly(kind: Target, kernels: Path) -> str:
    """What `written_kernels.py` prints in a process of this kind; for NEON elsewhere, of the machine's narrowest."""
    named = kind if kind in KNOWN else KNOWN[-1]
    environment = {**os.environ, "TRUEORACLE_VECTORS": named.name, "TRUEORACLE_CACHE": str(kernels.parent)}
    script = Path(__file__).with_name("written_kernels.py")
    run = subprocess.run(
        [sys.executable, script, kind.name], env=environment, check=True, capture_output=True, text=True
    )
    return run.stdout


@pytest.mark.parametrize("kind", [kind for kind in (AVX512, AVX2, NEON) if kind in KNOWN or kind is NEON], ids=str)
def test_no_hot_loop_puts_anything_on_the_stack(kind: Target, kernels: Path) -> None:
    """Hot: with multiply-adds, but for the one logarithm after a block of images, which adds up in float64."""
    hot = [
        loop for loop in innermost_loops(assembly(kind, kernels)) if loop.multiply_adds and not loop.adds_up_in_double
    ]
    assert len(hot) >= 20
    assert {loop.function: loop.stack_stores for loop in hot if loop.stack_stores} == {}


def test_the_reader_of_assembly_sees_a_spill() -> None:
    loop = """
f:
    movq %rsp, %rbp
.LBB0_1:
    vmovaps (%rdi), %ymm0
.LBB0_2:
    vfmadd231ps 32(%rsi), %ymm0, %ymm1   # a comment
    vmovups %ymm1, STACK
    vmovups %ymm1, 64(%rdi,%rax)
    jne .LBB0_2
    jmp .LBB0_1
"""
    for place, spills in (("64(%rsp)", 1), ("-32(%rbp)", 1), ("64(%rbx)", 0)):
        (found,) = innermost_loops(loop.replace("STACK", place))
        assert (found.multiply_adds, len(found.stack_stores)) == (1, spills)
    arm = "g:\n.LBB1_1:\n fmla v0.4s, v1.4s, v2.s[0]\n STORE\n subs x8, x8, #1\n b.ne .LBB1_1\n"
    for store, spills in (("str q0, [sp, #16]", 1), ("stp q0, q1, [sp]", 1), ("str q0, [x1, #16]", 0)):
        (found,) = innermost_loops(arm.replace("STORE", store))
        assert (found.multiply_adds, len(found.stack_stores)) == (1, spills)


def test_a_machine_runs_what_it_has_and_what_is_narrower() -> None:
    assert family("x86_64", FULL) == [AVX512, AVX2, SSE]
    assert family("AMD64", {"avx2", "fma"}) == [AVX2, SSE]
    assert family("x86_64", {"avx2"}) == [SSE]
    assert family("arm64", set()) == [NEON]
    assert [kind.numbers for kind in family("riscv64", set())] == [4]
    assert chosen(None, [AVX2, SSE]) is AVX2
    assert chosen("sse", [AVX2, SSE]) is SSE


@pytest.mark.parametrize("asked", ["avx512", "neon", "AVX2", "wide"])
def test_a_target_that_the_machine_lacks_is_refused_in_one_line(asked: str) -> None:
    line = f"`TRUEORACLE_VECTORS` must be one of avx2, sse on this machine, but got `{asked}`"
    with pytest.raises(TargetError, match=f"^{re.escape(line)}$"):
        chosen(asked, [AVX2, SSE])


def test_doctor_names_the_target() -> None:
    assert doctor()["vectors"] == str(target())
    assert str(AVX2) == "avx2: 16 registers of 8 float32, fused multiply-add"
