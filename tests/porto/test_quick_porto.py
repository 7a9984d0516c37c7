"""The messages made of protobuf's C part are those that protoc's code makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.internal import api_implementation

from ya_salt.proto import porto_pb2, quick_porto
from ya_salt.proto.porto_file import FILE

ROOT = Path(__file__).parents[2]

EXCHANGE = """if 1:
    import sys
    from ya_salt.proto import quick_porto as pb
    request = pb.TContainerRequest()
    request.get.name.append("a")
    request.get.variable.append("state")
    print(request.SerializeToString().hex())
    answer = pb.TContainerResponse.FromString(bytes.fromhex("0804120162"))
    print(pb.EError.Name(answer.error), answer.errorMsg, pb.Success, not answer.HasField('get'))
    print("google.protobuf.text_format" in sys.modules, "ya_salt.proto.porto_pb2" in sys.modules)
"""
SAID = "7a0a0a016112057374617465\nContainerDoesNotExist b'b' 0 True\n"


def exchange(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", EXCHANGE],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_is_made_of_the_same_file() -> None:
    assert porto_pb2.DESCRIPTOR.serialized_pb == FILE


def test_has_the_same_classes() -> None:
    for name in quick_porto.__all__:
        ours, theirs = getattr(quick_porto, name), getattr(porto_pb2, name)
        assert ours is theirs or ours.DESCRIPTOR is theirs.DESCRIPTOR, name


@pytest.mark.skipif(api_implementation.Type() != "upb", reason="this protobuf has no such C part")
def test_nothing_else_of_protobuf_is_loaded() -> None:
    assert exchange() == f"{SAID}False False\n"


def test_speaks_the_same_without_the_c_part() -> None:
    said = exchange(PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python")
    assert said == f"{SAID}True True\n"


def test_speaks_the_same_where_the_c_part_has_become_another() -> None:
    """What it refuses, here a file of messages, or does not have any more is done by protoc."""
    spoilt = "from ya_salt.proto import porto_file; porto_file.FILE = b'\\xff'\n"
    done = subprocess.run(
        [sys.executable, "-c", spoilt + EXCHANGE.replace("if 1:", "if True:")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(SAID)
