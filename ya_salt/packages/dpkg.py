"""What dpkg-query answers, and which state of a package is right, broken or gone. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from ya_salt.model import InstalledPackage, Package
from ya_salt.names import is_own_architecture, split_architecture
from ya_salt.quick_dataclass import dataclass, replace

# dpkg-query(1): the last three are want, error flag and status, e.g. "install ok installed".
FORMAT = (
    r"${binary:Package}\t${Package}\t${Architecture}\t${Version}\t"
    r"${db:Status-Want}\t${db:Status-Eflag}\t${db:Status-Status}\n"
)
INSTALLED = "installed"
HALF_INSTALLED = "half-installed"
BROKEN = frozenset(
    {"half-installed", "unpacked", "half-configured", "triggers-awaited", "triggers-pending"}
)
"""States that `dpkg --configure -a` or `apt-get -f install` may put right (dpkg(1))."""
GONE = frozenset({"not-installed", "config-files"})


_CONFFILE_FLAGS = frozenset({"obsolete", "remove-on-upgrade"})


@dataclass(frozen=True)
class Entry:
    """One package of one architecture in dpkg's database.

    `binary` is the name that dpkg takes for it alone: with its architecture where that is a foreign
    one, and where the package may be there for several at once (Multi-Arch: same).
    """

    binary: str
    package: str
    architecture: str
    installed: InstalledPackage

    def is_own(self, find_native: Callable[[], str]) -> bool:
        """Whether a plain NAME means this one on this host; asks only where dpkg left it open."""
        return self.binary == self.package or is_own_architecture(self.architecture, find_native())


def parse_query(text: str) -> tuple[Entry, ...]:
    """dpkg-query's answer in `FORMAT`; what was purged or never there is left out."""
    found = []
    for line in text.splitlines():
        binary, package, architecture, version, want, _, status = line.split("\t")
        if status != "not-installed":
            installed = InstalledPackage(package, version, status, held=want == "hold")
            found.append(Entry(binary, package, architecture, installed))
    return tuple(found)


def pick_entries(
    entries: Iterable[Entry], wanted: Iterable[str], find_native: Callable[[], str]
) -> dict[str, Entry]:
    """What dpkg has for each name, under the name as it was asked for: NAME or NAME:ARCH.

    A plain name is the package of this host's own architecture (`find_native`), or of all; a
    package of a foreign architecture is another one.
    """
    by_package: dict[str, list[Entry]] = {}
    for entry in entries:
        by_package.setdefault(entry.package, []).append(entry)
    found: dict[str, Entry] = {}
    for name in wanted:
        base, architecture = split_architecture(name)
        for entry in by_package.get(base, ()):
            if _is_meant(entry, architecture, find_native) and not _is_worse(
                found.get(name), entry
            ):
                found[name] = replace(entry, installed=replace(entry.installed, name=name))
    return found


def _is_meant(entry: Entry, architecture: str, find_native: Callable[[], str]) -> bool:
    if architecture and architecture == entry.architecture:
        return True
    is_own = not architecture or is_own_architecture(architecture, find_native())
    return is_own and entry.is_own(find_native)


def _is_worse(old: Entry | None, new: Entry) -> bool:
    """Whether the older find tells more: a package is right only if all of it is."""
    if old is None or old.installed.status in GONE:
        return False
    return old.installed.status != INSTALLED or new.installed.status in GONE


def parse_conffiles(lines: Iterable[str]) -> dict[str, dict[str, tuple[str, bool]]]:
    """A package's name, then lines of `${Conffiles}`: ` PATH MD5`, perhaps with ` obsolete`.

    Package -> path -> (MD5, whether the present version still has it). A path may hold blanks.
    """
    found: dict[str, dict[str, tuple[str, bool]]] = {}
    here: dict[str, tuple[str, bool]] = {}
    for line in lines:
        if line and not line.startswith(" "):
            here = found.setdefault(line, {})
            continue
        words = line.split(" ")
        is_active = True
        while len(words) > 3 and words[-1] in _CONFFILE_FLAGS:
            is_active &= words.pop() != "obsolete"
        if len(words) > 2 and words[1].startswith("/"):
            here[" ".join(words[1:-1])] = (words[-1], is_active)
    return found


def is_held(package: InstalledPackage) -> bool:
    """Whether somebody wants it left as it is: nobody wants that of half a package."""
    return package.held and package.status != HALF_INSTALLED


def is_right(package: Package, installed: Mapping[str, InstalledPackage]) -> bool:
    """Whether exactly this version is there, whole and configured."""
    found = installed.get(package.name)
    return found is not None and (found.version, found.status) == (package.version, INSTALLED)


def find_wrong(
    packages: Iterable[Package], installed: Mapping[str, InstalledPackage]
) -> tuple[Package, ...]:
    return tuple(package for package in packages if not is_right(package, installed))


def find_broken(
    names: Collection[str], installed: Mapping[str, InstalledPackage]
) -> tuple[InstalledPackage, ...]:
    """Those of the names that dpkg has not finished with."""
    return tuple(
        package
        for name in sorted(names)
        if (package := installed.get(name)) is not None and package.status in BROKEN
    )


def find_held(packages: Iterable[Package], installed: Mapping[str, InstalledPackage]) -> set[str]:
    """Names of those that somebody has put on hold."""
    names = {package.name for package in packages}
    return {name for name in names & installed.keys() if installed[name].held}


def find_version(installed: Mapping[str, InstalledPackage], name: str) -> str:
    return installed[name].version if name in installed else ""


def find_status(installed: Mapping[str, InstalledPackage], name: str) -> str:
    return installed[name].status if name in installed else ""


def as_argument(package: Package) -> str:
    """Write the word that asks apt-get for exactly this version."""
    return f"{package.name}={package.version}"


def format_names(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))
