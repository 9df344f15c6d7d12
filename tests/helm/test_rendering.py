"""Both versions of Helm take the chart with every file of values, and render the same."""

import os
import tarfile

import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from tests.helm.chart import CHART, CI_VALUES, GOLDEN, KEY, Helm, load

YAMLLINT = YamlLintConfig(
    """
    extends: default
    rules:
      line-length: {max: 140}
      document-start: disable
      braces: {max-spaces-inside: 0, forbid: false}
      comments: {min-spaces-from-content: 1}
    """
)


def test_lint_has_no_complaint(helm, values_file):
    assert "0 chart(s) failed" in helm.run("lint", "--strict", CHART, "--values", values_file)


def test_helm_3_and_4_render_the_same(tool, values_file, manifests):
    def by_name(manifests):
        return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}

    assert by_name(Helm(tool("helm3")).render("--values", values_file)) == by_name(manifests)


@pytest.mark.parametrize("path", CI_VALUES, ids=lambda path: path.stem)
def test_rendered_manifests_are_the_recorded_ones(helm4, path):
    """A change is seen in review. To record it: UPDATE_GOLDEN=1 python -m pytest tests/helm/test_rendering.py"""
    record = GOLDEN / f"{path.stem.removesuffix('-values')}.yaml"
    # The dashboard and the checks are files of the chart themselves.
    documents = [document for document in load(helm4.template("--values", path)) if document["kind"] != "ConfigMap"]
    text = yaml.safe_dump_all(documents, sort_keys=False, width=120)
    if os.environ.get("UPDATE_GOLDEN"):
        record.write_text(text)
    assert text == record.read_text()


def test_records_belong_to_the_matrix():
    assert {path.stem for path in GOLDEN.iterdir()} == {path.stem.removesuffix("-values") for path in CI_VALUES}


@pytest.mark.parametrize("path", [CHART / "values.yaml", CHART / "Chart.yaml"], ids=lambda path: path.name)
def test_yaml_is_tidy(path):
    assert [str(problem) for problem in linter.run(path.read_text(), YAMLLINT)] == []


def test_files_of_values_are_tidy(values_file):
    assert [str(problem) for problem in linter.run(values_file.read_text(), YAMLLINT)] == []


def test_the_package_holds_what_an_installation_needs(helm, tmp_path):
    helm.run("package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.glob("winnow-*.tgz")
    with tarfile.open(package) as archive:
        names = {name.removeprefix("winnow/") for name in archive.getnames()}
    assert {"Chart.yaml", "README.md", "checks/ask.py", "dashboards/winnow.json", "rules/alerts.yaml"} <= names
    assert not [name for name in names if name.startswith(("ci/", "examples/"))]


def test_notes_name_the_next_commands(helm4):
    """Helm 3 asks a cluster before it shows them."""
    options = ["--dry-run=client", "--namespace", "models", "--set", f"auth.apiKey.value={KEY}"]
    notes = helm4.run("install", "winnow", CHART, *options).partition("NOTES:")[2]
    for command in (
        "kubectl -n models wait pod --for=condition=Ready",
        "helm -n models test winnow --logs",
        "port-forward service/winnow 8000:8000",
        "get secret winnow-api-key -o go-template='{{index .data \"api-key\" | base64decode}}'",
    ):
        assert command in notes


WARNINGS = {
    "defaults": ("", []),
    "open to the world": ("service.type=LoadBalancer", ["asks for no key", "only pods of namespace"]),
    "with a key": ("service.type=LoadBalancer,auth.apiKey.existingSecret=key", ["only pods of namespace"]),
    "with keys of a file": ("service.type=NodePort,extraArgs={--api-keys-file=x}", ["only pods of namespace"]),
    "with keys in a variable": (
        "service.type=NodePort,extraEnv[0].name=WINNOW_API_KEYS,extraEnv[0].value=x",
        ["only pods of namespace"],
    ),
    "a gateway that is let in": (
        "httpRoute.enabled=true,httpRoute.parentRefs[0].name=g,networkPolicy.ingress.namespaces={gateways}",
        ["asks for no key"],
    ),
    "Prometheus is not let in": ("monitoring.podMonitor.enabled=true", ["only pods of namespace"]),
    "no key and no policy": ("networkPolicy.enabled=false", ["every pod of the cluster may ask"]),
    "a key and no policy": ("networkPolicy.enabled=false,auth.apiKey.existingSecret=key", []),
}


@pytest.mark.parametrize(("values", "sentences"), WARNINGS.values(), ids=WARNINGS)
def test_notes_warn_of_who_may_ask_and_who_may_not(helm4, values, sentences):
    notes = helm4.run("install", "winnow", CHART, "--dry-run=client", "--set", values)
    warnings = notes.split("WARNING: ")[1:]
    assert len(warnings) == len(sentences)
    assert all(sentence in warning for sentence, warning in zip(sentences, warnings, strict=True))
