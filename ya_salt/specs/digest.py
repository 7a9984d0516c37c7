"""Write a checked spec down: the digest that names what runs, and the document for people. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from ya_salt.model import Package
from ya_salt.porto.properties import is_secret
from ya_salt.specs.checks import camel
from ya_salt.specs.container import Json
from ya_salt.specs.daemon import Draft


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def make_digest(name: str, properties: Mapping[str, str], packages: Sequence[Package]) -> str:
    """Hash what decides what runs; the order in the file, versions and comments do not.

    Of secrets only the names count: a digest stands where anybody may read it and try values.
    """
    shown = {key: "" if is_secret(key) else text for key, text in properties.items()}
    return _hash_content(name, shown, packages)


def make_digest_with_secrets(
    name: str, properties: Mapping[str, str], packages: Sequence[Package]
) -> str:
    """The digest in labels that ya-salt wrote before it kept secrets out of them."""
    return _hash_content(name, properties, packages)


def _hash_content(name: str, properties: Mapping[str, str], packages: Sequence[Package]) -> str:
    content = {
        "name": name,
        "properties": dict(properties),
        "packages": sorted([package.name, package.version] for package in packages),
    }
    return hashlib.sha256(_dump(content).encode()).hexdigest()


def make_document(draft: Draft) -> str:
    """Write a PortoDaemonManifest as protobuf JSON: only what was set, secrets masked."""
    document: dict[str, Json] = {"meta": _rename(draft.meta)}
    if draft.has_spec:
        document["spec"] = _spec(draft)
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def _rename(fields: Mapping[str, Json]) -> dict[str, Json]:
    return {camel(name): value for name, value in fields.items()}


def _spec(draft: Draft) -> dict[str, Json]:
    spec: dict[str, Json] = {}
    if draft.container.document:
        spec["properties"] = _rename(draft.container.document)
    if draft.packages:
        spec["packages"] = [_package(package) for package in draft.packages]
    if draft.min_ready_s is not None:
        spec["minReadyS"] = draft.min_ready_s
    if draft.ready_timeout_s is not None:
        spec["readyTimeoutS"] = draft.ready_timeout_s
    return spec | draft.behaviour.document


def _package(package: Package) -> Json:
    shown: dict[str, Json] = {"name": package.name, "version": package.version}
    return shown | {"allowHeld": True} if package.allow_held else shown
