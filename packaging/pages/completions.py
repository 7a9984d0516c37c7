"""Completions for bash, zsh and fish: shtab's, with the names of this host's daemons.

Names come from the files of the daemons directory, which everybody may list: neither ya-salt, nor
portod, nor root is asked, so that a Tab is answered at once.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import shtab

SHELLS = ("bash", "zsh", "fish")

_LIST = r"""
prefix=$1 dir=$YA_SALT_SPECS_DIR config=${YA_SALT_CONFIG:-/etc/hostman/ya-salt.yaml}
while [ $# -gt 1 ]; do
    shift
    case $1 in
        --specs-dir=*) dir=${1#*=} ;;
        --specs-dir) dir=$2 ;;
        --config=*) config=${1#*=} ;;
        --config) config=$2 ;;
    esac
done
[ -n "$dir" ] || dir=$(sed -n "s/^specs_dir: *[\"']\{0,1\}\([^\"'#]*[^\"'# ]\).*/\1/p" "$config")
[ -n "$dir" ] || dir=/etc/hostman/porto-daemons.d
set --
for file in "$dir"/*.yaml "$dir"/*.yml "$dir"/*.json; do
    [ ! -f "$file" ] || [ -L "$file" ] || [ ! -r "$file" ] || set -- "$@" "$file"
done
[ $# = 0 ] || awk -v prefix="$prefix" '
    FNR == 1 { inside = done = 0 }
    done { next }
    !inside && match($0, /^[{ \t]*"?meta"?[ \t]*:/) { inside = 1; $0 = " " substr($0, RLENGTH + 1) }
    inside && match($0, /[{, \t]"?name"?[ \t]*:[ \t]*/) {
        name = substr($0, RSTART + RLENGTH)
        sub(/^["\47]/, "", name)
        sub(/["\47,} \t].*$/, "", name)
        if (name ~ /^[A-Za-z0-9_@:.-]+$/) print prefix name
        done = 1
    }' "$@"
"""
"""POSIX sh. Arguments: what stands before each name, then the words of the command line."""

_DAEMONS: Mapping[str, str] = {
    "bash": """\
_{id}_daemons() {{
  compgen -W "$(sh -c {script} sh "{prefix}" "${{COMP_WORDS[@]}}" 2>/dev/null)" -- "$1"
}}""",
    "zsh": """\
_{id}_daemons() {{
  local -a names
  names=(${{(f)"$(sh -c {script} sh "{prefix}" "${{(@Q)${{(z)BUFFER}}}}" 2>/dev/null)"}})
  compadd -a names
}}""",
    "fish": """\
function _{id}_daemons
  sh -c {script} sh "{prefix}" (commandline -opc) 2>/dev/null
end""",
}

_WORDS: Mapping[str, str] = {
    "bash": '_{id}_fields() {{\n  compgen -W "{words}" -- "$1"\n}}',
    "zsh": "_{id}_fields() {{\n  compadd -- {words}\n}}",
    "fish": "function _{id}_fields\n  string split ' ' '{words}'\nend",
}

_WHOLE_WORDS = r"""
# bash cuts words at ":" and "=", too: a daemon's name may have the one, --flag=value has the other.
_PROGRAM_whole_words() {
  local rest=$COMP_LINE flag= kept index blank word
  local -a words=()
  for (( index = 0; index <= COMP_CWORD; index++ )); do
    word=${COMP_WORDS[index]}
    blank=${rest%%[![:space:]]*}
    rest=${rest#"$blank"}
    rest=${rest#"$word"}
    kept=
    if [[ -z $blank && index -gt 0 && ( $word == [:=]* || ${COMP_WORDS[index-1]} == [:=]* ) ]]; then
      kept=${words[-1]}
      [[ $word != [:=]* ]] || kept+=$word
      words[-1]+=$word
    else
      words+=("$word")
    fi
  done
  local -a COMP_WORDS=()
  for word in "${words[@]}"; do
    flag=
    [[ $word != --*=* ]] || flag=${word%%=*}
    COMP_WORDS+=(${flag:+"$flag"} "${word#"${flag:+$flag=}"}")
  done
  local COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
  _shtab_PROGRAM
  # Only what comes after the last cut is replaced.
  for index in "${!COMPREPLY[@]}"; do
    word=${flag:+$flag=}${COMPREPLY[index]}
    COMPREPLY[index]=${word#"$kept"}
  done
}
"""


def render(parser: argparse.ArgumentParser, shell: str, prefix: str, fields: Sequence[str]) -> str:
    """The script for one shell. `prefix` makes of a daemon's name what the program wants.

    `fields` are the paths that an argument called FIELD may be.
    """
    name = parser.prog.replace("-", "_")
    known: dict[str, Any] = {
        "FILE": shtab.FILE,
        "PATH": shtab.FILE,
        "DIR": shtab.DIRECTORY,
        "NAME": _call(f"_{name}_daemons"),
        "RULE": _call(f"_{name}_daemons"),
        "FIELD": _call(f"_{name}_fields"),
    }
    used = _mark(parser, known)
    parts = []
    if used & {"NAME", "RULE"}:
        script = _quote(_LIST, shell)
        parts.append(_DAEMONS[shell].format(id=name, script=script, prefix=prefix))
    if "FIELD" in used:
        parts.append(_WORDS[shell].format(id=name, words=" ".join(fields)))
    script = shtab.complete(parser, shell, preamble="\n\n".join(parts))
    if shell == "bash":
        return _mend_bash(script, name)
    return _mend_zsh(script) if shell == "zsh" else script


def _mend_bash(script: str, name: str) -> str:
    """By itself shtab 1.13 takes words as bash cuts them."""
    begin, complete, end = script.rpartition("\ncomplete ")
    whole = _WHOLE_WORDS.replace("PROGRAM", name)
    return f"{begin}{whole}{complete}{end.replace(f'-F _shtab_{name}', f'-F _{name}_whole_words')}"


def _mend_zsh(script: str) -> str:
    """What may be given more than once is offered more than once; shtab 1.13 has it once."""
    return re.sub(r'^  "\(\*\)::?', '  "*:', script, flags=re.MULTILINE)


def _call(function: str) -> dict[str, str]:
    return {"bash": function, "zsh": function, "fish": f"({function})"}


def _mark(parser: argparse.ArgumentParser, known: Mapping[str, Any]) -> set[str]:
    """Say of each argument how it is completed; the words that were met."""
    met = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                met |= _mark(command, known)
        elif isinstance(action.metavar, str) and action.metavar in known:
            action.complete = known[action.metavar]  # type: ignore[attr-defined]
            met.add(action.metavar)
    return met


def _quote(text: str, shell: str) -> str:
    if shell == "fish":
        return "'" + text.replace("\\", r"\\").replace("'", r"\'") + "'"
    return shlex.quote(text)
