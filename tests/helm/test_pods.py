"""What the pods are allowed, given and told: security, GPUs, memory, probes, and the time to stop."""

import pytest
import yaml

from tests.helm.chart import CHART, KEY, of_kind, pod_templates, server_container, server_template, the

# What the profile "restricted" of the Pod Security Standards asks of a container.
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def test_every_pod_is_restricted(manifests):
    templates = [template for manifest in manifests for template in pod_templates(manifest).values()]
    assert templates
    for template in templates:
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert [container["securityContext"] for container in spec["containers"]] == [RESTRICTED]
        assert not any("hostPath" in volume for volume in spec["volumes"])
    accounts = of_kind(manifests, "ServiceAccount")
    assert all(account["automountServiceAccountToken"] is False for account in accounts)


def test_the_user_is_the_image_s(helm4):
    context = server_template(helm4.render())["spec"]["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (2000, 0)


def test_a_cluster_may_choose_the_user(helm4):
    context = server_template(helm4.render("--values", CHART / "examples/openshift.yaml"))["spec"]["securityContext"]
    assert {"runAsUser", "runAsGroup", "fsGroup"}.isdisjoint(context)


def test_what_the_server_writes_to_is_writable(manifests):
    for template in pod_templates_of_the_server(manifests):
        (container,) = template["spec"]["containers"]
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        assert mounted["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        variables = {item["name"]: item.get("value") for item in container["env"]}
        for folder in ("/tmp", variables["HOME"]):
            assert mounted[folder]["emptyDir"] == {}
        if "HF_HOME" in variables:
            assert any(variables["HF_HOME"].startswith(f"{folder}/") for folder in mounted)


def pod_templates_of_the_server(manifests):
    return [template for manifest in manifests for role, template in pod_templates(manifest).items() if role != "test"]


@pytest.mark.parametrize("model", ["demo", "demo-sparse"])
def test_a_bundled_model_needs_no_cache_and_no_network(helm4, model):
    manifests = helm4.render("--set", f"model.name={model}")
    assert of_kind(manifests, "PersistentVolumeClaim") == []
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in server_container(manifests)["env"]


@pytest.mark.parametrize(
    ("values", "volume"),
    [
        ("cache.type=persistentVolumeClaim", {"persistentVolumeClaim": {"claimName": "winnow-cache"}}),
        ("cache.type=existingClaim,cache.existingClaim=mine", {"persistentVolumeClaim": {"claimName": "mine"}}),
        ("cache.type=emptyDir,cache.size=20Gi", {"emptyDir": {"sizeLimit": "20Gi"}}),
        ("cache.type=none", {"emptyDir": {}}),
    ],
    ids=lambda value: value.partition(",")[0] if isinstance(value, str) else "",
)
def test_a_downloaded_model_goes_to_the_cache(helm4, values, volume):
    manifests = helm4.render("--set", f"model.name=some/model,{values}")
    assert {"name": "cache", **volume} in server_template(manifests)["spec"]["volumes"]
    assert {"name": "HF_HOME", "value": "/cache/huggingface"} in server_container(manifests)["env"]


@pytest.mark.parametrize("retain", ["true", "false"])
def test_the_claim_outlives_the_release_if_wanted(helm4, retain):
    claim = the(helm4.render("--set", f"model.name=some/model,cache.retain={retain}"), "PersistentVolumeClaim")
    kept = claim["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    assert kept == (retain == "true")


def test_gpus_are_as_many_as_share_the_model(helm4):
    sets = "parallel.tensor=4,resources.requests.memory=64Gi,resources.limits.memory=96Gi,resources.requests.cpu=8"
    resources = server_container(helm4.render("--set", sets))["resources"]
    assert resources == {
        "requests": {"cpu": 8, "memory": "64Gi", "nvidia.com/gpu": "4"},
        "limits": {"memory": "96Gi", "nvidia.com/gpu": "4"},
    }


def test_gpus_of_another_name_and_none(helm4):
    sliced = server_container(helm4.render("--set", "gpu.resourceName=nvidia.com/mig-3g.40gb"))
    assert sliced["resources"]["limits"] == {"nvidia.com/mig-3g.40gb": "1"}
    without = server_container(helm4.render("--set", "gpu.enabled=false"))
    assert without["resources"] == {"requests": {"cpu": "2", "memory": "8Gi"}}


@pytest.mark.parametrize(
    ("values", "threads"),
    [
        ("gpu.enabled=false", "requests.cpu"),
        ("gpu.enabled=false,resources.requests=null,resources.limits.cpu=4", "limits.cpu"),
        ("gpu.enabled=false,resources.requests=null", None),
        ("gpu.enabled=true", None),
    ],
    ids=["requests", "limits", "neither", "with a GPU"],
)
def test_a_server_without_a_gpu_has_as_many_threads_as_cores(helm4, values, threads):
    variables = {item["name"]: item for item in server_container(helm4.render("--set", values))["env"]}
    source = {"resourceFieldRef": {"containerName": "server", "resource": threads}}
    assert variables.get("OMP_NUM_THREADS", {}).get("valueFrom") == (source if threads else None)
    assert ("VLLM_CPU_OMP_THREADS_BIND" in variables) == ("gpu.enabled=false" in values)


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ("image.repository=r/winnow", "r/winnow:0.1.0"),
        ("image.repository=r/winnow,gpu.enabled=false", "r/winnow:0.1.0-cpu"),
        ("image.repository=r/winnow,image.tag=x", "r/winnow:x"),
        (f"image.repository=r/winnow,image.tag=x,image.digest=sha256:{'0' * 64}", f"r/winnow@sha256:{'0' * 64}"),
    ],
    ids=["version", "cpu", "tag", "digest"],
)
def test_the_image(helm4, values, image):
    assert server_container(helm4.render("--set", values))["image"] == image


def test_the_chart_and_the_package_have_one_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (CHART.parents[1] / "pyproject.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in project


def test_a_download_has_half_an_hour(helm4):
    manifests = helm4.render()
    probe = server_container(manifests)["startupProbe"]
    allowed_s = probe["periodSeconds"] * probe["failureThreshold"]
    assert allowed_s == 1800
    # Kubernetes would call the rollout failed before that otherwise.
    assert the(manifests, "Deployment")["spec"]["progressDeadlineSeconds"] > allowed_s


def test_requests_in_flight_have_time_to_finish(manifests):
    spec = server_template(manifests)["spec"]
    (container,) = spec["containers"]
    arguments = container["args"]
    drain_s = int(arguments[arguments.index("--shutdown-timeout") + 1])
    command, pre_stop_s = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    assert spec["terminationGracePeriodSeconds"] == int(pre_stop_s) + drain_s + 30


def test_a_new_key_replaces_the_pods_and_a_new_chart_does_not(helm4):
    def metadata(key):
        return server_template(helm4.render("--set", f"auth.apiKey.value={key}"))["metadata"]

    assert metadata(KEY) == metadata(KEY) != metadata(KEY[::-1])
    assert "helm.sh/chart" not in metadata(KEY)["labels"]


def test_pods_are_replaced_not_doubled(helm4):
    """A second pod would wait for GPUs that the first one holds."""
    assert the(helm4.render(), "Deployment")["spec"]["strategy"] == {"type": "Recreate"}


def test_replicas_spread_by_the_chart_s_own_labels(helm4):
    values = CHART / "examples/data-parallel.yaml"
    manifests = helm4.render("--values", values)
    (constraint,) = server_template(manifests)["spec"]["topologySpreadConstraints"]
    assert constraint["labelSelector"]["matchLabels"] == the(manifests, "Service")["spec"]["selector"]
    assert constraint["topologyKey"] == "kubernetes.io/hostname"


def test_a_selector_of_one_s_own_stays(helm4, tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text("topologySpreadConstraints: [{topologyKey: zone, labelSelector: {matchLabels: {team: a}}}]")
    (constraint,) = server_template(helm4.render("--values", values))["spec"]["topologySpreadConstraints"]
    assert constraint["labelSelector"] == {"matchLabels": {"team": "a"}}


def test_extra_variables_replace_the_chart_s_own(helm4):
    manifests = helm4.render("--values", CHART / "ci/everything-values.yaml")
    values = [item["value"] for item in server_container(manifests)["env"] if item["name"] == "HF_HOME"]
    assert values == ["/cache/other"]
