"""Checks of the machine and the settings: see doctor.py."""

import os
import resource
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509

from config import MIN_PASSWORD, Config
from config_checks import MIN_TOKEN, SECRETS_FILE
from services.checkup import BAD, OK, WARN, Patient, Result, or_ok
from services.components import LOW_BYTES
from services.counters import RemoteAway
from services.errors import UpstreamError
from services.transport import PORTS, certificate_of
from utils import clock, places
from utils.settings import is_loopback, weak_secrets

SPARE_BYTES: Final = 1024 * 1024 * 1024  # less than that is left on the disk, and it is time to look
MIB: Final = 1024 * 1024
SOON: Final = timedelta(days=14)  # certbot renews 30 days before the end, so by then it has failed for two weeks
TLS_S: Final = 5.0  # longest wait for a certificate
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def settings(patient: Patient) -> list[Result]:
    """What the start warns of. Settings that cannot be used end every command, this one too."""
    config = patient.here.config
    found = [Result(WARN, warning, "Mend the setting that it names.") for warning in config.warnings]
    if not (config.is_strict or is_loopback(config.host)):
        mend = "Set ENVIRONMENT=production and what docs/deploy.md names with it, or HOST=127.0.0.1."
        found.append(Result(WARN, f"ENVIRONMENT={config.environment}, and others reach HOST={config.host}", mend))
    return or_ok(found, f"usable, ENVIRONMENT={config.environment}")


def secrets(patient: Patient) -> list[Result]:
    """Weak ones, which only staging and production refuse to start with, and one that has two uses."""
    config = patient.here.config
    state = WARN if is_loopback(config.host) else BAD
    weak = weak_secrets(
        {"SECRET_KEY": config.secret_key, "KEY_PEPPER": config.key_pepper},
        config.api_auth_tokens,
        {"ADMIN_PASS": config.admin_pass},
        MIN_TOKEN,
        MIN_PASSWORD,
    )
    found = [
        Result(state, what, f"{fix[:1].upper()}{fix[1:]}.")
        for what, _, fix in (one.partition(". Fix: ") for one in weak)
    ]
    if config.secret_key == config.key_pepper:
        mend = "Make another SECRET_KEY with `flask config new-key`; everybody signs in once more, keys go on."
        found.append(Result(WARN, "SECRET_KEY and KEY_PEPPER are the same", mend))
    return or_ok(found, f"strong, {len(config.encryption_keys)} in ENCRYPTION_KEYS")


def proxy(patient: Patient) -> list[Result]:
    """Whether the addresses of callers are theirs, and whether the gateway answers to its own name."""
    config = patient.here.config
    url, count = urlsplit(config.public_url), config.trusted_proxies
    found = []
    if count and not is_loopback(config.host):
        said = f"TRUSTED_PROXIES={count}, and HOST={config.host} can be reached past the proxy"
        mend = "Set HOST=127.0.0.1, or let a firewall admit the proxy alone: others write X-Forwarded-For as they like."
        found.append(Result(WARN, said, mend))
    if not count and url.scheme == "https":
        said = "PUBLIC_URL is https, so a proxy stands in front, and TRUSTED_PROXIES=0"
        mend = "Set TRUSTED_PROXIES=1, or every caller has the proxy's address and they share one limit."
        found.append(Result(WARN, said, mend))
    if not (count or url.scheme == "https" or is_loopback(config.host)):
        mend = "Put a proxy with TLS in front (docs/deploy.md) and set PUBLIC_URL=https://…"
        found.append(Result(WARN, f"HOST={config.host} is served without TLS, so keys can be read on the way", mend))
    if url.hostname and config.trusted_hosts and not _is_named(url.hostname, config.trusted_hosts):
        said = f"TRUSTED_HOSTS does not have `{url.hostname}`, the host of PUBLIC_URL, which is refused with 400"
        found.append(Result(BAD, said, f"Add {url.hostname} to TRUSTED_HOSTS."))
    return or_ok(found, f"TRUSTED_PROXIES={count} fits HOST={config.host}")


def certificate(patient: Patient) -> list[Result]:
    """How long the certificates last, and whether they are for the host of PUBLIC_URL."""
    url = urlsplit(patient.here.config.public_url)
    is_https = url.scheme == "https" and url.hostname is not None
    name = (url.hostname or "") if is_https else ""
    found: list[Result] = []
    if patient.tls_file is not None:
        found += _of_file(patient.tls_file, name)
    if patient.tls_place is not None:
        found += _of_server(patient.tls_place, name or patient.tls_place[0], BAD)
    elif is_https and patient.tls_file is None:
        found += _of_server(("127.0.0.1", url.port or PORTS["https"]), name, WARN)
    return or_ok(found, "PUBLIC_URL is not https, and none was named")


def folder(patient: Patient) -> list[Result]:
    """Whether others on this machine can read or write what is in the instance folder."""
    config = patient.here.config
    return or_ok(_open_to_others(config), f"others can neither read nor write what is in {config.instance_path}")


def disk(patient: Patient) -> list[Result]:
    """How much is left where the database and the spool lie."""
    folders = {patient.here.config.instance_path.resolve()}
    if patient.here.engine.dialect.name == "sqlite":
        folders.add(Path(str(patient.here.engine.url.database)).resolve().parent)
    return [_disk(one) for one in {one.stat().st_dev: one for one in sorted(folders)}.values()]


def files(patient: Patient) -> list[Result]:
    """Whether a worker may have two files open for each connection it takes: the caller's and the provider's."""
    config = patient.here.config
    calls = places.wanted(config.worker_class, config.threads, config.worker_connections)
    needed, (limit, _most) = places.files(calls), resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= needed:
        return [Result(OK, f"{needed:,} are needed for {calls:,} calls, and this shell's limit allows them")]
    mend = f"`ulimit -n {needed}` before the start, `LimitNOFILE={needed}` in a unit of systemd, or fewer connections."
    return [Result(WARN, f"{calls:,} calls need {needed:,} open files, and the limit of this shell is {limit:,}", mend)]


def valkey(patient: Patient) -> list[Result]:
    """Whether it answers, where one is set."""
    remote = patient.here.remote
    if remote is None:
        return [Result(OK, "none is set, so the database counts limits")]
    try:
        remote.check()
    except RemoteAway:
        mend = "Start it, or correct REDIS_URL (REDIS_HOSTS); without either the database counts for good."
        return [Result(BAD, "it does not answer, so the database counts limits meanwhile", mend)]
    return [Result(OK, "it answers and counts limits")]


def _is_named(host: str, names: tuple[str, ...]) -> bool:
    return any(host == name or (name.startswith(".") and f".{host}".endswith(name)) for name in names)


def _of_file(path: Path, name: str) -> Iterator[Result]:
    try:
        chain = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it holds no certificate"
        yield Result(BAD, f"{path} cannot be read: {reason}", "Name a file with a certificate in PEM.")
        return
    yield _judged(chain[0], str(path), name)


def _of_server(place: tuple[str, int], name: str, state: str) -> Iterator[Result]:
    where = f"{place[0]}:{place[1]}"
    try:
        shown = x509.load_der_x509_certificate(certificate_of(*place, name, TLS_S))
    except (UpstreamError, ValueError) as exc:
        yield Result(state, f"no certificate was had: {exc}", "Say where TLS ends: `flask doctor --tls HOST:PORT`.")
        return
    yield _judged(shown, where, name)


def _judged(shown: x509.Certificate, where: str, name: str) -> Result:
    end = shown.not_valid_after_utc.astimezone(UTC)
    left, until = end - clock.now(), f"{end:%Y-%m-%d %H:%M} UTC"
    renew = "Renew it: `certbot renew`, then `nginx -s reload`."
    if left <= timedelta(0):
        return Result(BAD, f"the certificate at {where} has expired on {until}", renew)
    if name and not _is_for(shown, name):
        return Result(BAD, f"the certificate at {where} is not for `{name}`", f"Get one that names {name}.")
    if left < SOON:
        return Result(WARN, f"the certificate at {where} expires in {left.days} days, on {until}", renew)
    return Result(OK, f"the certificate at {where} is good until {until}")


def _is_for(shown: x509.Certificate, name: str) -> bool:
    try:
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    known = [one.lower() for one in names.get_values_for_type(x509.DNSName)]
    known += [str(one) for one in names.get_values_for_type(x509.IPAddress)]
    return name.lower() in known or f"*.{name.lower().partition('.')[2]}" in known


def _open_to_others(config: Config) -> Iterator[Result]:
    place = config.instance_path
    mode, owner = stat.S_IMODE(place.stat().st_mode), place.stat().st_uid
    if owner != os.geteuid():
        said = f"{place} belongs to user {owner}, and this is user {os.geteuid()}"
        yield Result(WARN, said, "Run commands as the user that serves, or what they make is closed to it.")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Result(BAD, f"others may write in {place} (mode {mode:03o})", f"`chmod 700 {place}`")
    named = [place / SECRETS_FILE, *sorted(place.glob("*.db*")), place / "spool"]
    if mode & (stat.S_IXGRP | stat.S_IXOTH):  # else nobody gets that far
        for path in (path for path in named if path.exists()):
            if path.stat().st_mode & (OTHERS if not path.is_dir() else stat.S_IRGRP | stat.S_IROTH | stat.S_IWOTH):
                yield Result(BAD, f"others may read {path}", f"`chmod go= {path}`, and `chmod 700 {place}`")


def _disk(place: Path) -> Result:
    left = shutil.disk_usage(place).free
    said = f"{left // MIB:,} MiB are left where {place} lies"
    if left < LOW_BYTES:
        return Result(BAD, said, "Make room: with a full disk no call is admitted.")
    if left < SPARE_BYTES:
        return Result(WARN, said, "Make room, or move INSTANCE_PATH to a larger disk.")
    return Result(OK, said)
