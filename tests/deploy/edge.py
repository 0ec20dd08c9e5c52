"""nginx with the files of deploy/nginx in front of a gateway: only ports, folders and the address behind are put in."""

import datetime
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.fakes.ports import free_port
from tests.fakes.served import ROOT

NAME = "llm.example.com"
SITES = ROOT / "deploy/nginx"
HOOK = ROOT / "deploy/certbot-hook.sh"
HOST = ROOT / "deploy/nginx-host.sh"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
MAIN = """{user}daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/sites/*.conf;
}}
"""


class Authority:
    """Makes the certificates; what `ca` names is what clients trust."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(_pem(self._sign(self._name, self._key, 1, is_ca=True)))

    def issue(self, lineage: Path, serial: int) -> None:
        """What certbot does: fullchain.pem and privkey.pem of a folder become new ones."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
        lineage.mkdir(parents=True, exist_ok=True)
        (lineage / "fullchain.pem").write_bytes(_pem(self._sign(name, key, serial, is_ca=False)))
        plain = serialization.NoEncryption()
        (lineage / "privkey.pem").write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        )

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, serial: int, *, is_ca: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


class Edge:
    """nginx in front of the gateway at `behind`, a port, or of those at these addresses with their ports."""

    def __init__(self, folder: Path, behind: int | Sequence[str]) -> None:
        servers = [f"127.0.0.1:{behind}"] if isinstance(behind, int) else behind
        self.folder, self.lineage, self.webroot = folder, folder / "live", folder / "webroot"
        self.tls_port, self.plain_port = free_port(), free_port()
        self.authority = Authority(folder)
        self.authority.issue(self.lineage, 100)
        self.conf = folder / "nginx.conf"
        user = "user root;\n" if os.geteuid() == 0 else ""  # folders of tests are open to their owner alone
        self.conf.write_text(MAIN.format(user=user, folder=folder), encoding="utf-8")
        (folder / "sites").mkdir()
        for name in ("tollhouse.conf", "tollhouse-http.conf"):
            (folder / "sites" / name).write_text(self._site(name, servers), encoding="utf-8")
        with (folder / "started.log").open("wb") as out:
            self.process = subprocess.Popen([str(NGINX), "-c", str(self.conf)], stdout=out, stderr=out)
        self._wait()

    def host(self, order: str, server: str) -> "subprocess.CompletedProcess[str]":
        """Take a host `out` or put it `in`, as an operator does."""
        given = {"PATH": os.environ["PATH"], "NGINX": str(NGINX), "NGINX_CONF": str(self.conf)}
        site = {"SITE": str(self.folder / "sites/tollhouse.conf")}
        words = [str(HOST), order, server]
        return subprocess.run(words, env=given | site, capture_output=True, text=True, timeout=90, check=False)

    def reload(self) -> None:
        """`nginx -s reload`."""
        subprocess.run([str(NGINX), "-c", str(self.conf), "-s", "reload"], timeout=20, check=True)

    def hook(self) -> "subprocess.CompletedProcess[str]":
        """Run the deploy hook as certbot does after a renewal."""
        given = {"PATH": os.environ["PATH"], "NGINX": str(NGINX), "NGINX_CONF": str(self.conf)}
        said = {"RENEWED_LINEAGE": str(self.lineage), "RENEWED_DOMAINS": NAME}
        return subprocess.run([str(HOOK)], env=given | said, capture_output=True, text=True, timeout=20, check=False)

    def curl(self, *options: str, path: str = "/health", scheme: str = "https") -> list[str]:
        """The words of a command that asks this server by its public name."""
        port = self.tls_port if scheme == "https" else self.plain_port
        to = ["--resolve", f"{NAME}:{port}:127.0.0.1", "--cacert", str(self.authority.ca)]
        return ["curl", "-sS", "--max-time", "60", *to, *options, f"{scheme}://{NAME}:{port}{path}"]

    def ask(self, *options: str, path: str = "/health", scheme: str = "https") -> tuple[int, str]:
        """Status and body of an answer."""
        asked = self.curl(*options, "-w", "\n%{http_code}", path=path, scheme=scheme)
        done = subprocess.run(asked, capture_output=True, text=True, timeout=90, check=True)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def _site(self, name: str, servers: Sequence[str]) -> str:
        text = "\n".join(
            line
            for line in (SITES / name).read_text(encoding="utf-8").splitlines()
            if not line.strip().startswith("listen [::]:")
        )
        for before, after in self._places(name, servers):
            assert before in text, f"{name} has no `{before}`"
            text = text.replace(before, after)
        return text

    def _places(self, name: str, servers: Sequence[str]) -> Iterator[tuple[str, str]]:
        if name == "tollhouse-http.conf":
            yield "listen 80;", f"listen 127.0.0.1:{self.plain_port};"
            yield "/opt/tollhouse/webroot;", f"{self.webroot};"
            return
        yield "listen 443 ssl http2;", f"listen 127.0.0.1:{self.tls_port} ssl http2;"
        yield "server 127.0.0.1:8000;", "\n    ".join(f"server {server};" for server in servers)
        yield f"/etc/letsencrypt/live/{NAME}/", f"{self.lineage}/"
        yield "/var/log/nginx/", f"{self.folder}/"

    def _wait(self) -> None:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            assert self.process.poll() is None, (self.folder / "started.log").read_text(encoding="utf-8")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.tls_port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("nginx did not begin to listen")
