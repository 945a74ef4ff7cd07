"""The code of a TorchScript file, read as text before `torch.jit.load` compiles it.

TorchScript is written in a part of Python's syntax, so Python's own parser reads it. What the two could read
differently is refused before: comments, prefixed or joined strings, unusual escapes, characters beyond ASCII.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping

from onward.bundle.torch_archive import refuse
from onward.bundle.torch_operators import REFUSED, is_allowed

__all__ = ["ROOT", "WHAT", "check_code"]

WHAT = "TorchScript"
#: The package of all classes and functions in the file.
ROOT = "__torch__"
#: Classes in it that PyTorch and extensions define in C++: sockets, profilers, compiled engines.
NATIVE = f"{ROOT}.torch.classes"
STRING = re.compile(r'"(?:[^"\\\n]|\\[nt"\'\\])*"' + r"|'(?:[^'\\\n]|\\[nt\"'\\])*'")
#: Where strings are `\0`: other quotes, comments, continued lines, prefixes of strings, and strings side by side.
UNUSUAL = re.compile(r"""["'#\\`$?!]|[\w\0]\0|\0\w|\0\s+\0""")
SYNTAX = (
    ast.Module, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.keyword,
    ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Expr, ast.Assert, ast.Raise,
    ast.If, ast.IfExp, ast.While, ast.For, ast.Pass, ast.Break, ast.Continue,
    ast.Call, ast.Attribute, ast.Name, ast.Subscript, ast.Slice, ast.List, ast.Tuple, ast.Dict,
    ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context,
)  # fmt: skip
#: Names of TorchScript itself that code may use: functions, constants, types.
KNOWN = frozenset(
    re.findall(
        r"\S+",
        """
        Exception abs all annotate any bin bool chr complex dict divmod enumerate float getattr hasattr hex int
        isinstance len list max min oct ord pow range reversed round sorted str sum tuple unchecked_cast uninitialized
        zip AssertionError IndexError KeyError NotImplementedError RuntimeError TypeError ValueError
        CONSTANTS inf nan infj nanj
        Any Device Dict Final List NoneType Optional Tensor Tuple Union number
        """,
    )
)
#: Names that start other threads or processes, or write to the terminal; no variable has one of them, either.
FORBIDDEN = frozenset(("fork", "awaitable", "print", "rpc_async", "rpc_remote", "rpc_sync"))
NAMESPACES = (ROOT, "torch", "ops")
BASES = frozenset(("Module", "NamedTuple", "Enum", "ModuleInterface", "Interface"))
#: Methods of tensors that reach memory behind their end; those of modules have other names.
UNSAFE_METHODS = re.compile(
    r"_(nested|sparse|resize|reshape_alias|copy_from_and|coalesced|fw_primal|make_dual|test)\w*"
)
METHODS_REFUSED = {name for name in REFUSED if name.endswith("_")} | {"set_data", "record_stream", "data_ptr"}


def check_code(files: Mapping[str, str]) -> frozenset[str]:
    """Check all code of a file.

    Args:
        files: Qualified name of a module, `__torch__.nets` -> its code.

    Returns:
        Qualified names of the classes and functions that it defines.

    Raises:
        BundleError: It has more than a network needs.
    """
    trees = {name: _parse(name, text) for name, text in files.items()}
    defined = frozenset(f"{name}.{item}" for name, tree in trees.items() for item in _definitions(tree))
    for module, tree in trees.items():
        if module == NATIVE or module.startswith(f"{NATIVE}."):
            refuse(WHAT, f"its code defines {module}")
        for node in ast.walk(tree):
            _check_node(node)
            if isinstance(node, ast.FunctionDef):
                _check_names(node)
        for chain in _chains(tree):
            _check_chain(chain, defined)
    return defined


def _parse(name: str, text: str) -> ast.Module:
    rest = STRING.sub("\0", text)
    if "\0" in text or not text.isascii() or not rest.replace("\n", "").replace("\0", "").isprintable():
        refuse(WHAT, f"the code of {name} has unusual characters")
    if found := UNUSUAL.search(rest):
        refuse(WHAT, f"the code of {name} has the unusual syntax {found[0]!r}")
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        refuse(WHAT, f"the code of {name} cannot be read: {error}")


def _definitions(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield node.name


def _check_node(node: ast.AST) -> None:
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str()):
            return
        case ast.ClassDef(bases=bases, keywords=[], decorator_list=[]):
            if all(isinstance(base, ast.Name) and base.id in BASES for base in bases):
                return
        case ast.FunctionDef(decorator_list=[]):
            return
        case ast.Call(func=ast.Name() | ast.Attribute()):
            return
        case ast.ClassDef() | ast.FunctionDef() | ast.Call():
            pass
        case _ if isinstance(node, SYNTAX):
            return
    refuse(WHAT, f"its code has the unusual syntax {ast.unparse(node)[:80]!r}")


def _check_names(function: ast.FunctionDef) -> None:
    """Every name in a function is one of its own, or known."""
    names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
    own = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    own |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
    for name in own | {node.id for node in names}:
        if name in FORBIDDEN or (name not in own and name not in KNOWN and name not in NAMESPACES):
            refuse(WHAT, f"its code uses {name}")


def _chains(tree: ast.AST) -> Iterator[list[str]]:
    """Every name with its attributes, `torch.add` as `["torch", "add"]`; attributes of other values begin with ""."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            yield [node.id, *reversed(parts)]
            continue
        if parts:
            yield ["", *reversed(parts)]
        waiting += ast.iter_child_nodes(node)


def _check_chain(chain: list[str], defined: Iterable[str]) -> None:
    """A namespace may not be taken apart: `x = ops.aten` would call any operator under another name."""
    match chain:
        case ["torch", name] if is_allowed("aten", name):
            return
        case ["ops", namespace, name] if namespace != "higher_order" and is_allowed(namespace, name):
            return
        case ["torch" | "ops", *_]:
            pass
        case [root, *_] if root == ROOT:
            if ".".join(chain) in defined or ".".join(chain[:-1]) in defined:
                return
        case [_, *attributes]:
            unsafe = (name for name in attributes if name in METHODS_REFUSED or UNSAFE_METHODS.fullmatch(name))
            if (found := next(unsafe, None)) is None:
                return
            chain = [found]
    refuse(WHAT, f"its code uses {'.'.join(chain)[:80]}")
