"""deploy/chart rendered by both helms over many values, held against what Kubernetes takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.chart.rendered import CHART, NAMESPACE, RELEASE, render
from support.chart.schemas import faults
from support.chart.tools import faults_of_custom_resources

S3 = {"uri": "s3://models/sam.tar", "sha256": "0" * 64}
TLS = {"enabled": True, "secretName": "server-tls"}
MONITORED = {
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "disabled": ["SamRefineSlow"]},
    "dashboard": {"enabled": True},
}
MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "cpu": {"gpu": {"count": 0}, "replicas": 1, "maxSurge": 0, "serviceAccount": {"create": False},
            "networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False}},
    "image": {"modelRepository": {"source": "image", "imagePath": "/opt/models"},
              "image": {"digest": f"sha256:{'a' * 64}"}},
    "s3": {"modelRepository": {"source": "s3", "s3": {
               **S3, "secretName": "bucket", "endpointUrl": "https://minio.example:9000",
               "port": 9000}},
           "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:r"}}},
    "hpa": {"autoscaling": {"mode": "hpa"}, **MONITORED},
    "keda": {"autoscaling": {"mode": "keda", "prometheusUrl": "http://prometheus.monitoring:9090",
                             "triggerAuthentication": "prometheus"},
             "tracing": {"enabled": True, "url": "http://otel.monitoring:4318/v1/traces"},
             **MONITORED},
    "envoy": {"envoy": {"enabled": True}, "tls": {**TLS, "mutual": True}},
    "everything": {
        "imagePullSecrets": [{"name": "registry"}], "gpu": {"runtimeClassName": "nvidia"},
        "modelRepository": {"pvc": {"claimName": "models", "subPath": "mobile_sam"}},
        "terminationGracePeriodSeconds": 300, "environment": {"OMP_NUM_THREADS": "4"},
        "server": {"extraArguments": ["--log-verbose=1"]}, "tls": TLS, "envoy": {"enabled": True},
        "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
        "topologySpread": "DoNotSchedule", "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]}}},
        "priorityClassName": "serving", "podAnnotations": {"a": "b"}, "podLabels": {"team": "maps"},
        "networkPolicy": {"extraEgress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
    },
    "texts that YAML takes for something else": {
        "imagePullSecrets": [{"name": "1"}], "gpu": {"runtimeClassName": "1"},
        "modelRepository": {"pvc": {"claimName": "1", "subPath": "2026"}},
        "tls": {"enabled": True, "secretName": "1", "mutual": True},
        "autoscaling": {"mode": "keda", "prometheusUrl": "http://p", "triggerAuthentication": "1"},
        "priorityClassName": "1", "serviceAccount": {"name": "on"}, "envoy": {"enabled": True},
        "environment": {"A": "1", "B": "a: #b"}, "nodeSelector": {"gpu": "true"},
        "tracing": {"enabled": True, "url": "http://c/: #b", "oneIn": 1000000},
    },
    "texts of a bucket that YAML takes for something else": {
        "modelRepository": {"source": "s3", "s3": {
            **S3, "uri": "s3://b/a: b #c.tar", "secretName": "1", "endpointUrl": "http://s: #3"}},
        "security": {"runAsUser": 1000650000},
    },
}  # fmt: skip
KUBERNETES = ("1.30", "1.34", "1.37")


def is_custom(resource: dict[str, Any]) -> bool:
    return resource["apiVersion"].partition("/")[0] in ("keda.sh", "monitoring.coreos.com")


@pytest.mark.parametrize("name", MATRIX)
def test_resources_are_what_each_kubernetes_accepts(name):
    rendered = render(MATRIX[name])
    assert rendered == render(MATRIX[name], major=3)
    for resource in rendered.values():
        assert resource["metadata"]["namespace"] == NAMESPACE
        for version in KUBERNETES if not is_custom(resource) else ():
            assert faults(resource, version) == [], (resource["kind"], version)


def test_schemas_refuse_a_typo_and_a_wrong_kind_of_value():
    service = json.loads(json.dumps(render()["Service", ""]))
    service["spec"]["prots"] = service["spec"].pop("ports")
    (fault,) = faults(service, "1.34")
    assert "'prots' was unexpected" in fault
    deployment = json.loads(json.dumps(render()["Deployment", ""]))
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["periodSeconds"] = "1"
    assert faults(deployment, "1.34")


def test_custom_resources_are_what_their_operators_accept():
    resources = [
        resource
        for name in MATRIX
        for resource in render(MATRIX[name]).values()
        if is_custom(resource)
    ]
    kinds = {resource["kind"] for resource in resources}
    assert kinds == {"ScaledObject", "ServiceMonitor", "PrometheusRule"}
    typo, wrong = json.loads(json.dumps(resources[:2]))
    typo["spec"]["tirggers"] = []
    wrong["spec"] = 3
    *found, of_typo, of_wrong = faults_of_custom_resources([*resources, typo, wrong])
    assert found == [None] * len(resources)
    assert of_typo == "unknown name tirggers"
    assert of_wrong is not None


# --- what the resources say ---


@pytest.fixture(params=MATRIX)
def resources(request):
    return render(MATRIX[request.param])


def pods(resources):
    return {name: each["spec"]["template"]["spec"] for (kind, name), each in resources.items()
            if kind == "Deployment"}  # fmt: skip


def containers(pod):
    return [*pod.get("initContainers", ()), *pod["containers"]]


def test_pods_have_no_privilege_no_token_and_limits(resources):
    for pod in pods(resources).values():
        assert pod["automountServiceAccountToken"] is False
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
            written = [mount for mount in container["volumeMounts"] if not mount.get("readOnly")]
            volumes = {volume["name"]: volume for volume in pod["volumes"]}
            assert all("emptyDir" in volumes[mount["name"]] for mount in written)
    account = resources.get(("ServiceAccount", ""))
    assert account is None or account["automountServiceAccountToken"] is False


def test_every_mount_has_its_volume_and_every_empty_one_a_limit(resources):
    for pod in pods(resources).values():
        names = [volume["name"] for volume in pod["volumes"]]
        mounted = {mount["name"] for each in containers(pod) for mount in each["volumeMounts"]}
        assert set(names) == mounted
        assert len(names) == len(mounted)
        for volume in pod["volumes"]:
            assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"]


def test_selectors_find_their_pods_and_no_others(resources):
    labels = {name: each["spec"]["template"]["metadata"]["labels"]
              for (kind, name), each in resources.items() if kind == "Deployment"}  # fmt: skip

    def found(selector):
        return [name for name, each in labels.items() if selector.items() <= each.items()]

    for (kind, name), resource in resources.items():
        spec = resource.get("spec", {})
        if kind in ("Deployment", "PodDisruptionBudget"):
            assert found(spec["selector"]["matchLabels"]) == [name]
        elif kind == "NetworkPolicy":
            assert found(spec["podSelector"]["matchLabels"]) == [name]
        elif kind == "Service":
            of_envoy = name == "" and ("Deployment", "-envoy") in resources
            assert found(spec["selector"]) == (["-envoy"] if of_envoy else [""])
        elif kind == "ServiceMonitor":
            services = [
                each
                for (kind, _), each in resources.items()
                if kind == "Service"
                and spec["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
            ]
            (service,) = services
            ports = {port["name"] for port in service["spec"]["ports"]}
            assert {each["port"] for each in spec["endpoints"]} == ports == {"metrics", "health"}
            assert service["spec"]["publishNotReadyAddresses"] is True


def test_ports_of_services_probes_and_policies_are_those_of_containers(resources):
    for name, pod in pods(resources).items():
        ports = {port["name"] for each in pod["containers"] for port in each.get("ports", ())}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = pod["containers"][0][probe]
            assert (asked.get("httpGet") or asked["tcpSocket"])["port"] in ports
        policy = resources.get(("NetworkPolicy", name))
        for rule in policy["spec"]["ingress"] if policy else ():
            assert {port["port"] for port in rule["ports"]} <= ports


def mebibytes(quantity):
    return int(quantity[:-2]) * {"Mi": 1, "Gi": 1024}[quantity[-2:]]


def test_shared_memory_is_memory_and_counts_in_the_limit():
    pod = pods(render({"resources": {"memory": "8Gi"}, "sharedMemory": {"sizeLimit": "1536Mi"}}))[
        ""
    ]
    (server,) = pod["containers"]
    (shared,) = (volume for volume in pod["volumes"] if volume["name"] == "shm")
    assert shared["emptyDir"] == {"medium": "Memory", "sizeLimit": "1536Mi"}
    assert mebibytes(server["resources"]["limits"]["memory"]) == 8 * 1024 + 1536
    assert server["resources"]["requests"]["memory"] == server["resources"]["limits"]["memory"]
    assert {"name": "shm", "mountPath": "/dev/shm"} in server["volumeMounts"]
    in_memory = [volume for volume in pod["volumes"] if "medium" in volume.get("emptyDir", {})]
    assert in_memory == [shared]


@pytest.mark.parametrize(("values", "seconds"), [
    ({}, 55),
    ({"server": {"drainDelaySeconds": 20, "exitTimeoutSeconds": 600}}, 635),
    ({"terminationGracePeriodSeconds": 120}, 120),
])  # fmt: skip
def test_grace_period_is_computed_from_the_server_s_timeouts(values, seconds):
    assert pods(render(values))[""]["terminationGracePeriodSeconds"] == seconds


@pytest.mark.parametrize("start_s", [1, 5, 300, 301])
def test_startup_probe_waits_for_longer_than_the_server_takes_to_start(start_s):
    pod = pods(render({"server": {"startTimeoutSeconds": start_s}}))[""]
    probe = pod["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= start_s + 30
    assert f"--start-timeout-s={start_s}" in pod["containers"][0]["args"]


def test_texts_arrive_as_they_are():
    odd, bucket = (values for name, values in MATRIX.items() if name.startswith("texts"))
    pod = pods(render(odd))[""]
    assert "--trace-config=opentelemetry,url=http://c/: #b" in pod["containers"][0]["args"]
    assert "--trace-config=rate=1000000" in pod["containers"][0]["args"]
    assert {"name": "B", "value": "a: #b"} in pod["containers"][0]["env"]
    assert pod["serviceAccountName"] == "on"
    (download, _) = pods(render(bucket))[""]["initContainers"]
    assert "s3://b/a: b #c.tar" in download["args"]
    assert "--endpoint-url=http://s: #3" in download["args"]


@pytest.mark.parametrize("name", ["123", "true", "1e3"])
def test_release_and_namespace_may_look_like_a_number(name):
    for (kind, _), resource in render(
        {**MONITORED, "autoscaling": {"mode": "hpa"}, "envoy": {"enabled": True}},
        release=name, namespace=name,
    ).items():  # fmt: skip
        assert resource["metadata"]["namespace"] == name
        assert resource["metadata"]["labels"]["app.kubernetes.io/instance"] == name
        assert is_custom(resource) or faults(resource, "1.34") == [], kind


def test_gpu_is_one_or_none():
    limits = [pods(render({"gpu": {"count": count}}))[""]["containers"][0]["resources"]["limits"]
              for count in (1, 0)]  # fmt: skip
    assert limits[0]["nvidia.com/gpu"] == 1
    assert list(limits[1]) == ["memory"]


@pytest.mark.parametrize("mode", ["hpa", "keda"])
def test_autoscaler_looks_at_the_queue_ratio_and_the_deployment_says_no_number(mode):
    resources = render(MATRIX[mode])
    assert "replicas" not in resources["Deployment", ""]["spec"]
    if mode == "hpa":
        spec = resources["HorizontalPodAutoscaler", ""]["spec"]
        (metric,) = spec["metrics"]
        assert metric["external"]["target"] == {"type": "Value", "value": "0.5"}
        behavior = spec["behavior"]
    else:
        spec = resources["ScaledObject", ""]["spec"]
        (trigger,) = spec["triggers"]
        assert trigger["metricType"] == "Value"
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        pods_of_it = f'{{model="sam_refine",namespace="{NAMESPACE}",service="{RELEASE}-metrics"}}'
        assert trigger["metadata"]["query"] == (
            f"sum(rate(nv_inference_queue_duration_us{pods_of_it}[2m])) / "
            f"clamp_min(sum(rate(nv_inference_compute_infer_duration_us{pods_of_it}[2m])), 1)"
        )
        assert ("Service", "-metrics") in resources
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 600
    assert behavior["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 120}]
    assert spec["scaleTargetRef"]["name"] == RELEASE


def test_pods_reach_nobody_unless_they_must():
    assert render()["NetworkPolicy", ""]["spec"]["egress"] == []
    (rule,) = render(MATRIX["s3"])["NetworkPolicy", ""]["spec"]["egress"]
    assert [port["port"] for port in rule["ports"]] == [53, 53, 9000]
    envoy = render(MATRIX["envoy"])
    (rule,) = [each for each in envoy["NetworkPolicy", ""]["spec"]["ingress"]
               if {"port": "grpc", "protocol": "TCP"} in each["ports"]]  # fmt: skip
    (peer,) = rule["from"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "envoy"


def test_rules_are_the_file_s_but_those_switched_off_with_links_to_the_runbook():
    values = {"prometheusRule": {"enabled": True, "disabled": ["SamRefineSlow"],
                                 "runbookUrl": "https://wiki.example/runbook"}}  # fmt: skip
    groups = render(values)["PrometheusRule", ""]["spec"]["groups"]
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"]}
    assert "SamRefineSlow" not in rules
    assert len(rules) == 15
    for name, rule in rules.items():
        url = rule["annotations"]["runbook_url"]
        assert url == f"https://wiki.example/runbook#{name.lower()}"
    assert "{{ $labels.pod }}" in rules["SamRefineNotReady"]["annotations"]["summary"]


def test_dashboard_is_the_file():
    text = render({"dashboard": {"enabled": True}})["ConfigMap", "-dashboard"]["data"]
    file = CHART / "files/dashboards/sam-refine.json"
    assert json.loads(text["sam-refine.json"]) == json.loads(file.read_text(encoding="utf-8"))
