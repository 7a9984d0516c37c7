"""Debian packages: exact versions in, nothing else touched, and a reason when it cannot be."""

from ya_salt.packages.apt import Apt
from ya_salt.packages.passes import PackagePass
from ya_salt.packages.work import Outcome

__all__ = ["Apt", "Outcome", "PackagePass"]
