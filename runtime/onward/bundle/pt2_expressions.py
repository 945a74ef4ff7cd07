"""Expressions of a .pt2 file: sizes, which PyTorch gives to sympy, and guards. Both are evaluated as Python there."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any

from onward.bundle.torch_archive import refuse

__all__ = ["SYMBOL", "WHAT", "check_expression", "check_guards"]

WHAT = ".pt2"
#: What an expression of sizes may call.
SIZE_EXPRESSIONS = frozenset(
    re.findall(
        r"\S+",
        """
    Symbol Integer Rational Float Add Mul Pow Max Min Mod PythonMod FloorDiv CeilDiv CleanDiv ModularIndexing
    IntTrueDiv FloatTrueDiv ToFloat TruncToInt FloorToInt CeilToInt RoundToInt TruncToFloat Identity Where
    Eq Ne Lt Le Gt Ge And Or Not Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan
    """,
    )
)
SYMBOL = re.compile(r"[a-z]{1,3}\d{1,6}")
MAX_EXPRESSION = 10_000
MAX_EXPONENT, MAX_POWERS = 16, 4
#: What a guard compares: sizes of inputs.
GUARD_METHODS = frozenset(re.findall(r"\S+", "size stride storage_offset dim numel"))


def check_expression(text: Any) -> None:
    """Sizes as sympy writes them: `Mul(Integer(2), Symbol('s77', positive=True, integer=True))`."""
    if not isinstance(text, str) or len(text) > MAX_EXPRESSION:
        refuse(WHAT, "a size in its program is no expression, or far too long")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        refuse(WHAT, f"a size in its program is {text[:80]!r}")
    powers = 0
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))]) if SYMBOL.fullmatch(name):
                pass
            case ast.Call(func=ast.Name(id="Pow"), args=[_, exponent], keywords=[]) if _is_small(exponent):
                powers += 1
            case ast.Call(func=ast.Name(id=name), args=args) if name in SIZE_EXPRESSIONS - {"Symbol", "Pow"}:
                if any(isinstance(item, ast.Constant) and isinstance(item.value, str) for item in args) != (
                    name == "Float"
                ):
                    refuse(WHAT, f"a size in its program is {text[:80]!r}")
            case ast.Name(id=name) if name in SIZE_EXPRESSIONS or SYMBOL.fullmatch(name):
                pass
            case ast.Constant(value=str()):
                pass
            case ast.Constant(value=int() | float() as number) if abs(number) < 1 << 64:
                pass
            case ast.UnaryOp(op=ast.USub()) | ast.Expression() | ast.Load() | ast.USub() | ast.keyword():
                pass
            case _:
                refuse(WHAT, f"a size in its program is {text[:80]!r}")
    if powers > MAX_POWERS:
        refuse(WHAT, f"a size in its program has {powers} powers")


def _is_small(exponent: ast.expr) -> bool:
    match exponent:
        case ast.Call(func=ast.Name(id="Integer"), args=[number], keywords=[]):
            number = number.operand if isinstance(number, ast.UnaryOp) else number
            return isinstance(number, ast.Constant) and isinstance(number.value, int) and number.value <= MAX_EXPONENT
        case ast.Call(func=ast.Name(id="Rational"), args=[ast.Constant(value=1), ast.Constant(value=2)]):
            return True
    return False


def check_guards(guards: Sequence[str]) -> None:
    """Conditions on inputs, which PyTorch compiles as Python: `L['inputs'][0].size()[1] == L['image'].size()[1]`."""
    for guard in guards:
        try:
            nodes = list(ast.walk(ast.parse(guard.strip(), mode="eval"))) if len(guard) < MAX_EXPRESSION else [None]
        except (SyntaxError, ValueError, MemoryError):
            nodes = [None]
        for node in nodes:
            match node:
                case ast.Call(func=ast.Attribute(attr=name), args=[], keywords=[]) if name in GUARD_METHODS:
                    pass
                case ast.Attribute(attr=name) if name in GUARD_METHODS or name in ("shape", "ndim"):
                    pass
                case ast.Name(id="L") | ast.Constant(value=int() | str()):
                    pass
                case ast.Expression() | ast.Subscript() | ast.Compare() | ast.BoolOp() | ast.Load():
                    pass
                case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult() | ast.FloorDiv() | ast.Mod()):
                    pass
                case ast.cmpop() | ast.boolop() | ast.Add() | ast.Sub() | ast.Mult() | ast.FloorDiv() | ast.Mod():
                    pass
                case _:
                    refuse(WHAT, f"a guard of its program is {guard[:80]!r}")
