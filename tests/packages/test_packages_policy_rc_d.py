"""While apt works, services are left alone; afterwards nothing of that is left."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from helpers.package_host import Host, needs_apt, reasons

from ya_salt.packages.policy_rc_d import policy_in_place, remove_our_policy

pytestmark = needs_apt

ASK = """#!/bin/sh
for action in start restart stop; do
    "$DPKG_ROOT/usr/sbin/policy-rc.d" alpha $action
    echo "{script} $action $?" >> "$DPKG_ROOT/answers"
done
echo "suspend=$NEEDRESTART_SUSPEND" >> "$DPKG_ROOT/answers"
exit 0
"""


def answers(host: Host) -> set[str]:
    return set((host.root / "answers").read_text().splitlines())


def test_scripts_may_neither_start_nor_stop_services_while_installing(host: Host) -> None:
    host.publish("alpha", "1.0", scripts={"postinst": ASK.format(script="postinst")})
    host.install("alpha=1.0")
    denied = {f"postinst {action} 101" for action in ("start", "restart", "stop")}
    assert answers(host) == denied | {"suspend=1"}
    assert not host.apt.place.policy_rc.exists()


def test_a_purge_lets_a_service_stop_but_not_start(host: Host) -> None:
    host.publish("alpha", "1.0", scripts={"prerm": ASK.format(script="prerm")})
    host.install("alpha=1.0")
    host.purge("alpha")
    assert answers(host) == {
        "prerm start 101",
        "prerm restart 101",
        "prerm stop 0",
        "suspend=1",
    }


def test_our_policy_goes_when_a_script_fails(host: Host) -> None:
    host.publish("alpha", "1.0", scripts={"postinst": "#!/bin/sh\nexit 1\n"})
    assert reasons(host.install("alpha=1.0")) == {"alpha": "PostinstFailed"}
    assert not host.apt.place.policy_rc.exists()


def test_a_policy_of_somebody_else_stays_and_decides(host: Host) -> None:
    host.publish("alpha", "1.0", scripts={"postinst": ASK.format(script="postinst")})
    policy = host.apt.place.policy_rc
    policy.parent.mkdir(parents=True)
    policy.write_text("#!/bin/sh\n# kept-by-test\nexit 104\n")
    policy.chmod(0o755)
    host.install("alpha=1.0")
    assert "postinst start 104" in answers(host)
    assert "kept-by-test" in policy.read_text()
    assert not host.apt.tidy()


def test_it_hinders_nobody_but_our_own_scripts(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with policy_in_place(policy, "install"):
        ask = [str(policy), "ssh", "start"]
        assert subprocess.run(ask, env={}, check=False).returncode == 0
        assert subprocess.run(ask, env={"HOSTMAN": "1"}, check=False).returncode == 101


def test_it_goes_on_every_way_out(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with pytest.raises(KeyboardInterrupt), policy_in_place(policy, "install"):
        assert policy.exists()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with policy_in_place(tmp_path / "absent/policy-rc.d", "install"):
        pass
    assert "packages may start services" in caplog.text
    assert not remove_our_policy(tmp_path / "absent/policy-rc.d")
