"""Porto's masks and names. Pure."""

from __future__ import annotations

import posixpath
import re
from functools import lru_cache

from ya_salt.devporto.refusal import Refusal, make_invalid
from ya_salt.proto import porto_pb2 as pb

_NAME_CHARS = re.compile(r"[a-zA-Z0-9_\-@:./]*\Z")
_LABEL = re.compile(r"[A-Z]{2,16}\.[a-zA-Z0-9_\-@:.]*\Z")
_LABEL_VALUE = re.compile(r"[a-zA-Z0-9_\-@:.]*\Z")
_LABEL_NAME_MAX = 128
_LABEL_VALUE_MAX = 65536
_PART_MAX = 128
_PATH_MAX = 200
_PATH_MAX_ROOT = 220
LABEL_COUNT_MAX = 100


def is_mask(name: str) -> bool:
    return "*" in name or "?" in name


def match_mask(text: str, mask: str) -> bool:
    """`*` and `?` stop at `/`; a `***` at either end does not."""
    if mask == "***":
        return True
    if mask.endswith("***"):
        return text.startswith(mask[: mask.index("***")])
    if mask.startswith("***"):
        return text.endswith(mask[3:])
    return _compile_mask(mask).match(text) is not None


@lru_cache(256)
def _compile_mask(mask: str) -> re.Pattern[str]:
    """fnmatch(3) with FNM_PATHNAME."""
    out, index = "", 0
    while index < len(mask):
        char = mask[index]
        index += 1
        if char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[" and (bracket := re.match(r"([!^]?)(\]?[^\]]*)\]", mask[index:])):
            negation = "^/" if bracket[1] else ""
            out += f"(?!/)[{negation}{bracket[2]}]".replace("\\", "\\\\")
            index += bracket.end()
        elif char == "\\" and index < len(mask):
            out += re.escape(mask[index])
            index += 1
        else:
            out += re.escape(char)
    return re.compile(out + r"\Z", re.DOTALL)


def check_name(name: str, *, superuser: bool) -> None:
    """Accept a full container name. Raises Refusal(InvalidValue)."""
    limit = _PATH_MAX_ROOT if superuser else _PATH_MAX
    if not name or len(name) > limit:
        raise make_invalid(f"container path is empty or longer than {limit}")
    if name == "/":
        return
    for part in name.split("/"):
        if not part or len(part) > _PART_MAX or part in ("self", "."):
            raise make_invalid(f"bad component in container path: {name}")
    if not _NAME_CHARS.match(name):
        raise make_invalid(f"forbidden character in container path: {name}")


def normalize_path(path: str) -> str:
    """Without empty parts, `.` and `..`; empty stays empty."""
    if not path:
        return ""
    normal = posixpath.normpath(path)
    return normal[1:] if normal.startswith("//") else normal


def check_label(label: str, value: str) -> None:
    """Accept a label and its value. Raises Refusal(InvalidLabel)."""
    long = len(label) > _LABEL_NAME_MAX or len(value) > _LABEL_VALUE_MAX
    if long or not _LABEL.match(label) or label.startswith("PORTO"):
        raise Refusal(pb.InvalidLabel, f"Invalid label name: {label}")
    if not _LABEL_VALUE.match(value):
        raise Refusal(pb.InvalidLabel, f"Invalid label value: {value}")
