"""Metadata is in setup.cfg; only here can packages that lie beside ya_salt join those in it."""

from setuptools import find_packages, setup

# Salt's adapters and the SLS, whose folders setup.cfg maps (package_dir).
BESIDE = ("modules", "states", "beacons", "file_root.porto_daemons")
setup(
    packages=[
        *find_packages(include=["ya_salt", "ya_salt.*"]),
        *(f"ya_salt.ext.{name}" for name in BESIDE),
    ]
)
