"""The gateway as it is served in production, in front of strict upstreams."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from cryptography.fernet import Fernet

from tests.fakes.served import Served

KEY = "contract-key-0123456789"
SECRETS = {
    "SECRET_KEY": "contract-secret-0123456789-0123456789",
    "KEY_PEPPER": "contract-pepper-0123456789-0123456789",
    "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
    "API_AUTH_TOKENS": KEY,
}


@contextmanager
def gateway(folder: Path, providers: list[dict[str, Any]], models: list[dict[str, Any]]) -> Iterator[Served]:
    """A gateway of its own with these providers and models, as the configuration file has them."""
    folder.mkdir(parents=True)
    config = folder / "contract.yaml"
    config.write_text(json.dumps({"providers": providers, "models": models}), encoding="utf-8")
    running = Served(
        {
            **SECRETS,
            "ENVIRONMENT": "development",
            "INSTANCE_PATH": str(folder),
            "DATABASE_URL": f"sqlite:///{folder}/tollhouse.db",
            "TOLLHOUSE_CONFIG": str(config),
            "WEB_CONCURRENCY": "1",
            "LLM_MAX_RETRIES": "0",
        }
    )
    try:
        yield running
    finally:
        running.stop()
        running.log.unlink()


def free_model(name: str, provider: str, model: str) -> dict[str, Any]:
    """A model of the configuration file, served by one deployment, that costs nothing."""
    return {"name": name, "deployments": [{"provider": provider, "model": model}], "price": {"free": True}}


def post(running: Served, path: str, body: Any, **headers: str) -> requests.Response:
    """A call with the key that is good here."""
    head = {"authorization": f"Bearer {KEY}", "content-type": "application/json", **headers}
    return requests.post(running.url + path, json.dumps(body).encode(), headers=head, timeout=60)
