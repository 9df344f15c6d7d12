"""The chart, rendered by a real Helm: what the tests of the manifests share."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/winnow"
CI_VALUES = sorted(CHART.glob("ci/*-values.yaml"))
EXAMPLES = sorted(CHART.glob("examples/*.yaml"))
GOLDEN = Path(__file__).parent / "golden"
WORKLOADS = {"Deployment", "LeaderWorkerSet"}
# As short as the server takes one.
KEY = "key-of-the-tests"

Manifest = dict[str, Any]


class Refused(Exception):
    """Helm did not take the values; the text is what it printed."""


class _Loader(yaml.CSafeLoader):
    """YAML in which a key that stands twice is an error, as it is for the API server."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    keys = [loader.construct_object(key) for key, _ in node.value]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise yaml.YAMLError(f"keys that stand twice: {twice}")
    return loader.construct_mapping(node)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load(text: str) -> list[Manifest]:
    """The documents of a YAML text, without empty ones."""
    return [document for document in yaml.load_all(text, _Loader) if document]


@dataclass(frozen=True)
class Helm:
    """One version of Helm."""

    path: Path

    def run(self, *arguments: str | Path) -> str:
        """Its output.

        Raises:
            Refused: it failed.
        """
        result = subprocess.run([self.path, *arguments], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise Refused(result.stdout + result.stderr)
        return result.stdout

    def template(self, *options: str | Path, release: str = "winnow", namespace: str = "models") -> str:
        """The chart as text."""
        return self.run("template", release, CHART, "--namespace", namespace, *options)

    def render(self, *options: str | Path, release: str = "winnow", namespace: str = "models") -> list[Manifest]:
        """The chart's manifests, with options of `helm template` such as `--set` and `--values`."""
        return load(self.template(*options, release=release, namespace=namespace))


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def the(manifests: list[Manifest], kind: str) -> Manifest:
    """The only manifest of a kind."""
    (manifest,) = of_kind(manifests, kind)
    return manifest


def pod_templates(manifest: Manifest) -> dict[str, Manifest]:
    """The pod templates of a manifest by role; a Pod is its own."""
    spec = manifest.get("spec", {})
    match manifest["kind"]:
        case "Deployment":
            return {"server": spec["template"]}
        case "LeaderWorkerSet":
            group = spec["leaderWorkerTemplate"]
            return {"server": group["leaderTemplate"], "worker": group["workerTemplate"]}
        case "Pod":
            return {"test": manifest}
    return {}


def matches(selector: Manifest, labels: dict[str, str]) -> bool:
    """Whether a label selector means pods with these labels; of expressions the chart uses `In` alone."""
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return selector["matchLabels"].items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def server_template(manifests: list[Manifest]) -> Manifest:
    """The pod template of the server."""
    (workload,) = [manifest for manifest in manifests if manifest["kind"] in WORKLOADS]
    return pod_templates(workload)["server"]


def server_container(manifests: list[Manifest]) -> Manifest:
    (container,) = server_template(manifests)["spec"]["containers"]
    return container
