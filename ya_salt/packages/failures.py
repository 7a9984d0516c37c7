"""What apt and dpkg said when they failed, as reason codes and sentences. Pure.

The words are those of apt 2.x and dpkg 1.2x with LC_ALL=C.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import unquote

from ya_salt.errors import PackageError
from ya_salt.model import InstalledPackage, Package
from ya_salt.names import shorten_package_name, split_architecture
from ya_salt.packages.command import Finished
from ya_salt.quick_dataclass import dataclass, replace

_KEPT_LINES = 10


@dataclass(frozen=True)
class Failure:
    """One thing that went wrong. `package` is "" where it concerns the whole call."""

    reason: str
    message: str
    package: str = ""
    output: str = ""
    is_fetch: bool = False

    def as_error(self) -> PackageError:
        names = (self.package,) if self.package else ()
        return PackageError(self.reason, self.message, packages=names, output=self.output)


_DPKG_ERROR = re.compile(r"dpkg: error processing (?:package|archive) (?P<what>\S+) \(--\w+\):")
_DEPENDS_ON = re.compile(r" (?:\S+) depends on (?P<on>[a-z0-9][a-z0-9+.-]*(?::[a-z0-9-]+)?)")
_STEP = re.compile(r"(?:Preparing to unpack|Unpacking|Setting up|Removing|Purging|Processing)\b")
_SCRIPT = re.compile(
    r"(?:installed|new|old) (?P<package>\S+) package (?P<script>[\w-]+) script subprocess "
    r"(?P<end>.*)"
)
_NO_OTHER_SCRIPT = "there is no script in the new version of the package"
_SCRIPT_FILES = {
    "pre-installation": "preinst",
    "post-installation": "postinst",
    "pre-removal": "prerm",
    "post-removal": "postrm",
}
_ARCHIVE = re.compile(
    r"(?:.*/)?(?P<name>[a-z0-9][a-z0-9+.-]*)_[^/]*?(?:_(?P<arch>[a-z0-9-]+))?(?:\.repacked)?\.deb\Z"
)
_NO_SPACE = re.compile(r"No space left on device|You don't have enough free space|Disk quota")
_FETCH = re.compile(r"[EW]: Failed to fetch (?P<url>\S+)\s*(?P<why>.*)")
_BAD_HASH = re.compile(r"Hash Sum mismatch|unexpected size|Mirror sync in progress")
_NOT_THERE = re.compile(r"404 |File not found")
_UNMET = re.compile(r" (?P<package>[a-z0-9][a-z0-9+.-]*(?::[a-z0-9-]+)?) : (?P<what>.+)")
_LOST_ARCHIVE = re.compile(
    r"E: The package (\S+) needs to be reinstalled, but I can't find an archive"
)
_NEEDS_REPAIR = re.compile(
    r"dpkg was interrupted|--fix-broken install|needs to be reinstalled, but I can't find"
)


def last_lines(lines: Sequence[str], count: int = _KEPT_LINES) -> str:
    return "\n".join(lines[-count:])


def needs_repair(lines: Sequence[str]) -> bool:
    """Whether apt refuses to work until somebody has repaired what was left half-done."""
    return any(_NEEDS_REPAIR.search(line) for line in lines)


def find_lost_archive(lines: Sequence[str]) -> str:
    """Name the half-installed package that apt cannot find any more, or ""."""
    return next((match[1] for match in map(_LOST_ARCHIVE.match, lines) if match), "")


def is_locked(lines: Sequence[str]) -> bool:
    return any("Could not get lock" in line or "Unable to lock" in line for line in lines)


# -- what dpkg said ------------------------------------------------------------------------------


def find_failures(
    lines: Sequence[str],
    hung: Collection[str] = (),
    script_timeout_s: float = 0,
    native: str = "",
) -> tuple[Failure, ...]:
    """Everything that the output names, culprits first; at least one.

    `hung` are the packages whose scripts were ended for taking too long; `native` is the host's
    architecture, which dpkg names beside a package and apt does not.
    """
    found = [
        *_find_dpkg_failures(lines, hung, script_timeout_s, native),
        *_find_fetch_failures(lines, native),
        *_find_unmet(lines),
    ]
    return tuple(found) or (_find_general(lines),)


def make_quiet_failure(lines: Sequence[str]) -> Failure:
    return Failure(
        "AptTimeout",
        "apt-get said nothing for too long and was ended: look at the hooks in etc/apt/apt.conf.d "
        "and at the disk; the next pass repairs and tries again",
        output=last_lines(lines),
    )


def _find_dpkg_failures(
    lines: Sequence[str], hung: Collection[str], script_timeout_s: float, native: str
) -> list[Failure]:
    found: dict[str, Failure] = {}
    for number, line in enumerate(lines):
        if match := _DPKG_ERROR.match(line):
            reasons = _indented(lines, number + 1)
            if _NO_OTHER_SCRIPT in reasons:
                reasons = _find_script_warning(lines[:number]) or reasons
            package = _name_of(match["what"], native)
            if reasons.startswith("dependency problems"):
                found |= _find_blocked(package, lines[:number], found, native)
            else:
                before = _own_lines(lines[:number])
                context = _Context(package, reasons, before, package in hung, script_timeout_s)
                found[package] = _classify_dpkg(context)
    return list(found.values())


def _find_script_warning(lines: Sequence[str]) -> str:
    """What failed before dpkg looked in vain for a script of the other version."""
    return next((line for line in reversed(lines) if _SCRIPT.search(line)), "")


def _find_blocked(
    package: str, lines: Sequence[str], found: Mapping[str, Failure], native: str
) -> dict[str, Failure]:
    """Pass the failure of a dependency on to the package that dpkg therefore left alone."""
    start = max((n for n, line in enumerate(lines) if line.startswith("dpkg: ")), default=0)
    _, architecture = split_architecture(package)
    for match in filter(None, map(_DEPENDS_ON.match, lines[start:])):
        on = shorten_package_name(match["on"], native)
        # A foreign package means one of its own architecture first.
        for name in (f"{on}:{architecture}", on):
            if name in found:
                return {package: replace(found[name], package=package)}
    return {}


@dataclass(frozen=True)
class _Context:
    package: str
    reasons: str
    before: str
    is_hung: bool
    script_timeout_s: float


def _classify_dpkg(at: _Context) -> Failure:
    output = "\n".join(part for part in (at.before, at.reasons) if part)
    for recognise in (_as_script, _as_conflict, _as_no_space):
        if found := recognise(at):
            return Failure(found[0], found[1], at.package, output)
    return Failure(
        "AptFailed", f"dpkg cannot process {at.package}: {at.reasons}", at.package, output
    )


def _as_script(at: _Context) -> tuple[str, str] | None:
    match = _SCRIPT.search(at.reasons)
    if not match:
        return None
    script = _SCRIPT_FILES.get(match["script"], match["script"])
    if at.is_hung:
        return "ScriptTimeout", (
            f"{script} of {at.package} was still running after {at.script_timeout_s:.0f} s and was "
            "ended with everything it started: mend the package, or raise script_timeout_s"
        )
    if _NO_SPACE.search(at.before):
        return "DiskFull", _no_space(f"{script} of {at.package}")
    last = f": {at.before.splitlines()[-1]}" if at.before else ""
    return f"{script.capitalize()}Failed", (
        f"{script} of {at.package} failed ({match['end'].removeprefix('returned error ')}){last}; "
        "mend the package or name another version; the next pass tries again"
    )


def _as_conflict(at: _Context) -> tuple[str, str] | None:
    match = re.search(r"trying to overwrite '(.*)', which is also in package (\S+)", at.reasons)
    if not match and "conflicting packages" not in at.reasons:
        return None
    what = f"both it and {match[2]} own {match[1]}" if match else at.reasons
    return "Conflict", f"{at.package} cannot be installed: {what}; remove one of them"


def _as_no_space(at: _Context) -> tuple[str, str] | None:
    if not _NO_SPACE.search(at.reasons):
        return None
    return "DiskFull", _no_space(at.package)


def _no_space(what: str) -> str:
    return (
        f"no space left while installing {what}: see `df -h`, make room; the next pass tries again"
    )


def _indented(lines: Sequence[str], start: int) -> str:
    """Join the reasons of dpkg: the lines below its error that are set in by a blank."""
    end = start
    while end < len(lines) and lines[end].startswith(" "):
        end += 1
    return " ".join(line.strip() for line in lines[start:end])


def _own_lines(lines: Sequence[str]) -> str:
    """Tell what a script said: from the last step of dpkg to here."""
    start = next((n for n in range(len(lines), 0, -1) if _STEP.match(lines[n - 1])), 0)
    return last_lines([line for line in lines[start:] if not _is_chatter(line)])


def _is_chatter(line: str) -> bool:
    return line.startswith(("(Reading database", "dpkg: "))


def _name_of(what: str, native: str) -> str:
    """The package, as apt calls it, of an archive or of dpkg's own NAME or NAME:ARCH."""
    match = _ARCHIVE.match(unquote(what))
    if match and native and match["arch"]:
        what = f"{match['name']}:{match['arch']}"
    elif match:
        what = match["name"]
    return shorten_package_name(what, native)


# -- what apt said -------------------------------------------------------------------------------


def _find_fetch_failures(lines: Sequence[str], native: str = "") -> list[Failure]:
    found: dict[str, Failure] = {}
    for line in lines:
        if match := _FETCH.match(line):
            around = f"{match['why']} {_after_error(lines, match['url'])}"
            reason, message = classify_fetch(match["url"], around)
            package = _name_of(match["url"], native) if match["url"].endswith(".deb") else ""
            found.setdefault(
                match["url"], Failure(reason, message, package, last_lines(lines), is_fetch=True)
            )
    return list(found.values())


def find_unread_sources(lines: Sequence[str]) -> tuple[Failure, ...]:
    """Repositories that `apt-get update` could not read; it calls that a warning."""
    return tuple(_find_fetch_failures(lines))


def _after_error(lines: Sequence[str], url: str) -> str:
    start = next((n for n, line in enumerate(lines) if line.startswith("E: ") and url in line), 0)
    return " ".join(lines[start + 1 : start + 3]) if start else ""


def classify_fetch(url: str, why: str) -> tuple[str, str]:
    """Reason and sentence for one address that apt could not read."""
    if _NO_SPACE.search(why):
        return "DiskFull", _no_space(url)
    if _BAD_HASH.search(why):
        return "HashMismatch", (
            f"{url} is not what the repository's index promises (size or hash differs): upload it "
            "again under a new version, or wait until the mirror is whole; nothing was installed"
        )
    if url.endswith(".deb") and _NOT_THERE.search(why):
        return "VersionNotFound", (
            f"the repository lists {url} but does not have it: upload it again, or name a version "
            "that is there"
        )
    return "RepositoryUnreachable", (
        f"{url} could not be read ({why.strip() or 'no reason given'}): check the network and "
        "etc/apt/sources.list; the next pass tries again"
    )


def _find_unmet(lines: Sequence[str]) -> list[Failure]:
    found = []
    for match in filter(None, map(_UNMET.match, lines)):
        package, what = match["package"], match["what"].strip()
        is_conflict = what.startswith(("Conflicts", "Breaks"))
        reason = "Conflict" if is_conflict else "UnmetDependency"
        advice = (
            "remove one of the two, or name versions that go together"
            if is_conflict
            else "publish what it depends on, or name versions that go together"
        )
        message = f"{package} cannot be installed: {what}; {advice}"
        found.append(Failure(reason, message, package, last_lines(lines)))
    return found


def _find_general(lines: Sequence[str]) -> Failure:
    output = last_lines(lines)
    said = " ".join(line[3:] for line in lines if line.startswith("E: "))
    if any(_NO_SPACE.search(line) for line in lines):
        return Failure("DiskFull", _no_space("these packages"), output=output)
    if needs_repair(lines):
        return Failure(
            "BrokenPackages",
            f"dpkg was interrupted earlier and could not be repaired ({said}): "
            "run `dpkg --configure -a` and `apt-get -f install` and read what they say",
            output=output,
        )
    return Failure(
        "AptFailed", f"apt-get failed: {said or last_lines(lines, 1) or 'it said nothing'}",
        output=output,
    )  # fmt: skip


# -- what a person is told -----------------------------------------------------------------------


def explain_unknown(package: Package, updated: Finished | None, instead: str = "") -> PackageError:
    """Say why a version is unknown: nobody has it, or its repository could not be read.

    `instead` is what there is (`describe_offer`).
    """
    asked = f"{package.name} {package.version}"
    if unread := find_unread_sources(updated.lines if updated else ()):
        return PackageError(
            unread[0].reason,
            f"{asked} is in no list that apt could read; {unread[0].message}",
            packages=(package.name,),
            output=unread[0].output,
        )
    if updated and updated.code:
        # A source that apt cannot parse, or a repository that it does not trust.
        (failure, *_) = find_failures(updated.lines)
        return PackageError(
            failure.reason,
            f"{asked} is in no list that apt could read; {failure.message}; "
            "put etc/apt/sources.list right, the next pass tries again",
            packages=(package.name,),
            output=failure.output,
        )
    return PackageError(
        "VersionNotFound",
        f"{asked} is in no repository of this host: {instead}"
        f"check the spec, and that it was uploaded (`apt-cache policy {package.name}`)",
        packages=(package.name,),
    )


_SHOWN_VERSIONS = 8
_SHOWN_NAMES = 4


def describe_versions(versions: Sequence[str]) -> str:
    """List the newest of them, as apt gives them."""
    shown = ", ".join(versions[:_SHOWN_VERSIONS])
    rest = len(versions) - _SHOWN_VERSIONS
    return f"{shown} and {rest} more" if rest > 0 else shown


def describe_offer(
    package: Package, offered: Mapping[str, Sequence[str]], known: Collection[str]
) -> str:
    """Say what there is instead of a version that nobody has, as the middle of a sentence.

    `offered` are apt's versions of this NAME and of NAME:ARCH, `known` all names it has heard of.
    """
    if versions := offered.get(package.name, ()):
        return f"there the versions of {package.name} are {describe_versions(versions)}; "
    base, _ = split_architecture(package.name)
    if others := sorted(name for name in offered if split_architecture(name)[0] == base):
        found = "; ".join(f"{name} ({describe_versions(offered[name])})" for name in others)
        return f"no version of {package.name} is there, only {found}; "
    near = find_near_names(base, known)
    hint = f", names like it are {', '.join(near)}" if near else ""
    return f"no package {package.name} is there{hint}; "


def find_near_names(name: str, known: Collection[str]) -> list[str]:
    """Up to four names that may have been meant: longer ones, and those a few letters off."""
    # difflib is slow: of a whole archive only what begins or ends alike is worth its time.
    alike = [
        other
        for other in known
        if other != name
        and abs(len(other) - len(name)) <= max(2, len(name) // 3)
        and (other[:1] == name[:1] or other[-3:] == name[-3:])
    ]
    near = difflib.get_close_matches(name, alike, _SHOWN_NAMES, 0.75)
    longer = sorted(other for other in known if other.startswith(f"{name}-"))
    return list(dict.fromkeys([*near, *longer]))[:_SHOWN_NAMES]


def refuse_held(package: Package, found: InstalledPackage) -> PackageError:
    return PackageError(
        "Held",
        f"{package.name} is on hold at {found.version} and the spec wants {package.version}: "
        f"`apt-mark unhold {package.name}`, or write allow_held: true beside it in the spec",
        packages=(package.name,),
    )


def pick_failure(failed: Sequence[Failure], packages: Sequence[Package]) -> Failure:
    """Choose the failure that concerns these packages, else the first."""
    names = {package.name for package in packages}
    return next((failure for failure in failed if failure.package in names), failed[0])


def explain_difference(
    wrong: Sequence[Package], installed: Mapping[str, InstalledPackage], done: Finished
) -> Failure:
    """Say what dpkg has where apt said that all went well."""
    package = wrong[0]
    found = installed.get(package.name)
    there = f"{found.version} ({found.status})" if found else "nothing"
    return Failure(
        "AptFailed",
        f"apt-get ended without an error, but of {package.name} there is {there} instead of "
        f"{package.version}",
        package.name,
        last_lines(done.lines),
    )
