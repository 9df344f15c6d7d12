"""Values that cannot work are refused before anything reaches a cluster, with a sentence that says what to do."""

import json

import pytest

from tests.helm.chart import CHART, KEY, Refused

# values, and what both versions of Helm say about them
BY_SCHEMA = {
    "wrong type": ("replicaCount=many", ["replicaCount", "integer"]),
    "unknown key": ("sparsty.min=1", ["sparsty"]),
    "unknown nested key": ("model.nmae=x", ["nmae"]),
    "text as a share": ("sparsity.default=high", ["default"]),
    "a share above 1": ("sparsity.max=2", ["max"]),
    "a negative share": ("sparsity.min=-0.5", ["min"]),
    "unknown selection": ("sparsity.selection=best", ["selection", "zipvl", "keys"]),
    "unknown cache": ("cache.type=nfs", ["cache", "emptyDir"]),
    "an argument that is no text": ("extraArgs[0]=1", ["extraArgs", "string"]),
    "no GPU at all": ("parallel.tensor=0", ["tensor", "1"]),
    "a size without unit": ("shm.sizeLimit=big", ["sizeLimit"]),
    "unknown strategy": ("strategy.type=Never", ["strategy", "Recreate"]),
    "a short digest": ("image.digest=sha256:12", ["digest"]),
}

BY_RULE = {
    "minimum above maximum": (
        "sparsity.min=0.9,sparsity.max=0.5,sparsity.default=0.7",
        "sparsity.min is 0.9 and sparsity.max is 0.5, but the minimum must not be above the maximum.",
    ),
    "default below minimum": ("sparsity.min=0.9,sparsity.default=0.5", "sparsity.default is 0.5, but must lie within"),
    "default above maximum": ("sparsity.max=0.9", "sparsity.default is 1, but must lie within"),
    "default of nothing": ("sparsity.default=0", "both must be greater than 0"),
    "both forms of the key": (
        f"auth.apiKey.value={KEY},auth.apiKey.existingSecret=b",
        "auth.apiKey has a value and an existingSecret (b), but only one of them can hold. Remove one.",
    ),
    "both forms of the token": (
        "huggingface.token.value=a,huggingface.token.existingSecret=b",
        "huggingface.token has a value and an existingSecret (b), but only one of them can hold. Remove one.",
    ),
    "a short key": ("auth.apiKey.value=s3cr3t", "auth.apiKey.value has 6 characters, but the server takes keys of at"),
    "a key with a space": (f"auth.apiKey.value=my {KEY}", "16 visible ASCII characters. Take what"),
    "a claim without a name": ("cache.type=existingClaim", "cache.existingClaim is empty. Name the claim."),
    "GPUs named twice": ("resources.limits.nvidia\\.com/gpu=1", "the chart asks for as many as parallel.tensor says"),
    "GPUs that do not divide": (
        "multiNode.enabled=true,parallel.tensor=9",
        "parallel.tensor is 9 and multiNode.size is 2, but every pod must get the same number of GPUs.",
    ),
    "nodes without a shared cache": (
        "multiNode.enabled=true,parallel.tensor=16,model.name=some/model",
        "cache.accessModes has no ReadWriteMany",
    ),
    "two autoscalers": ("autoscaling.hpa.enabled=true,autoscaling.keda.enabled=true", "Disable one."),
    "fewest above most": ("autoscaling.minReplicas=9", "autoscaling.minReplicas is 9 and autoscaling.maxReplicas is 4"),
    "two budgets": (
        "podDisruptionBudget.minAvailable=1,podDisruptionBudget.maxUnavailable=1",
        "podDisruptionBudget.minAvailable is 1 and podDisruptionBudget.maxUnavailable is 1",
    ),
    "an ingress for no host": ("ingress.enabled=true", "ingress.hosts is empty. Name a host."),
    "a route to no gateway": ("httpRoute.enabled=true", "httpRoute.parentRefs is empty."),
    "a key among the arguments": ("extraArgs={--api-key=x}", "extraArgs holds --api-key, but"),
    "GPUs among the arguments": ("extraArgs={--tensor_parallel_size=2}", "Set parallel.tensor instead."),
    "TLS in the server": ("extraArgs={--ssl-certfile=x}", "Set ingress.tls instead."),
    "a label that selects": (
        "podLabels.app\\.kubernetes\\.io/instance=x",
        "podLabels holds app.kubernetes.io/instance, but the chart's own labels and selectors do too.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("values", "words"), BY_SCHEMA.values(), ids=BY_SCHEMA)
def test_the_schema_refuses(helm, values, words):
    with pytest.raises(Refused) as refusal:
        helm.template("--set", values)
    assert "don't meet the specifications of the schema" in str(refusal.value)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(("values", "sentence"), BY_RULE.values(), ids=BY_RULE)
def test_a_rule_refuses_with_a_remedy(helm, values, sentence):
    with pytest.raises(Refused) as refusal:
        helm.template("--set", values)
    assert sentence in " ".join(str(refusal.value).split())


@pytest.mark.parametrize("key", ["auth", "cache", "monitoring", "probes", "sparsity", "tests"])
def test_every_branch_is_closed(helm4, tmp_path, key):
    values = tmp_path / "values.json"
    values.write_text(json.dumps({key: {"surprise": True}}))
    with pytest.raises(Refused, match="surprise"):
        helm4.template("--values", values)


def test_a_share_may_be_what_set_makes_of_it(helm):
    """Helm turns `--set sparsity.default=0.9` into text."""
    assert '- "0.9"' in helm.template("--set", "sparsity.default=0.9")


def test_the_chart_may_be_a_dependency(helm4):
    """Helm hands the parent's `global` values down."""
    assert helm4.run("lint", "--strict", CHART, "--set", "global.imageRegistry=x")
