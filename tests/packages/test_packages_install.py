"""Exact versions in, out and back again."""

from __future__ import annotations

import subprocess

import pytest
from helpers.debs import recording_scripts
from helpers.package_host import Host, needs_apt, reasons, wanted

from ya_salt.model import Package
from ya_salt.packages.apt import Apt

pytestmark = needs_apt


def test_two_packages_come_at_their_exact_versions_in_one_transaction(host: Host) -> None:
    host.publish("alpha", "1.0")
    host.publish("alpha", "2.0")
    host.publish("beta", "1:1.0-6238270")
    outcome = host.install("alpha=1.0", "beta=1:1.0-6238270")
    assert not outcome.errors
    assert host.state("alpha", "beta") == {
        "alpha": "1.0 installed",
        "beta": "1:1.0-6238270 installed",
    }
    assert host.apt_runs("install") == 1
    assert [str(c) for c in outcome.changes] == ["install alpha 1.0", "install beta 1:1.0-6238270"]


def test_everything_right_already_runs_no_apt_at_all(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.publish("alpha", "1.0")
    host.install("alpha=1.0")
    started: list[str] = []
    real = subprocess.Popen.__init__

    def note(self: object, argv: list[str], **options: object) -> None:
        started.append(argv[0])
        real(self, argv, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess.Popen, "__init__", note)
    outcome = host.install("alpha=1.0")
    assert not outcome.errors
    assert started == ["dpkg-query"]


def test_maintainer_scripts_see_hostman_in_install_upgrade_downgrade_and_purge(host: Host) -> None:
    for version in ("1.0", "2.0"):
        host.publish("alpha", version, scripts=recording_scripts())
    for version in ("1.0", "2.0", "1.0"):
        assert not host.install(f"alpha={version}").errors
    assert not host.purge("alpha").errors
    lines = host.scripts()
    assert {line.rsplit(" ", 1)[1] for line in lines} == {"HOSTMAN=1"}
    upgrade = ["alpha prerm upgrade", "alpha preinst upgrade", "alpha postrm upgrade"]
    configure = "alpha postinst configure"
    assert [line.rsplit(" ", 1)[0] for line in lines] == [
        "alpha preinst install",
        configure,
        *upgrade,
        configure,
        *upgrade,
        configure,
        "alpha prerm remove",
        "alpha postrm remove",
        "alpha postrm purge",
    ]


def test_a_changed_conffile_is_kept_and_nobody_is_asked(host: Host) -> None:
    for version in ("1.0", "2.0"):
        host.publish(
            "alpha",
            version,
            files={"/etc/alpha.conf": f"from {version}\n"},
            conffiles=["/etc/alpha.conf"],
        )
    host.install("alpha=1.0")
    conffile = host.root / "etc/alpha.conf"
    conffile.write_text("mine\n")
    assert not host.install("alpha=2.0").errors
    assert conffile.read_text() == "mine\n"
    assert host.state("alpha") == {"alpha": "2.0 installed"}


def test_the_repositories_are_read_once_and_only_for_an_unknown_version(host: Host) -> None:
    host.publish("alpha", "1.0")
    host.publish("beta", "1.0")
    host.install("alpha=1.0")
    assert host.updates() == 1
    host.install("beta=1.0")
    assert host.updates() == 0
    assert reasons(host.install("alpha=9", "beta=9")) == {
        "alpha": "VersionNotFound",
        "beta": "VersionNotFound",
    }
    assert host.updates() == 1


def test_new_dependencies_come_along_but_recommendations_do_not(host: Host) -> None:
    host.publish("alpha", "1.0", depends="needed", recommends="nice")
    host.publish("needed", "1.0")
    host.publish("nice", "1.0")
    assert not host.install("alpha=1.0").errors
    assert set(host.state("alpha", "needed", "nice")) == {"alpha", "needed"}


def test_fifty_new_daemons_are_one_transaction_and_a_bad_one_costs_no_second(host: Host) -> None:
    for number in range(50):
        bad = {"scripts": {"postinst": "#!/bin/sh\nexit 1\n"}} if number == 25 else {}
        host.repository.add(f"many-{number}", "1.0", **bad)
    host.repository.write_index()
    names = [f"many-{number}" for number in range(50)]
    outcome = host.install(*(f"{name}=1.0" for name in names))
    assert reasons(outcome) == {"many-25": "PostinstFailed"}
    assert list(host.state(*names).values()).count("1.0 installed") == 49
    assert host.apt_runs("install") == 1


def test_a_preinst_that_fails_leaves_the_others_configured_without_a_second_install(
    host: Host,
) -> None:
    for name in ("alpha", "beta", "gamma"):
        scripts = {"preinst": "#!/bin/sh\necho no way; exit 2\n"} if name == "beta" else {}
        host.publish(name, "1.0", scripts=scripts)
    outcome = host.install("alpha=1.0", "beta=1.0", "gamma=1.0")
    assert reasons(outcome) == {"beta": "PreinstFailed"}
    assert "no way" in str(outcome.errors["beta"])
    assert host.state("alpha", "beta", "gamma") == {
        "alpha": "1.0 installed",
        "gamma": "1.0 installed",
    }
    assert host.apt_runs("install") == 1


def test_a_package_shared_by_two_groups_is_installed_once_for_both(host: Host) -> None:
    for name in ("alpha", "beta", "shared"):
        host.publish(name, "1.0")
    assert not host.install("alpha=1.0 shared=1.0", "beta=1.0 shared=1.0").errors
    assert len(host.state("alpha", "beta", "shared")) == 3


def test_progress_speaks_of_packages_and_versions(host: Host) -> None:
    host.publish("alpha", "1.0")
    host.install("alpha=1.0")
    assert "unpacking alpha (1.0)" in host.progress
    assert "setting up alpha (1.0)" in host.progress


def test_purge_takes_what_is_named_with_conffiles_and_again_is_nothing(host: Host) -> None:
    host.publish("alpha", "1.0", files={"/etc/alpha.conf": "x"}, conffiles=["/etc/alpha.conf"])
    host.publish("beta", "1.0")
    host.install("alpha=1.0", "beta=1.0")
    outcome = host.purge("alpha")
    assert [str(change) for change in outcome.changes] == ["remove alpha 1.0"]
    assert not (host.root / "etc/alpha.conf").exists()
    assert host.state("alpha", "beta") == {"beta": "1.0 installed"}
    runs = host.apt_runs("purge")
    assert not host.purge("alpha").errors
    assert host.apt_runs("purge") == runs


def test_a_query_of_a_root_that_was_never_used_finds_nothing_and_makes_nothing(
    host: Host,
) -> None:
    assert host.state("alpha") == {}
    assert not (host.root / "var").exists()


@pytest.mark.parametrize(
    "package",
    [
        Package("-oX=1", "1.0"),
        Package("alpha", "1.0-"),
        Package("alpha", "--root=/"),
        Package("Alpha", "1.0"),
        Package("alpha", "1.0 beta"),
        Package("alpha", "1.0\n"),
        Package("../alpha", "1.0"),
        Package("alpha-", "1.0"),
        Package("alpha:", "1.0"),
        Package("alpha:any", "1.0"),
        Package("", "1.0"),
        Package("alpha", ""),
    ],
)
def test_nothing_outside_debians_alphabet_reaches_apt(package: Package, host: Host) -> None:
    host.publish("beta", "1.0")
    outcome = host.new_pass().install({"daemon": [package], "other": wanted("beta=1.0")})
    assert reasons(outcome) == {"daemon": "InvalidPackage"}
    assert host.state("beta") == {"beta": "1.0 installed"}
    done = host.new_pass().purge({"daemon": [package.name], "other": ["beta"]})
    assert done.errors == {}
    assert host.state("beta", package.name) == {}


def test_a_version_that_ends_in_plus_is_not_read_as_a_modifier(host: Host) -> None:
    for version in ("1.0", "1.0+", "1.0++"):
        host.publish("alpha", version)
    for version in ("1.0+", "1.0", "1.0++"):
        assert not host.install(f"alpha={version}").errors
        assert host.state("alpha") == {"alpha": f"{version} installed"}


def test_a_daemon_left_by_a_postinst_does_not_keep_us_waiting(host: Host) -> None:
    host.publish("alpha", "1.0", scripts={"postinst": "#!/bin/sh\nsleep 4 &\nexit 0\n"})
    outcome = host.install("alpha=1.0")
    assert not outcome.errors


def test_a_host_without_apt_gets_one_clear_sentence(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Apt, "_path", "/nowhere")
    outcome = host.install("alpha=1.0")
    assert reasons(outcome) == {"alpha": "AptMissing"}


def test_packages_that_another_spec_names_are_not_taken_elsewhere(host: Host) -> None:
    host.publish("shared", "1.0")
    host.publish("shared", "2.0")
    host.publish("alpha", "1.0", depends="shared (>= 2.0)")
    host.install("shared=1.0")
    outcome = host.new_pass({"shared": "1.0"}).install({"alpha": wanted("alpha=1.0")})
    assert reasons(outcome) == {"alpha": "WouldChange"}
    assert "shared from 1.0 to 2.0" in str(outcome.errors["alpha"])
    assert host.state("alpha", "shared") == {"shared": "1.0 installed"}
