"""Recipes of broken and awkward package states: what is wrong, how it ends, what makes it whole.

Steps get a host with `publish`, `install` (by hand, for what no daemon owns) and `stand` (what a
daemon runs from already).
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

from helpers.debs import build_deb
from helpers.package_host import Host

FAIL = {"postinst": "#!/bin/sh\necho cannot reach the moon\nexit 7\n"}
FAIL_ONCE = {
    "postinst": '#!/bin/sh\n[ -e "$DPKG_ROOT/moon" ] || { echo no moon; exit 7; }\n',
}
HANG = {"postinst": '#!/bin/sh\n[ -e "$DPKG_ROOT/moon" ] || { sleep 71 & setsid sleep 72; }\n'}
ASK = {
    "postinst": "#!/bin/sh\nif ( read x < /dev/tty ) 2>/dev/null || read x; then exit 9; fi\n",
}


@dataclass(frozen=True)
class Recipe:
    """What is broken (`arrange`), what is asked, how it ends, and what makes it whole (`mend`).

    `asked` are groups as for `Host.install`, one for each daemon; `errors` are reasons by daemon,
    and `says` is part of their sentences. `state` is dpkg's afterwards, for the packages that it
    names. `then_asked` is what people ask for after `mend`, where it is something else.
    """

    arrange: Callable[[Host], object]
    asked: tuple[str, ...]
    errors: dict[str, str]
    says: str = ""
    mend: Callable[[Host], object] = lambda host: None
    then_asked: tuple[str, ...] = ()
    settings: dict[str, object] = field(default_factory=dict)
    state: dict[str, str] = field(default_factory=dict)
    allow_held: bool = False
    check: Callable[[Host], bool] = lambda host: True


def publish(*packages: str, **details: object) -> Callable[[Host], None]:
    """A step that publishes `name=version` packages, all with the same details."""

    def step(host: Host) -> None:
        for package in packages:
            name, version = package.split("=")
            host.publish(name, version, **details)

    return step


def steps(*every: Callable[[Host], object]) -> Callable[[Host], None]:
    def run(host: Host) -> None:
        for step in every:
            step(host)

    return run


def install(*groups: str) -> Callable[[Host], object]:
    return lambda host: host.install(*groups)


def stand(*groups: str) -> Callable[[Host], object]:
    return lambda host: host.stand(*groups)


def set_status(name: str, status: str) -> Callable[[Host], object]:
    """Leave a package as an interrupted dpkg leaves it."""

    def step(host: Host) -> None:
        file = host.root / "var/lib/dpkg/status"
        head, mark, tail = file.read_text().partition(f"Package: {name}\n")
        rest = tail.partition("\n")[2]
        file.write_text(f"{head}{mark}Status: {status}\n{rest}")

    return step


def touch(name: str) -> Callable[[Host], object]:
    return lambda host: (host.root / name).touch()


def write(name: str, text: str) -> Callable[[Host], object]:
    return lambda host: (host.root / name).write_text(text)


def spoil(name: str) -> Callable[[Host], object]:
    """Change one byte of a published .deb: same name, same size, another content."""

    def step(host: Host) -> None:
        (deb,) = host.repository.directory.glob(f"{name}_*.deb")
        content = bytearray(deb.read_bytes())
        content[-1] ^= 1
        deb.write_bytes(content)

    return step


def dpkg(host: Host, *words: str, **options: object) -> None:
    subprocess.run(  # type: ignore[call-overload]
        ["dpkg", *host.apt.place.dpkg_options(), *words],
        env=host.apt.place.environment(),
        check=True,
        capture_output=True,
        **options,
    )


def hold(name: str) -> Callable[[Host], object]:
    return lambda host: dpkg(host, "--set-selections", input=f"{name} hold\n".encode())


def unhold(name: str) -> Callable[[Host], object]:
    return lambda host: dpkg(host, "--set-selections", input=f"{name} install\n".encode())


def break_source(host: Host) -> None:
    sources = host.root / "etc/apt/sources.list"
    sources.write_text(sources.read_text() + "deb [trusted=yes] http://127.0.0.1:9/gone ./\n")


def mend_source(host: Host) -> None:
    sources = host.root / "etc/apt/sources.list"
    sources.write_text(sources.read_text().splitlines()[0] + "\n")


def distrust(host: Host) -> None:
    sources = host.root / "etc/apt/sources.list"
    (host.directory / "untrusted").mkdir()
    sources.write_text(f"{sources.read_text()}deb file:{host.directory}/untrusted ./\n")


def remove_deb(name: str, version: str) -> Callable[[Host], object]:
    return lambda host: host.repository.remove(name, version)


def remove_by_hand(name: str) -> Callable[[Host], object]:
    """As an operator does; it may fail."""

    def step(host: Host) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            dpkg(host, "--remove", name)

    return step


def unpack_by_hand(name: str, version: str, **details: object) -> Callable[[Host], object]:
    def step(host: Host) -> None:
        host.apt.require()
        deb = build_deb(host.directory / "elsewhere", name, version, **details)
        dpkg(host, "--unpack", str(deb))

    return step


def interrupt_upgrade(host: Host) -> None:
    """What dpkg leaves when it dies with its journal unwritten: updates/0000."""
    (host.root / "var/lib/dpkg/updates/0000").write_text(
        "Package: alpha\nStatus: install ok half-configured\nArchitecture: all\nVersion: 1.0\n"
        "Maintainer: x\nDescription: x\n"
    )


RECIPES = {
    "a version that no repository has": Recipe(
        arrange=publish("alpha=1.0"),
        asked=("alpha=2.0",),
        errors={"alpha": "VersionNotFound"},
        says="alpha 2.0 is in no repository",
        mend=publish("alpha=2.0"),
    ),
    "a package that nobody has ever heard of": Recipe(
        arrange=lambda host: None,
        asked=("alpha=2.0",),
        errors={"alpha": "VersionNotFound"},
        mend=publish("alpha=2.0"),
    ),
    "the repository is unreachable and the version not known from before": Recipe(
        arrange=break_source,
        asked=("alpha=1.0",),
        errors={"alpha": "RepositoryUnreachable"},
        says="http://127.0.0.1:9/gone",
        mend=steps(mend_source, publish("alpha=1.0")),
    ),
    "one repository is unreachable but another has the version": Recipe(
        arrange=steps(break_source, publish("alpha=1.0")), asked=("alpha=1.0",), errors={}
    ),
    "the archive is not what the index promises": Recipe(
        arrange=steps(publish("alpha=1.0"), spoil("alpha")),
        asked=("alpha=1.0",),
        errors={"alpha": "HashMismatch"},
        mend=publish("alpha=1.0"),
    ),
    "the index promises an archive that is gone": Recipe(
        arrange=steps(publish("alpha=1.0"), remove_deb("alpha", "1.0")),
        asked=("alpha=1.0",),
        errors={"alpha": "VersionNotFound"},
        mend=publish("alpha=1.0"),
    ),
    "apt's lists are older than the repository": Recipe(
        arrange=steps(
            publish("alpha=1.0", "beta=1.0"),
            install("beta=1.0"),
            remove_deb("alpha", "1.0"),
            publish("alpha=1.0", section="rebuilt"),
        ),
        asked=("alpha=1.0",),
        errors={},
    ),
    "a postinst that fails": Recipe(
        arrange=publish("alpha=1.0", scripts=FAIL_ONCE),
        asked=("alpha=1.0",),
        errors={"alpha": "PostinstFailed"},
        says="no moon",
        mend=touch("moon"),
        state={"alpha": "1.0 half-configured"},
    ),
    "a postinst that fails until a new version mends it": Recipe(
        arrange=publish("alpha=1.0", scripts=FAIL),
        asked=("alpha=1.0",),
        errors={"alpha": "PostinstFailed"},
        says="cannot reach the moon",
        mend=publish("alpha=1.1"),
        then_asked=("alpha=1.1",),
    ),
    "a postinst that hangs is ended with everything it started": Recipe(
        arrange=publish("alpha=1.0", scripts=HANG),
        asked=("alpha=1.0",),
        errors={"alpha": "ScriptTimeout"},
        says="still running after 1 s",
        mend=touch("moon"),
        settings={"script_timeout_s": 1},
    ),
    "a preinst that fails": Recipe(
        arrange=publish("alpha=1.0", scripts={"preinst": FAIL_ONCE["postinst"]}),
        asked=("alpha=1.0",),
        errors={"alpha": "PreinstFailed"},
        mend=touch("moon"),
        state={},
    ),
    "a prerm that fails keeps the old version": Recipe(
        arrange=steps(
            publish("alpha=1.0", scripts={"prerm": FAIL_ONCE["postinst"]}),
            publish("alpha=1.1", scripts={"prerm": FAIL_ONCE["postinst"]}),
            stand("alpha=1.0"),
        ),
        asked=("alpha=1.1",),
        errors={"alpha": "PrermFailed"},
        mend=touch("moon"),
    ),
    "a dependency whose postinst fails": Recipe(
        arrange=steps(
            publish("needed=1.0", scripts=FAIL_ONCE), publish("alpha=1.0", depends="needed")
        ),
        asked=("alpha=1.0",),
        errors={"alpha": "PostinstFailed"},
        says="postinst of needed failed",
        mend=touch("moon"),
    ),
    "a dependency that nobody has": Recipe(
        arrange=publish("alpha=1.0", depends="needed (>= 2)"),
        asked=("alpha=1.0",),
        errors={"alpha": "UnmetDependency"},
        says="needed",
        mend=publish("needed=2.0"),
        then_asked=("alpha=1.0", "needed=2.0"),
    ),
    "half-configured is repaired": Recipe(
        arrange=steps(
            publish("alpha=1.0"),
            stand("alpha=1.0"),
            set_status("alpha", "install ok half-configured"),
        ),
        asked=("alpha=1.0",),
        errors={},
    ),
    "unpacked is configured": Recipe(
        arrange=steps(
            publish("alpha=1.0"), stand("alpha=1.0"), set_status("alpha", "install ok unpacked")
        ),
        asked=("alpha=1.0",),
        errors={},
    ),
    "half-installed is installed again": Recipe(
        arrange=steps(
            publish("alpha=1.0"),
            stand("alpha=1.0"),
            set_status("alpha", "install reinstreq half-installed"),
        ),
        asked=("alpha=1.0",),
        errors={},
    ),
    "half-installed at a version that no repository has any more": Recipe(
        arrange=steps(
            publish("alpha=1.0"),
            stand("alpha=1.0"),
            set_status("alpha", "install reinstreq half-installed"),
            remove_deb("alpha", "1.0"),
            publish("alpha=2.0"),
        ),
        asked=("alpha=2.0",),
        errors={},
    ),
    "triggers-pending is repaired": Recipe(
        arrange=steps(
            publish("alpha=1.0", scripts={"postinst": "#!/bin/sh\nexit 0\n"}),
            stand("alpha=1.0"),
            set_status("alpha", "install ok triggers-pending\nTriggers-Pending: /x"),
        ),
        asked=("alpha=1.0",),
        errors={},
    ),
    "dpkg's journal was left behind": Recipe(
        arrange=steps(publish("alpha=1.0", "alpha=1.1"), stand("alpha=1.0"), interrupt_upgrade),
        asked=("alpha=1.1",),
        errors={},
    ),
    "a stranger's package was unpacked without its dependency": Recipe(
        arrange=steps(
            publish("alpha=1.0", "needed=1.0"),
            unpack_by_hand("strange", "1.0", depends="needed"),
        ),
        asked=("alpha=1.0",),
        errors={},
    ),
    "a held package is left alone": Recipe(
        arrange=steps(publish("alpha=1.0", "alpha=1.1"), stand("alpha=1.0"), hold("alpha")),
        asked=("alpha=1.1",),
        errors={"alpha": "Held"},
        says="apt-mark unhold alpha",
        mend=unhold("alpha"),
        state={"alpha": "1.0 installed"},
    ),
    "a held package at the right version is fine": Recipe(
        arrange=steps(publish("alpha=1.0"), stand("alpha=1.0"), hold("alpha")),
        asked=("alpha=1.0",),
        errors={},
    ),
    "a held package that is half-configured is only repaired": Recipe(
        arrange=steps(
            publish("alpha=1.0"),
            stand("alpha=1.0"),
            set_status("alpha", "hold ok half-configured"),
        ),
        asked=("alpha=1.0",),
        errors={},
        check=lambda host: host.apt.query(["alpha"])["alpha"].held,
    ),
    "a stranger's package that can never be configured": Recipe(
        arrange=steps(
            publish("strange=1.0", scripts=FAIL), install("strange=1.0"), publish("alpha=1.0")
        ),
        asked=("alpha=1.0",),
        errors={},
        state={"strange": "1.0 half-configured"},
    ),
    "a stranger's package whose removal failed": Recipe(
        arrange=steps(
            publish("strange=1.0", scripts={"postrm": FAIL["postinst"]}),
            install("strange=1.0"),
            remove_by_hand("strange"),
            publish("alpha=1.0"),
        ),
        asked=("alpha=1.0",),
        errors={},
        state={"strange": "1.0 half-installed"},
        check=lambda host: not host.apt.query(["strange"])["strange"].held,
    ),
    "a repository that apt does not trust": Recipe(
        arrange=steps(publish("alpha=1.0"), distrust),
        asked=("alpha=1.1",),
        errors={"alpha": "AptFailed"},
        says="does not have a Release file",
        mend=steps(mend_source, publish("alpha=1.1")),
    ),
    "a postinst that wants to ask somebody": Recipe(
        arrange=publish("alpha=1.0", scripts=ASK),
        asked=("alpha=1.0",),
        errors={},
    ),
    "a conflict with an installed package would remove it": Recipe(
        arrange=steps(
            publish("strange=1.0"),
            install("strange=1.0"),
            publish("alpha=1.0", conflicts="strange"),
        ),
        asked=("alpha=1.0",),
        errors={"alpha": "WouldRemove"},
        says="remove strange 1.0",
        mend=lambda host: host.purge("strange"),
        state={"strange": "1.0 installed"},
    ),
    "a removal that settings allow": Recipe(
        arrange=steps(
            publish("strange=1.0"),
            install("strange=1.0"),
            publish("alpha=1.0", conflicts="strange"),
        ),
        asked=("alpha=1.0",),
        errors={},
        settings={"allow_removals": frozenset({"strange"})},
    ),
    "an upgrade of a package that no spec names": Recipe(
        arrange=steps(
            publish("strange=1.0"),
            install("strange=1.0"),
            publish("strange=2.0"),
            publish("alpha=1.0", depends="strange (>= 2.0)"),
        ),
        asked=("alpha=1.0",),
        errors={"alpha": "WouldChange"},
        says="change strange from 1.0 to 2.0",
        mend=lambda host: host.install("strange=2.0"),
        state={"strange": "1.0 installed"},
    ),
    "two daemons that conflict: the first one wins": Recipe(
        arrange=steps(publish("alpha=1.0"), publish("beta=1.0", conflicts="alpha")),
        asked=("alpha=1.0", "beta=1.0"),
        errors={"beta": "Conflict"},
        says="Conflicts: alpha",
        mend=lambda host: host.purge("alpha"),
        then_asked=("beta=1.0",),
    ),
    "two packages that own one file": Recipe(
        arrange=steps(
            publish("alpha=1.0", files={"/opt/one": "a"}),
            stand("alpha=1.0"),
            publish("beta=1.0", files={"/opt/one": "b"}),
        ),
        asked=("beta=1.0",),
        errors={"beta": "Conflict"},
        says="/opt/one",
        mend=publish("beta=1.1"),
        then_asked=("beta=1.1",),
    ),
    "a held package that its spec allows to change": Recipe(
        arrange=steps(publish("alpha=1.0", "alpha=1.1"), stand("alpha=1.0"), hold("alpha")),
        asked=("alpha=1.1",),
        errors={},
        allow_held=True,
        check=lambda host: host.apt.query(["alpha"])["alpha"].held,
    ),
    "a conffile that somebody changed is kept and nobody is asked": Recipe(
        arrange=steps(
            publish("alpha=1.0", files={"/etc/alpha": "from 1.0"}, conffiles=["/etc/alpha"]),
            publish("alpha=1.1", files={"/etc/alpha": "from 1.1"}, conffiles=["/etc/alpha"]),
            stand("alpha=1.0"),
            write("etc/alpha", "changed here"),
        ),
        asked=("alpha=1.1",),
        errors={},
        check=lambda host: (host.root / "etc/alpha").read_text() == "changed here",
    ),
    "a new dependency comes along, what is recommended does not": Recipe(
        arrange=steps(
            publish("alpha=1.0", "needed=1.0", "nice=1.0"),
            stand("alpha=1.0"),
            publish("alpha=1.1", depends="needed", recommends="nice"),
        ),
        asked=("alpha=1.1",),
        errors={},
        check=lambda host: host.state("needed", "nice") == {"needed": "1.0 installed"},
    ),
    "a downgrade to the exact version": Recipe(
        arrange=steps(publish("alpha=1.0", "alpha=1.1"), stand("alpha=1.1")),
        asked=("alpha=1.0",),
        errors={},
    ),
    "a changed list of packages": Recipe(
        arrange=steps(publish("alpha=1.0", "beta=1.0"), stand("alpha=1.0")),
        asked=("alpha=1.0 beta=1.0",),
        errors={},
    ),
    "a package shared by two daemons, one of them broken": Recipe(
        arrange=steps(publish("shared=1.0"), publish("alpha=1.0", "beta=1.0")),
        asked=("alpha=1.0 shared=1.0", "beta=9 shared=1.0"),
        errors={"beta": "VersionNotFound"},
        mend=publish("beta=9"),
    ),
    "only conffiles are left of an earlier life": Recipe(
        arrange=steps(
            publish("alpha=1.0", files={"/etc/alpha": "x"}, conffiles=["/etc/alpha"]),
            stand("alpha=1.0"),
            lambda host: dpkg(host, "--remove", "alpha"),
        ),
        asked=("alpha=1.0",),
        errors={},
    ),
}
