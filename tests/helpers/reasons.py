"""Reason codes as the code has them: read from its syntax trees, so that none can be forgotten."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import ya_salt
from ya_salt.converge.status import _NOT_RUNNING
from ya_salt.packages.failures import _SCRIPT_FILES
from ya_salt.proto import porto_pb2

ROOM = Path(ya_salt.__file__).parent
CODE = re.compile(r"(?:[A-Z][a-z]+)+\Z")

_FIRST = {"PackageError", "Failure", "Deferral"}
"""What is made with the code in the first place."""

_SECOND = {"GateError", "_Verdict"}

_NAMED = {"reason", "refusal_reason"}

_PORTO = re.compile(r"Porto\w*Error\Z")


def read_package_codes() -> set[str]:
    """Those of ya_salt/packages."""
    found = read_codes(*sorted((ROOM / "packages").glob("*.py")))
    scripts = {f"{script.capitalize()}Failed" for script in _SCRIPT_FILES.values()}
    # `…Failed` of a script is put together when it happens.
    return (found - {"Failed"}) | scripts


def read_status_codes() -> set[str]:
    """Every one that a condition of `status` can have, or that its message can begin with."""
    folders = ("converge", "gate", "packages", "porto")
    files = [file for folder in folders for file in sorted((ROOM / folder).glob("*.py"))]
    states = {state.capitalize() for state in _NOT_RUNNING}
    codes = set(porto_pb2.EError.keys()) - {"Success"}
    found = read_codes(*files, ROOM / "errors.py", ROOM / "model.py")
    return found | read_package_codes() | states | codes


def read_codes(*files: Path) -> set[str]:
    trees = [ast.parse(file.read_text()) for file in files]
    constants: dict[str, set[str]] = {}
    for name, value in (pair for tree in trees for pair in _find_constants(tree)):
        if CODE.match(value):
            constants.setdefault(name, set()).add(value)
    return {code for tree in trees for code in _find_codes(tree, constants)}


def _find_constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(value))):
                yield name, value


def _find_codes(tree: ast.AST, constants: Mapping[str, set[str]]) -> Iterator[str]:
    """Arguments of what carries a code, returned pairs, defaults, and what is called `reason`."""
    for node in ast.walk(tree):
        for part in _find_places(node):
            yield from _find_texts(part, constants)


def _find_places(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args, keywords=named):
            yield from (item.value for item in named if item.arg in _NAMED)
            place = 0 if name in _FIRST or _PORTO.match(name) else 1 if name in _SECOND else None
            if place is not None:
                yield from args[place : place + 1]
        case ast.Return(value=ast.Tuple(elts=[first, _])):
            yield first
        case ast.Assign(targets=[ast.Name(id="reason")], value=value):
            yield value
        case ast.FunctionDef(args=ast.arguments(args=args, defaults=defaults)):
            pairs = zip(reversed(args), reversed(defaults), strict=False)
            yield from (value for argument, value in pairs if argument.arg in _NAMED)


def _find_texts(node: ast.AST, constants: Mapping[str, set[str]]) -> Iterator[str]:
    for part in ast.walk(node):
        match part:
            case ast.Constant(value=str(text)) if CODE.match(text):
                yield text
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in constants:
                yield from constants[name]
