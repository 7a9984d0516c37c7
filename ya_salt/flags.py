"""Where settings come from, and those that have a flag. Loads next to nothing."""

from __future__ import annotations

DEFAULT_FILE = "/etc/hostman/ya-salt.yaml"
ENVIRONMENT_PREFIX = "YA_SALT_"
CONFIG_VARIABLE = f"{ENVIRONMENT_PREFIX}CONFIG"
STATE_DIR = "/var/lib/ya-salt"
"""Where nothing says otherwise."""


class Flag:
    """One flag, over the setting of the same name."""

    def __init__(self, name: str, metavar: str, help_text: str) -> None:
        self.name = name
        self.metavar = metavar
        self.help = help_text

    @property
    def word(self) -> str:
        return "--" + self.name.replace("_", "-")


FLAGS = (
    Flag("specs_dir", "DIR", "the daemons directory"),
    Flag("state_dir", "DIR", "where what must outlive a pass is kept"),
    Flag("porto_socket", "PATH", "portod's socket"),
    Flag(
        "root",
        "DIR",
        "packages only: DIR/etc/apt and DIR/var/lib/dpkg are used, missing folders made",
    ),
    Flag("log_file", "FILE", "the log"),
)
