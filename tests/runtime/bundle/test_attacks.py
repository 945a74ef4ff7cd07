"""Planted attacks: each does its deed where PyTorch opens the file itself. Onward refuses it, with trust, too."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from onward.backends import BACKENDS, open_artifact, open_backend
from onward.bundle import MANIFEST, Bundle, FileDigest, digest_file
from onward.bundle.pt2_content import check_pt2
from onward.bundle.pt2_expressions import check_expression, check_guards
from onward.bundle.torch_archive import read_archive, write_archive
from onward.bundle.torch_operators import is_allowed
from onward.bundle.torchscript_code import check_code
from onward.bundle.torchscript_content import check_torchscript
from onward.bundle.trust import Trust
from onward.bundle.verification import verify
from onward.errors import BackendError, BundleError, OnwardError, TrustError
from tests.needs import TORCH_IS_INSTALLED, needs_pt2, needs_torch

sys.path.append(str(Path(__file__).parent))
import attacks

pytestmark = needs_pt2
ATTACKS = {
    **{("pt2", name): attack for name, attack in attacks.PT2.items()},
    **{("torchscript", name): attack for name, attack in attacks.TORCHSCRIPT.items()},
}
EACH = pytest.mark.parametrize(("format", "name"), ATTACKS, ids=lambda part: part)
CHECKS: dict[str, Callable[[bytes], bytes]] = {"pt2": check_pt2, "torchscript": check_torchscript}
#: Opens and runs every file as PyTorch does it, each in its own folder.
OPEN_ALL = """
import io, logging, os, sys, warnings, torch
logging.disable(), warnings.simplefilter("ignore"), sys.path.insert(0, "")
for folder in sys.argv[1:]:
    os.chdir(folder)
    open("doer.py", "w").write("open('deed', 'w').close()")
    try:
        if os.path.exists("pt2"):
            model = torch.export.load(io.BytesIO(open("pt2", "rb").read())).module()
        else:
            model = torch.jit.load(io.BytesIO(open("torchscript", "rb").read()))
        model(torch.zeros(2, 8, 8, 1, dtype=torch.uint8))
    except Exception:
        pass  # most attacks are over before the file turns out to be no model
"""


def planted(bundle: Bundle, format: str, name: str) -> bytes:
    members = attacks.read(bundle.read(bundle.artifact(format).file))
    ATTACKS[format, name](members)
    return attacks.written(members)


@pytest.fixture(scope="module")
def done(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each attack, after PyTorch has opened its file there."""
    root = tmp_path_factory.mktemp("attacks")
    folders = []
    for format, name in ATTACKS:
        folders.append(root / format / name)
        folders[-1].mkdir(parents=True)
        (folders[-1] / format).write_bytes(planted(shared_bundle, format, name))
    subprocess.run([sys.executable, "-c", OPEN_ALL, *map(str, folders)], check=True, timeout=300)
    return root


def forged(bundle: Bundle, file: str, content: bytes, *, trust: Trust) -> Bundle:
    """The bundle with another content of a file, its digests renewed as a forger would."""
    (bundle.path / file).write_bytes(content)

    def digest(item: FileDigest) -> FileDigest:
        return digest_file(bundle.path, bundle.path / item.path)

    artifacts = tuple(replace(item, file=digest(item.file)) for item in bundle.artifacts)
    renewed = replace(bundle, artifacts=artifacts, files=tuple(map(digest, bundle.files)))
    (bundle.path / MANIFEST).write_text(json.dumps(renewed.to_json()))
    return Bundle.open(bundle.path, trust)


@needs_torch
@EACH
def test_pytorch_alone_does_the_deed(done: Path, format: str, name: str) -> None:
    assert (done / format / name / "deed").exists()


@EACH
def test_the_file_is_refused_before_pytorch_reads_it(
    bundle: Bundle, format: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = planted(bundle, format, name)
    with pytest.raises(BundleError, match=r"was not opened: .* Onward opens only operators and tensors"):
        CHECKS[format](data)
    file = bundle.artifact(format).file.path
    stranger = forged(bundle, file, data, trust=Trust())
    with pytest.raises(TrustError):
        open_artifact(stranger, stranger.artifact(format))
    trusted = Bundle.open(bundle.path, Trust(by_word=True))
    if TORCH_IS_INSTALLED:
        for spec in BACKENDS.values():
            if spec.format == format:
                with pytest.raises(BundleError, match="was not opened"):
                    open_artifact(trusted, trusted.artifact(format), backend=spec.name)
        with pytest.raises(BundleError, match="was not opened"):
            verify(trusted)
    assert not (tmp_path / "deed").exists()


@pytest.mark.parametrize("format", CHECKS)
def test_a_good_file_passes_and_what_is_opened_is_what_was_checked(shared_bundle: Bundle, format: str) -> None:
    data = shared_bundle.read(shared_bundle.artifact(format).file)
    checked = CHECKS[format](data)
    assert CHECKS[format](checked) == checked
    before, after = attacks.read(data), attacks.read(checked)
    assert {name: before[name] for name in after} == after
    assert all(name.startswith("traced_inputs") for name in set(before) - set(after))


# Archives


@pytest.mark.parametrize("format", CHECKS)
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("extra/notes.txt", "it holds 'extra/notes.txt'"),
        ("data/aotinductor/model/deed.so", "it holds 'data/aotinductor/model/deed.so'"),
        ("../outside", r"it holds '\.\./outside'"),
        ("version/../../x", "it holds"),
        ("Byteorder", "it has 'Byteorder' twice"),
    ],
)
def test_members_that_are_no_program_are_refused(shared_bundle: Bundle, format: str, name: str, reason: str) -> None:
    members = attacks.read(shared_bundle.read(shared_bundle.artifact(format).file))
    with pytest.raises(BundleError, match=reason):
        CHECKS[format](attacks.written({**members, name: b""}))


def test_an_archive_is_read_strictly() -> None:
    data = write_archive({"a": b"1", "b": b"2"})
    assert {name: bytes(content) for name, content in read_archive(data, "x", ["a"]).items()} == {"a": b"1", "b": b"2"}
    with pytest.raises(BackendError, match="it has no c"):
        read_archive(data, "x", ["c"])
    for broken in (b"", b"no zip", data[: len(data) // 2]):
        with pytest.raises(BackendError, match="damaged or no archive"):
            read_archive(broken, "x", [])
    twice = data.replace(b"model/b", b"model/a")
    with pytest.raises(BundleError, match="it has 'a' twice"):
        read_archive(twice, "x", [])
    other = data.replace(b"model/b", b"fodel/b")
    with pytest.raises(BundleError, match="is not in the archive's one folder"):
        read_archive(other, "x", [])


# Programs


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s77', positive=True, integer=True)",
        "Mul(Integer(2), Symbol('s77', positive=True, integer=True))",
        "Min(Integer(8), Mul(Integer(-3), Symbol('u0', integer=True)))",
        "Add(Pow(Symbol('s0'), Integer(2)), Pow(Symbol('s1'), Integer(-1)), Float('0.5', precision=53))",
        "s77",
    ],
)
def test_sizes_are_expressions(text: str) -> None:
    check_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('id')",
        "Symbol('s77', cls=__import__)",
        'Symbol("s77\', x")',
        "Integer('__import__(\"os\")')",
        "Add('exec()', Integer(1))",
        "().__class__",
        "(lambda: 1)()",
        "[x for x in ()]",
        "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
        "Pow(Integer(9), Integer(999999999))",
        "Pow(Pow(Pow(Pow(Pow(Integer(9), Integer(9)), Integer(9)), Integer(9)), Integer(9)), Integer(9))",
        "f'{1}'",
        "9**9**9",
        "Integer(1) if x else y",
        "Symbol('s77') or s1",
        "s77; s78",
        "x := 1",
        "(" * 500 + ")" * 500,
        "1" * 20_000,
        None,
        7,
    ],
)
def test_sizes_that_are_more_than_arithmetic_are_refused(text: object) -> None:
    with pytest.raises(BundleError, match="a size in its program"):
        check_expression(text)


def test_guards_compare_sizes() -> None:
    check_guards(
        ["L['inputs'][0].size()[1] == L['inputs'][1].size()[1]", "L['x'].size()[0] % 2 == 0 and L['y'].ndim > 1"]
    )


@pytest.mark.parametrize(
    "guard",
    [
        "exec('x')",
        "L['x'].__class__",
        "L['x'].size(1)",
        "L['x'].tolist()",
        "M[0]",
        "[1]",
        "f'{1}'",
        "x(",
        "1 if L else 2",
    ],
)
def test_guards_that_call_anything_are_refused(guard: str) -> None:
    with pytest.raises(BundleError, match="a guard of its program"):
        check_guards([guard])


CHANGES: dict[str, tuple[str, str, str]] = {
    "a function of torch": ('"torch.ops.aten.relu.default"', '"torch.load"', "calls torch.load"),
    "a module of Python": ('"torch.ops.aten.relu.default"', '"torch.os.system"', "calls torch.os.system"),
    "a method of an operator": ('"torch.ops.aten.relu.default"', '"torch.ops.aten.relu._op"', "calls"),
    "a delegate": ('"torch.ops.aten.relu.default"', '"torch.ops.higher_order.executorch_call_delegate"', "calls"),
    "another namespace": ('"torch.ops.aten.relu.default"', '"torch.ops.image.read_file.default"', "calls"),
    "an unknown key": ('"is_hop_single_tensor_return"', '"as_python"', "which Onward does not know"),
    "a class of C++": ('"custom_obj_values": {}', '"custom_obj_values": {"x": {}}', "objects that are no tensors"),
    "a note": ('"torch_fn"', '"source_fn_stack"', "in the notes of a node"),
    "a code path": ('"model.features.0.weight"', '"model\\"+x+\\""', "a tensor in its program is named"),
    "a named tuple": ("builtins.tuple", "collections.namedtuple", "its inputs or outputs are a"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_program_that_says_more_is_refused(shared_bundle: Bundle, change: str) -> None:
    old, new, reason = CHANGES[change]
    members = attacks.read(shared_bundle.read(shared_bundle.artifact("pt2").file))
    text = members[attacks.MODEL].decode()
    assert old in text
    members[attacks.MODEL] = text.replace(old, new).encode()
    with pytest.raises(BundleError, match=reason):
        check_pt2(attacks.written(members))


def test_a_tensor_of_gigabytes_in_a_few_bytes_is_refused(shared_bundle: Bundle) -> None:
    members = attacks.read(shared_bundle.read(shared_bundle.artifact("pt2").file))
    config = json.loads(members[attacks.WEIGHTS])
    first = next(iter(config["config"].values()))["tensor_meta"]
    first["sizes"] = [{"as_int": 1 << 20}, {"as_int": 1 << 12}]
    first["strides"] = [{"as_int": 0}, {"as_int": 0}]
    members[attacks.WEIGHTS] = json.dumps(config).encode()
    with pytest.raises(BundleError, match=r"would take 16\.0 GiB more than the file has"):
        check_pt2(attacks.written(members))


# TorchScript

CODE = "class Net(Module):\n  def forward(self: __torch__.net.Net,\n    x: Tensor) -> Tensor:\n    {}\n"


def refusal(statement: str) -> str:
    try:
        check_code({"__torch__.net": CODE.format(statement)})
    except OnwardError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "statement",
    [
        "return torch.relu(x)",
        "return ops.torchvision.nms(x, x, 0.5)",
        'y = annotate(List[int], [])\n    return torch.einsum("ab,bc->ac", [x, x])',
        'z = getattr(self, "0")\n    return (z).forward(x, )',
        "y = __torch__.net.Net\n    return x",
        'ops.prim.RaiseException("it is \\"wrong\\"\\n")\n    return x',
        "n = CONSTANTS.c0\n    for _0 in range(int(n)):\n      x = torch.add(x, -inf)\n    return x",
    ],
)
def test_code_of_networks_passes(statement: str) -> None:
    assert refusal(statement) == ""


@pytest.mark.parametrize(
    "statement",
    [
        "return torch.from_file('a')",
        "torch.save(x, 'a')",
        "y = torch",
        "y = ops",
        "y = ops.prim",
        "y = ops.image.read_file('a')",
        "y = ops.prim.rpc_async",
        "y = fork(torch.relu, x)",
        "fork = torch.relu",
        "print(x)",
        "y = unknown(x)",
        "y = __torch__.torch.classes.dist_rpc.Store",
        "y = __torch__.elsewhere",
        "y = __torch__",
        "y = x._nested_view_from_buffer(x)",
        "y = x.set_(x)",
        "y = (x).resize_([1])",
        "import os",
        "y = lambda: 1",
        "y = [a for a in x]",
        "y = f'{x}'",
        "y = b'x'",
        "y = r'x'",
        "y = 'a' 'b'",
        "y = '''a'''",
        "y = 'a\\x41'",
        "y = 1 # comment",
        "y = 1 + \\\n 2",
        "y = é",
        "y = ^Python(1)(x)",
        "with x: pass",
        "y = x @ (yield)",
        "del x",
        "y = 1j",
        "y = ...",
    ],
)
def test_code_that_a_network_does_not_need_is_refused(statement: str) -> None:
    assert "was not opened" in refusal(statement)


def test_classes_of_another_kind_are_refused() -> None:
    for text in ("class A(Engine):\n  pass\n", "@x\ndef f():\n  pass\n", "class A(Module, metaclass=B):\n  pass\n"):
        with pytest.raises(BundleError, match="unusual syntax"):
            check_code({"__torch__.net": text})
    with pytest.raises(BundleError, match="its code defines"):
        check_code({"__torch__.torch.classes.net": "class A(Module):\n  pass\n"})


#: The beginning of a storage in data/0, up to the number of its values.
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"


def with_pickle(bundle: Bundle, content: bytes) -> bytes:
    members = attacks.read(bundle.read(bundle.artifact("torchscript").file))
    return attacks.written({**members, "data.pkl": content})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (attacks.PICKLE, "names builtins.exec"),
        (b"\x80\x02c__torch__.torch.classes.dist_rpc\nStore\n)\x81.", "names __torch__.torch.classes"),
        (b"\x80\x02ctorch.jit._pickle\nbuild_tensor_from_id\n.", "names torch.jit._pickle.build_tensor_from_id"),
        (
            b"\x80\x02" + STORAGE + b"J\x00\x00\x00\x07tQ.",
            "has 117,440,512 numbers in data/0",
        ),
    ],
    ids=["exec", "a class of C++", "a tensor of elsewhere", "beyond its bytes"],
)
def test_pickles_name_tensors_and_classes_of_the_file_only(shared_bundle: Bundle, content: bytes, reason: str) -> None:
    with pytest.raises(BundleError, match=reason):
        check_torchscript(with_pickle(shared_bundle, content))


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(shared_bundle: Bundle) -> None:
    storage = STORAGE + b"K\1tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K%c(K%ct(K%ct\x89ccollections\nOrderedDict\n)RtR"
    for offset, size, stride in ((1, 1, 1), (0, 2, 1), (0, 255, 255)):
        with pytest.raises(BundleError, match="a tensor reaches number"):
            check_torchscript(with_pickle(shared_bundle, b"\x80\x02" + tensor % (offset, size, stride) + b"."))
    check_torchscript(with_pickle(shared_bundle, b"\x80\x02" + tensor % (0, 1, 1) + b"."))


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"\x80\x02Q.", b"\x80\x02K\1K\2R.", b"\x80\x02(((", b"\xff"])
def test_a_damaged_pickle_is_a_backend_error(shared_bundle: Bundle, content: bytes) -> None:
    with pytest.raises(BackendError, match=r"data\.pkl is damaged"):
        check_torchscript(with_pickle(shared_bundle, content))


# Operators


@needs_torch
def test_operators_that_take_a_file_name_are_refused() -> None:
    """Whoever opens a file must be told its name: every operator with text was looked at."""
    import torch

    with_text = {
        (schema.name.partition("::")[2], argument.name)
        for schema in torch._C._jit_get_all_schemas()
        for argument in schema.arguments
        if schema.name.startswith("aten::") and "str" in str(argument.type)
    }
    assert {name for name, argument in with_text if "file" in argument or "path" in argument} == {"from_file", "save"}
    known = """
        UPLO a activation algorithm api_name approximate assert_msg b chars device_type dict driver el equation fillchar
        idx indexing input inputs interpolation item key l message mode new norm old ord p pad_mode padding padding_side
        reduce rounding_mode s self separator side string substr t to_add type values
        """
    left = {
        (name, argument) for name, argument in with_text if argument not in known.split() and is_allowed("aten", name)
    }
    assert not left, "new operators take text: what do they do with it?"


@pytest.mark.parametrize(
    ("namespace", "name"),
    [
        ("aten", "from_file"),
        ("aten", "save"),
        ("aten", "set_"),
        ("aten", "_nested_view_from_buffer"),
        ("aten", "_reshape_alias"),
        ("aten", "__class__"),
        ("aten", "a.b"),
        ("prim", "rpc_async"),
        ("prim", "PythonOp"),
        ("image", "read_file"),
        ("torchvision", "_cuda_version"),
        ("higher_order", "call_torchbind"),
        ("", "add"),
    ],
)
def test_operators_that_do_more_than_compute_are_refused(namespace: str, name: str) -> None:
    assert not is_allowed(namespace, name)
    assert is_allowed("aten", "add")


@needs_torch
@pytest.mark.parametrize("format", CHECKS)
def test_bytes_are_checked_wherever_they_come_from(shared_bundle: Bundle, format: str) -> None:
    """The gate, an app, a benchmark: all open through `open_backend`."""
    name = next(name for kind, name in ATTACKS if kind == format)
    with pytest.raises(BundleError, match="was not opened"):
        open_backend(format, planted(shared_bundle, format, name), shared_bundle.signature)
