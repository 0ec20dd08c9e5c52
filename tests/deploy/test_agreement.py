"""The files of deploy/ and the containers say the same as the settings, and as each other."""

import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from config import ROOT, Config, load
from routes.ports import SURFACES

DEPLOY = ROOT / "deploy"
SITE = (DEPLOY / "nginx/tollhouse.conf").read_text(encoding="utf-8")
UNIT = (DEPLOY / "systemd/tollhouse.service").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
DEFAULTS = Config()
PORT = 8000
METRICS = {
    *("http_requests_total", "http_request_duration_seconds", "tokens_used_total", "tokens_prompt_total"),
    *("tokens_completion_total", "token_balance", "llm_requests_total", "llm_request_duration_seconds"),
    *("llm_streaming_chunks_total", "dialogs_created_total", "messages_sent_total", "active_users", "errors_total"),
    "llm_cost_usd_total",
}


def parsed(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def of_site(name):
    (value,) = re.findall(rf"^    {name} ([^;]+);", SITE, re.MULTILINE)
    return value


def seconds(text):
    """`45s`, `10min` or `1m30s` as a number."""
    units = {"h": "hours", "min": "minutes", "m": "minutes", "s": "seconds"}
    return timedelta(**{units[unit]: int(count) for count, unit in re.findall(r"(\d+)(h|min|m|s)", text)}).seconds


def test_bodies_of_the_size_of_the_setting_pass_everywhere():
    size = f"{DEFAULTS.max_body_bytes // 2**20}m"
    assert DEFAULTS.max_body_bytes % 2**20 == 0
    assert of_site("client_max_body_size") == size
    annotations = parsed("deploy/kubernetes/ingress.yaml")["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == size


def test_a_proxy_waits_longer_than_the_gateway():
    annotations = parsed("deploy/kubernetes/ingress.yaml")["metadata"]["annotations"]
    assert seconds(of_site("proxy_read_timeout")) > DEFAULTS.proxy_timeout_s
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > DEFAULTS.proxy_timeout_s
    assert DEFAULTS.sse_keepalive_s < seconds(of_site("send_timeout")) < seconds(of_site("proxy_read_timeout"))


def test_whoever_stops_the_gateway_waits_until_streams_have_ended():
    grace = DEFAULTS.graceful_timeout_s
    assert seconds(re.search(r"^TimeoutStopSec=(.+)$", UNIT, re.MULTILINE)[1]) >= grace + 10
    compose = parsed("compose.yaml")["services"]
    assert {seconds(compose[name]["stop_grace_period"]) >= grace + 10 for name in ("gateway", "dev")} == {True}
    pod = pod_of_kubernetes()
    waits = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= grace + waits + 5


def test_all_of_them_speak_to_the_same_port():
    assert "server 127.0.0.1:8000;" in SITE
    assert "ListenStream=127.0.0.1:8000\n" in (DEPLOY / "systemd/tollhouse.socket").read_text(encoding="utf-8")
    assert "HOST=127.0.0.1 PORT=8000\n" in UNIT
    assert f"PORT={PORT} " in DOCKERFILE
    compose = parsed("compose.yaml")["services"]
    assert compose["gateway"]["environment"]["PORT"] == str(PORT)
    assert compose["gateway"]["ports"] == ["${PUBLISH:-127.0.0.1}:8000:8000"]
    assert pod_of_kubernetes()["containers"][0]["ports"] == [{"name": "http", "containerPort": PORT}]
    assert "PORT=8000\n" in (DEPLOY / "kubernetes/settings.env").read_text(encoding="utf-8")
    jobs = parsed("deploy/monitoring/prometheus.yml")["scrape_configs"]
    assert jobs[0]["static_configs"] == [{"targets": [f"127.0.0.1:{PORT}"]}]


def test_separate_ports_of_compose_are_published():
    assert {"admin", "proxy"} == set().union(*SURFACES.values())
    for service in parsed("compose.ports.yaml")["services"].values():
        assert service["environment"] == {"ADMIN_PORT": "8001", "PROXY_PORT": "8002"}
        assert service["ports"] == ["${PUBLISH:-127.0.0.1}:8001:8001", "${PUBLISH:-127.0.0.1}:8002:8002"]
    assert "EXPOSE 8000 8001 8002\n" in DOCKERFILE


def test_the_settings_of_kubernetes_start_in_production(tmp_path):
    lines = (DEPLOY / "kubernetes/settings.env").read_text(encoding="utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines) | {"INSTANCE_PATH": str(tmp_path)}
    secret = parsed("deploy/kubernetes/secret.example.yaml")["stringData"]
    assert [name for name, value in secret.items() if value] == ["DATABASE_URL"], "there is no secret to copy"
    made = {"ENCRYPTION_KEYS": "NtVPAqX6ZzKDpDFzg7jMk3pTnWQf1yq6dXV8bsf0D6c="}
    filled = {name: value or made.get(name, f"{name}-{'x7Kq' * 12}") for name, value in secret.items()}
    config = load(given | filled, root=tmp_path)
    assert config.is_strict
    assert (config.host, config.trusted_proxies) == ("0.0.0.0", 1)
    assert config.database[1] == "DATABASE_URL"
    known = Config.model_fields.values()
    assert given.keys() | secret.keys() <= {field.json_schema_extra["env"] for field in known}
    probes = [pod_of_kubernetes()["containers"][0][f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")]
    assert {probe["httpGet"]["httpHeaders"][0]["value"] for probe in probes} == set(config.trusted_hosts)


def test_the_kustomization_names_what_is_there_and_what_it_makes_is_used(lite):
    made = parsed("deploy/kubernetes/kustomization.yaml")
    folder = DEPLOY / "kubernetes"
    files = {path.name for path in folder.iterdir()} - {"kustomization.yaml", "secret.example.yaml"}
    assert {*made["resources"], *made["configMapGenerator"][0]["envs"]} == files
    routes = {rule.rule for rule in lite.url_map.iter_rules()}
    container = pod_of_kubernetes()["containers"][0]
    assert {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")} <= routes
    sources = pod_of_kubernetes()["containers"][0]["envFrom"]
    assert [next(iter(source.values()))["name"] for source in sources] == [
        made["configMapGenerator"][0]["name"],
        parsed("deploy/kubernetes/secret.example.yaml")["metadata"]["name"],
    ]
    labels = parsed("deploy/kubernetes/deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    service = parsed("deploy/kubernetes/service.yaml")
    assert service["spec"]["selector"] == labels
    backends = [
        path["backend"] for path in parsed("deploy/kubernetes/ingress.yaml")["spec"]["rules"][0]["http"]["paths"]
    ]
    assert backends[-1]["service"]["name"] == service["metadata"]["name"]


def test_an_image_has_all_of_the_code_and_nothing_else():
    """What .dockerignore lets through is what the repository runs on: no test, no secret, no database."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "*"
    named = {line.removeprefix("!") for line in lines if line.startswith("!")}
    found = {path.name for pattern in named for path in ROOT.glob(pattern)}
    code = {path.name for path in ROOT.glob("*.py")}
    folders = {"migrations", "routes", "services", "static", "templates", "translations", "utils"}
    assert found == code | folders | {"pyproject.toml", "requirements.txt"}


def test_an_image_is_built_as_it_should_be():
    packages, base, development, service = re.split(r"^FROM \S+ AS \w+\n", DOCKERFILE, flags=re.MULTILINE)[1:]
    assert "RUN --mount=type=cache,target=/root/.cache/pip" in packages
    assert "--require-hashes --only-binary=:all:" in packages
    assert "COPY --from=packages /opt/venv /opt/venv" in base
    assert 'CMD ["gunicorn", "-c", "gunicorn.conf.py", "app:serving()"]' in base
    for stage in (development, service):
        assert re.findall(r"^USER (.+)$", stage, re.MULTILINE) == ["10001:10001"]
    assert "chown" not in service, "the code is root's"
    actions = {step["action"] for step in parsed("compose.yaml")["services"]["dev"]["develop"]["watch"]}
    assert actions == {"rebuild", "sync+restart"}
    assert parsed("compose.yaml")["services"]["dev"]["build"]["target"] == "development"


def test_the_health_check_of_an_image_sees_whether_all_is_well(upstream):
    """It is run as it stands, against a server that says so and one that does not."""
    command = json.loads(re.search(r"HEALTHCHECK.*?CMD (\[.*?\])\n", DOCKERFILE, re.DOTALL)[1])
    assert command[0] == "python"

    def status(body, hosts=""):
        upstream.will(**body)
        given = {"PORT": str(upstream.port), "TRUSTED_HOSTS": hosts}
        return subprocess.run([sys.executable, *command[1:]], env=given, capture_output=True, check=False).returncode

    assert status({"body": "{}"}, hosts=" .llm.example.com,127.0.0.1") == 0
    assert (upstream.served[0].path, upstream.served[0].headers["host"]) == ("/health", "llm.example.com")
    assert status({"status": 503}) == 1
    assert upstream.served[1].headers["host"] == f"127.0.0.1:{upstream.port}"


@pytest.mark.parametrize("name", ["gateway", "dev"])
def test_containers_are_no_more_than_they_need_to_be(name):
    service = parsed("compose.yaml")["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ports"][0].startswith("${PUBLISH:-127.0.0.1}:")
    assert {kind["condition"] for kind in service["depends_on"].values()} == {"service_healthy"}
    stages = re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE)
    stage = service["build"]["target"]
    assert stage in stages
    assert "USER 10001:10001" in DOCKERFILE.split(f" AS {stage}\n")[1].split("\nFROM ")[0]
    assert parsed("compose.yaml")["services"]["postgres"]["healthcheck"]
    assert parsed("compose.yaml")["services"]["valkey"]["healthcheck"]


def test_the_dashboard_shows_every_metric_and_asks_for_none_that_is_not_there():
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    assert {name for name in METRICS if f"`{name}`" not in page} == set()
    board = json.loads((DEPLOY / "monitoring/grafana-dashboard.json").read_text(encoding="utf-8"))
    asked = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    shown = {name.removesuffix("_bucket") for name in re.findall(r"\b([a-z_]+)\{", asked)}
    assert shown == METRICS
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in board["panels"]})


def test_hooks_run_what_is_installed_and_download_nothing():
    repos = parsed(".pre-commit-config.yaml")["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    hooks = repos[0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert all((Path(ROOT) / hook["entry"].split()[0]).parent == ROOT / ".venv/bin" for hook in hooks)


def pod_of_kubernetes():
    return parsed("deploy/kubernetes/deployment.yaml")["spec"]["template"]["spec"]
