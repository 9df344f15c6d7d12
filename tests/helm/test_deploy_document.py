"""docs/deploy.md: its Helm commands are taken, and the names in it are those that they make."""

import re
import shlex

import pytest
import yaml

from tests.helm.chart import EXAMPLES, ROOT, Helm, load, the

DOCUMENT = (ROOT / "docs/deploy.md").read_text()
# Of these only a running release knows more than `helm template`.
ONLY_WITH_A_RELEASE = {"--reset-then-reuse-values"}


def commands(program: str) -> list[list[str]]:
    """The words of every command of a program in the document's code blocks."""
    blocks = re.findall(r"^```\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line.removesuffix("&")) for line in lines if line.startswith(f"{program} ")]


def template(helm: Helm, words: list[str]) -> str:
    """What an install or upgrade command of the document would send to the cluster."""
    namespace, name, options = words[2], words[4], words[6:]
    assert [words[1], words[5]] == ["-n", "helm/winnow"]
    options = [str(ROOT / word) if word.startswith("helm/") else word for word in options]
    kept = [word for word in options if word not in ONLY_WITH_A_RELEASE]
    return helm.run("template", name, ROOT / "helm/winnow", "--namespace", namespace, *kept)


@pytest.mark.parametrize("words", [w for w in commands("helm") if w[3] in {"install", "upgrade"}], ids=" ".join)
def test_the_chart_takes_the_documents_commands(helm, words):
    assert the(load(template(helm, words)), "Deployment")["metadata"]["name"] == f"{words[4]}-winnow"


def test_other_helm_commands_are_about_an_installed_release():
    known = {"install", "upgrade", "test", "rollback", "uninstall"}
    assert {words[3] for words in commands("helm")} == known


def test_the_names_in_later_commands_are_those_of_the_installation(helm4):
    install = next(words for words in commands("helm") if words[4] == "qwen")
    manifests = load(template(helm4, install))
    names = {manifest["kind"]: manifest["metadata"]["name"] for manifest in manifests}
    deployment = the(manifests, "Deployment")
    assert f"service/{names['Service']} 8000:{the(manifests, 'Service')['spec']['ports'][0]['port']}" in DOCUMENT
    assert f"rollout restart deployment/{names['Deployment']}`" in DOCUMENT
    assert f"delete pvc {names['PersistentVolumeClaim']}`" in DOCUMENT
    assert f"--timeout={deployment['spec']['progressDeadlineSeconds']}s" in DOCUMENT
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    wanted = re.search(r"-l (app\S+)", DOCUMENT)[1]
    assert dict(pair.split("=") for pair in wanted.split(",")).items() <= labels.items()
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    served = container["args"][container["args"].index("--served-model-name") + 1]
    assert f'"model": "{served}"' in DOCUMENT


def test_every_example_has_its_row():
    rows = set(re.findall(r"`([\w-]+\.yaml)`", DOCUMENT))
    assert {path.name for path in EXAMPLES} == rows


def test_every_value_in_the_document_is_one_of_the_chart():
    values = yaml.safe_load((ROOT / "helm/winnow/values.yaml").read_text())

    def is_known(path: str) -> bool:
        value = values
        for key in path.split("."):
            if not isinstance(value, dict) or key not in value:
                return False
            value = value[key]
        return True

    named = re.findall(r"`([a-z]\w+(?:\.\w+)+)(?:: [^`]*)?`", DOCUMENT)
    paths = [path for path in named if path.split(".")[0] in values and not path.endswith(".yaml")]
    assert len(paths) > 15
    assert [path for path in paths if not is_known(path)] == []
