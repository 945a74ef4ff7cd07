from __future__ import annotations

from pathlib import Path

import pytest

from onward.host.cpu import Processor, find_processor

X86 = """\
processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8481C
flags\t\t: fpu sse4_2 fma avx2 avx512f amx_tile amx_int8 avx512_vnni hypervisor

processor\t: 1
model name\t: another
flags\t\t: sve
"""
ARM = """\
processor\t: 0
Features\t: fp asimd asimddp sve i8mm bf16
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""
CPU = "sys/devices/system/cpu"


def made(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_virtual_x86_is_seen(tmp_path: Path) -> None:
    files = {"proc/cpuinfo": X86, f"{CPU}/smt/active": "1\n", f"{CPU}/intel_pstate/no_turbo": "1\n"}
    files |= {f"{CPU}/cpu{at}/cpufreq/scaling_governor": "powersave\n" for at in range(12)}
    assert find_processor(made(tmp_path, files)) == Processor(
        "Intel(R) Xeon(R) Platinum 8481C",
        ("sse4_2", "avx2", "fma", "avx512f", "avx512_vnni", "amx_tile", "amx_int8"),
        "powersave",
        False,
        True,
        True,
    )


def test_an_arm_without_a_name_is_called_by_its_numbers(tmp_path: Path) -> None:
    found = find_processor(made(tmp_path, {"proc/cpuinfo": ARM}))
    assert found.model == "ARM, implementer 0x41, part 0xd40"
    assert found.features == ("asimd", "asimddp", "i8mm", "bf16", "sve")
    assert found.is_virtual is None  # there is no such flag


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpufreq/boost": "1\n"}, True),
        ({"cpufreq/boost": "0\n"}, False),
        ({"intel_pstate/no_turbo": "0\n"}, True),
        ({"intel_pstate/no_turbo": "rubbish"}, None),
    ],
)
def test_boost_is_read_from_where_each_driver_has_it(
    tmp_path: Path, files: dict[str, str], expected: bool | None
) -> None:
    root = made(tmp_path, {f"{CPU}/{name}": text for name, text in files.items()})
    assert find_processor(root).is_boosting is expected


def test_governors_that_differ_are_all_named(tmp_path: Path) -> None:
    names = {0: "powersave", 1: "performance", 2: "powersave"}
    files = {f"{CPU}/cpu{at}/cpufreq/scaling_governor": name for at, name in names.items()}
    assert find_processor(made(tmp_path, files)).governor == "performance, powersave"


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert find_processor(tmp_path) == Processor(None)


def test_this_processor_is_seen() -> None:
    if Path("/proc/cpuinfo").exists():
        assert find_processor().model
