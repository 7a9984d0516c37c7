"""The errors of ya-salt, sorted by who can put them right. Pure."""

from __future__ import annotations

from operator import attrgetter

from ya_salt.quick_dataclass import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class YaSaltError(Exception):
    """Anything ya-salt raises on purpose. `str()` is a sentence for a person on call."""


class OperatorError(YaSaltError):
    """Somebody has to edit a file or install something; trying again changes nothing."""


class RetryError(YaSaltError):
    """The world said no; the next pass tries again by itself."""


class UsageError(OperatorError):
    """The command line asks for something that cannot be."""


class SettingsError(OperatorError):
    """The settings file, the environment or a flag holds something that cannot be used."""


class StoreError(RetryError):
    """The state directory cannot be read or written."""


class LockHeldError(RetryError):
    """Another pass is running on this host."""


@dataclass(frozen=True)
class SpecProblem:
    """One thing wrong with a spec file. `line` and `column` count from 1."""

    path: str
    line: int
    column: int
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}"
        return (
            f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"
        )


def list_in_order(problems: Iterable[SpecProblem]) -> tuple[SpecProblem, ...]:
    """Return them as they stand in the file."""
    place = attrgetter("path", "line", "column", "field", "message")
    return tuple(sorted(problems, key=place))


class SpecError(OperatorError):
    """A spec file that cannot be used, with everything that is wrong with it."""

    def __init__(self, problems: tuple[SpecProblem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class PackageError(RetryError):
    """apt or dpkg did not do what was asked.

    `reason` is a CamelCase code that goes into the status; `packages` are the names it concerns;
    `output` holds the last lines of the tool's own words.
    """

    def __init__(
        self, reason: str, message: str, *, packages: tuple[str, ...] = (), output: str = ""
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.packages = packages
        self.output = output


class PortoError(RetryError):
    """portod answered with an error, or did not answer.

    `code` is the name of an EError (`InvalidValue`), `call` what was asked in words.
    """

    def __init__(self, code: str, message: str, call: str = "") -> None:
        super().__init__(f"{call}: {code}: {message}" if call else f"{code}: {message}")
        self.code = code
        self.message = message
        self.call = call


class PortoUnavailableError(PortoError):
    """No portod at the other end of the socket: nothing was asked of it."""


class PortoUnknownFateError(PortoError):
    """The connection broke or timed out after a write was sent: it may have happened, or not."""


def describe_bug(error: Exception) -> str:
    """What a person is told of an exception that nobody foresaw, with its place for whoever mends.

    Where it was met by one daemon it is that daemon's failure, and the others go on.
    """
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return f"a bug in ya-salt: {error!r}{place}; please report it, with the log"


class GateError(RetryError):
    """The rollout gate did not answer, or not in words that can be used.

    `reason` is a CamelCase code for the status: GateUnreachable, or GateRefused where it answered
    that we may not ask (user, certificate, role).
    """

    def __init__(self, message: str, reason: str = "GateUnreachable") -> None:
        super().__init__(message)
        self.reason = reason
