"""Debian packages: exact versions in, nothing else touched, and a reason when it cannot be."""

from ya_salt.packages.apt import Apt
from ya_salt.packages.session import TransactionResult
from ya_salt.packages.transaction import PackagePass

__all__ = ["Apt", "PackagePass", "TransactionResult"]
