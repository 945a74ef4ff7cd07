from __future__ import annotations

import getpass
import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.document import Document
from onward.errors import DataError
from onward.host.cpu import Cores, Processor, find_cores
from onward.host.fingerprint import Fingerprint, take_fingerprint
from onward.host.memory import MainMemory

ROOT = Path(__file__).parents[3]
LAW = settings(max_examples=60, deadline=None)
ONE = Fingerprint(
    processor=Processor("AMD EPYC 9B14", ("avx2", "fma", "avx512f"), "performance", True, True, True),
    cores=Cores(2, 64, "cpu.max"),
    memory=MainMemory(64 * 2**30, 8 * 2**30),
    system="Linux x86_64",
    release="6.1.0",
    python="3.11.7",
    packages={"onward": "0.1.0", "numpy": "2.4.0", "onnxruntime": "1.27.0", "torch": "2.14.0"},
    graphics=("NVIDIA H100, driver 550.54",),
    load=0.25,
    time="2026-01-02T03:04:05+00:00",
)
FACT = st.none() | st.booleans()
ANY = st.builds(
    Fingerprint,
    processor=st.builds(Processor, st.none() | st.text(), st.lists(st.text()).map(tuple), st.none(), FACT, FACT, FACT),
    cores=st.builds(Cores, st.integers(1, 8), st.integers(1, 8), st.text()),
    memory=st.builds(MainMemory, st.none() | st.integers(0, 2**50), st.none() | st.integers(0, 2**50)),
    system=st.text(),
    release=st.text(),
    python=st.text(),
    packages=st.dictionaries(st.text(), st.text()),
    graphics=st.lists(st.text()).map(tuple),
    load=st.none() | st.floats(0, 1e3),
    time=st.text(),
)


def read(document: object) -> Fingerprint:
    return Document(document, "the fingerprint", DataError).read(Fingerprint)


@LAW
@given(ANY)
def test_a_fingerprint_reads_back_equal(fingerprint: Fingerprint) -> None:
    assert read(json.loads(json.dumps(fingerprint.to_json()))) == fingerprint
    assert fingerprint.differences(fingerprint) == []


def test_keys_of_later_versions_are_ignored_and_missing_ones_are_not() -> None:
    document = ONE.to_json()
    later = document | {"moon": "full", "processor": document["processor"] | {"colour": "green"}}
    assert read(later) == ONE
    del document["release"]
    with pytest.raises(DataError, match="release is missing"):
        read(document)


def test_this_environment_is_seen() -> None:
    fingerprint = take_fingerprint()
    assert read(json.loads(json.dumps(fingerprint.to_json()))) == fingerprint
    assert (fingerprint.cores.count, fingerprint.cores.host) == (find_cores().count, find_cores().host)
    assert fingerprint.python == ".".join(map(str, sys.version_info[:3]))
    assert {"onward", "numpy"} <= set(fingerprint.packages)
    assert any(name.startswith("onnxruntime") for name in fingerprint.packages)
    assert abs(datetime.fromisoformat(fingerprint.time) - datetime.now(timezone.utc)) < timedelta(minutes=1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", fingerprint.time)


def test_it_names_no_host_user_or_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "onward.host.fingerprint.find_cores", lambda: Cores(1, 8, "/sys/fs/cgroup/user-1000.slice/cpu.max")
    )
    document = json.dumps(take_fingerprint().to_json())
    assert '"cpu.max"' in document
    assert "/" not in document
    words = set(re.findall(r"\w+", document))
    assert not {socket.gethostname(), getpass.getuser()} & (words - {"vm", "linux", "Linux"})


def test_nothing_heavy_is_imported_for_it() -> None:
    code = (
        "import sys; from onward.host.fingerprint import take_fingerprint; take_fingerprint()\n"
        "assert not set(sys.modules) & {'torch', 'onnxruntime', 'numpy', 'openvino', 'PIL'}"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_differences_are_sentences() -> None:
    other = replace(
        ONE,
        processor=replace(ONE.processor, features=("avx2", "fma", "amx_tile"), is_boosting=False, governor=None),
        cores=Cores(1, 64, "affinity"),
        memory=MainMemory(64 * 2**30),
        packages={"onward": "0.1.0", "numpy": "2.4.0", "onnxruntime-gpu": "1.27.0", "torch": "2.15.0"},
        graphics=(),
        load=9.0,
        time="2027-01-02T03:04:05+00:00",
    )
    assert ONE.differences(other) == [
        "instructions without avx512f, with amx_tile",
        "2 cores → 1 core",
        "cores limited by cpu.max → affinity",
        "clock governor performance → unknown",
        "boost on → off",
        "memory limit 8.0 GiB → none",
        "graphics NVIDIA H100, driver 550.54 → none",
        "onnxruntime 1.27.0 → not installed",
        "torch 2.14.0 → 2.15.0",
        "onnxruntime-gpu not installed → 1.27.0",
    ]


def test_load_and_time_are_no_difference() -> None:
    assert ONE.differences(replace(ONE, load=None, time="")) == []


PROGRAMS = {
    "two cards": ("echo 'NVIDIA H100 80GB HBM3, 550.54'; echo 'Tesla T4, 550.54'", 2),
    "no driver": ("echo 'NVIDIA-SMI has failed'; exit 9", 0),
    "hangs": ("exec sleep 60", 0),
}


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
@pytest.mark.parametrize("program", PROGRAMS)
def test_graphics_cards_are_asked_for(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, num_cards = PROGRAMS[program]
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("onward.host.fingerprint.GRAPHICS_TIMEOUT_S", 0.5 if program == "hangs" else 10)
    cards = take_fingerprint().graphics
    assert cards == ("NVIDIA H100 80GB HBM3, driver 550.54", "Tesla T4, driver 550.54")[:num_cards]


def test_a_system_without_load_averages_or_the_program_is_seen_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onward.host.fingerprint.shutil.which", lambda name: None)
    monkeypatch.delattr(os, "getloadavg", raising=False)
    fingerprint = take_fingerprint()
    assert fingerprint.load is None
    assert fingerprint.graphics == ()
