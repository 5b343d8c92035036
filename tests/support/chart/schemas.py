"""What Kubernetes says of a resource: its own schemas, strict."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from support.chart.tools import kubernetes_schemas


@cache
def validator(version: str, kind: str, group_version: str) -> Draft202012Validator:
    """Of one kind of resource, strict: a name that it does not know is a fault."""
    folder = kubernetes_schemas() / f"v{version}.0-local-strict"
    group, _, api = group_version.rpartition("/")
    name = "-".join(part for part in (kind.lower(), group.partition(".")[0], api) if part)
    schema = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return Draft202012Validator(schema, registry=definitions(version))


@cache
def definitions(version: str) -> Registry:
    path = kubernetes_schemas() / f"v{version}.0-local-strict" / "_definitions.json"
    contents = json.loads(path.read_text(encoding="utf-8"))
    return Resource.from_contents(contents) @ Registry()


def faults(resource: dict[str, Any], version: str) -> list[str]:
    found = validator(version, resource["kind"], resource["apiVersion"]).iter_errors(resource)
    return [f"{error.json_path}: {error.message[:200]}" for error in found]
