"""What roles are told: nothing starts on half its keys, and no error shows a secret."""

import base64
from pathlib import Path

import pytest

from innkeeper_cli.errors import RoleError
from innkeeper_cli.executor_role import own_target
from innkeeper_cli.gateway_role import gateway_settings, reviews_of, store_settings
from innkeeper_cli.operator_role import operator_settings
from innkeeper_cli.settings import (
    DevRole,
    ExecutorRole,
    ExportRole,
    GatewayRole,
    OperatorRole,
    Role,
    SettingsError,
    SyncRole,
    load,
)
from innkeeper_engine.model.calls import Target

SIGNING = "ab" * 32
SEALING = "cd" * 32
HOOKS = "ef" * 32
EVENT = "0f" * 16

COMPLETE = {
    "INNKEEPER_REDIS_URL": "redis://:hunter2@redis:6379/0",
    "INNKEEPER_EVENT_KEY": EVENT,
    "INNKEEPER_SIGNING_KEY": f"signkey-prod-{SIGNING}",
    "INNKEEPER_ENCRYPTION_KEY": SEALING,
    "INNKEEPER_WEBHOOK_KEY": HOOKS,
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.startswith("INNKEEPER_"):
            monkeypatch.delenv(name)


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize(
    ("role", "needed"),
    [
        (GatewayRole, {"REDIS_URL", "EVENT_KEY", "SIGNING_KEY"}),
        (ExecutorRole, {"REDIS_URL", "SIGNING_KEY", "ENCRYPTION_KEY"}),
    ],
)
def test_a_role_names_every_missing_setting_and_how_to_make_it(role: type[Role], needed: set[str]) -> None:
    with pytest.raises(SettingsError) as raised:
        load(role)
    lines = str(raised.value).splitlines()
    assert {line.split(" ")[0] for line in lines} == {f"INNKEEPER_{name}" for name in needed}
    for line in lines:
        name = line.split(" ")[0]
        assert f"(or {name}_FILE) is not set" in line
        assert "REDIS_URL" in name or "openssl rand -hex 32" in line


@pytest.mark.parametrize(
    ("role", "missing"),
    [(GatewayRole, "EVENT_KEY"), (GatewayRole, "SIGNING_KEY"), (ExecutorRole, "ENCRYPTION_KEY")],
)
def test_an_empty_key_is_a_missing_key(complete: pytest.MonkeyPatch, role: type[Role], missing: str) -> None:
    complete.setenv(f"INNKEEPER_{missing}", "")
    with pytest.raises(SettingsError, match=rf"^INNKEEPER_{missing} .* is not set[^\n]*$"):
        load(role)


def test_where_an_operator_keeps_the_keys_none_is_needed_or_read(complete: pytest.MonkeyPatch) -> None:
    """But the one that opens what is sealed, and the way to the store."""
    complete.setenv("INNKEEPER_MANAGED", "true")
    complete.setenv("INNKEEPER_SIGNING_KEY_FALLBACK", "99" * 32)
    settings = gateway_settings(load(GatewayRole))
    assert (settings.managed, settings.event_keys, settings.signing_keys) == (True, (), ())
    assert own_target(load(ExecutorRole)) == Target()
    for name in ("EVENT_KEY", "SIGNING_KEY", "SIGNING_KEY_FALLBACK"):
        complete.delenv(f"INNKEEPER_{name}")
    assert gateway_settings(load(GatewayRole)) == settings
    assert load(ExecutorRole).encryption_key.get_secret_value() == bytes.fromhex(SEALING)
    complete.delenv("INNKEEPER_ENCRYPTION_KEY")
    complete.delenv("INNKEEPER_REDIS_URL")
    with pytest.raises(SettingsError) as raised:
        load(ExecutorRole)
    named = {line.split(" ")[0] for line in str(raised.value).splitlines()}
    assert named == {"INNKEEPER_REDIS_URL", "INNKEEPER_ENCRYPTION_KEY"}


def test_without_an_operator_the_executor_has_its_keys(complete: pytest.MonkeyPatch) -> None:
    complete.setenv("INNKEEPER_SIGNING_KEY_FALLBACK", "99" * 32)
    target = own_target(load(ExecutorRole))
    assert target == Target(signing_key=f"signkey-prod-{SIGNING}", signing_key_fallback="99" * 32)


@pytest.mark.parametrize(
    ("managed", "given", "policy"),
    [
        ("false", "", "Always"),
        ("true", "", "Existing"),
        ("true", "Always", "Always"),
        ("false", "Never", "Never"),
    ],
)
def test_who_may_register_depends_on_the_operator_unless_it_is_said(
    complete: pytest.MonkeyPatch, managed: str, given: str, policy: str
) -> None:
    complete.setenv("INNKEEPER_MANAGED", managed)
    complete.setenv("INNKEEPER_AUTO_REGISTER", given)
    assert gateway_settings(load(GatewayRole)).auto_register == policy


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TRUSTED_PROXIES", "10.0.0.0/33", "'10.0.0.0/33' is no network, such as 10.1.0.0/16"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,proxy.internal", "'proxy.internal' is no network"),
        ("TRUSTED_PROXIES", "10.1.0.0/8", "has host bits set"),
        ("AUTO_REGISTER", "Sometimes", "'Never', 'Existing' or 'Always'"),
        ("MANAGED", "perhaps", "valid boolean"),
        ("ADMIN_TOKEN", "short", "24 or more ASCII characters"),
        ("WEBHOOK_WORKERS", "0", "greater than or equal to 1"),
        ("WEBHOOK_MEMORY_MIB", "4", "greater than or equal to 8"),
        ("ADMIN_TOKEN", "with a space in the middle of it", "without spaces"),
        ("RETENTION_EVENTS", "59m", "1h or more"),
        ("RETENTION_RUNS", "30", "30 has no unit"),
        ("RETENTION_DEAD_LETTERS", "11y", "unknown unit 'y'"),
    ],
)
def test_a_bad_value_of_a_gateways_own_is_refused(
    complete: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    complete.setenv(f"INNKEEPER_{name}", value)
    with pytest.raises(SettingsError, match=f"INNKEEPER_{name}") as raised:
        load(GatewayRole)
    assert raised.match(says)


@pytest.mark.parametrize("managed", ["true", "false"])
def test_a_gateway_opens_secrets_of_webhooks_with_a_key_that_opens_nothing_else(
    complete: pytest.MonkeyPatch, managed: str
) -> None:
    complete.setenv("INNKEEPER_MANAGED", managed)
    complete.setenv("INNKEEPER_WEBHOOK_WORKERS", "2")
    complete.setenv("INNKEEPER_WEBHOOK_MEMORY_MIB", "16")
    settings = gateway_settings(load(GatewayRole))
    assert settings.webhook_key == bytes.fromhex(HOOKS)
    assert (settings.sandbox.workers, settings.sandbox.memory_bytes) == (2, 16 << 20)
    assert HOOKS not in repr(settings)
    complete.delenv("INNKEEPER_WEBHOOK_KEY")
    assert gateway_settings(load(GatewayRole)).webhook_key is None, "the encryption key is no substitute"


def test_what_is_over_is_kept_as_long_as_is_said(complete: pytest.MonkeyPatch) -> None:
    """Three days unless something else is said; the same for whoever writes to the store."""
    for role in (GatewayRole, ExecutorRole, DevRole):
        default = store_settings(load(role))
        assert {default.events_keep_s, default.runs_keep_s, default.letters_keep_s} == {3 * 86_400}
    complete.setenv("INNKEEPER_RETENTION_EVENTS", "1h")
    complete.setenv("INNKEEPER_RETENTION_RUNS", "7 days")
    complete.setenv("INNKEEPER_RETENTION_DEAD_LETTERS", "90s")
    for role in (GatewayRole, ExecutorRole, DevRole):
        told = store_settings(load(role))
        assert (told.events_keep_s, told.runs_keep_s, told.letters_keep_s) == (3_600, 7 * 86_400, 90)


def test_the_operator_is_told_where_providers_reach_webhooks(complete: pytest.MonkeyPatch) -> None:
    assert operator_settings(load(OperatorRole)).webhooks_url == "", "where apps do"
    complete.setenv("INNKEEPER_WEBHOOKS_URL", "https://hooks.example.com/in")
    assert operator_settings(load(OperatorRole)).webhooks_url == "https://hooks.example.com/in"


@pytest.mark.parametrize(
    "value",
    [
        "hooks.example.com",
        "ftp://hooks.example.com",
        "https://",
        "https://a.example?x=1",
        "https://me:hunter2@a.example",
        "https://a.example/ b",
        "https://[",
        "https://a.example:port",
        "https://a.example/#",
    ],
)
def test_where_providers_reach_webhooks_is_a_url(complete: pytest.MonkeyPatch, value: str) -> None:
    complete.setenv("INNKEEPER_WEBHOOKS_URL", value)
    with pytest.raises(SettingsError, match=r"^INNKEEPER_WEBHOOKS_URL: must be .*such as") as raised:
        load(OperatorRole)
    assert "hunter2" not in str(raised.value)


def test_trusted_proxies_are_a_list_of_networks(complete: pytest.MonkeyPatch) -> None:
    complete.setenv("INNKEEPER_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.7,fd00::/8")
    settings = gateway_settings(load(GatewayRole))
    assert settings.trusted_proxies == ("10.0.0.0/8", "192.0.2.7", "fd00::/8")


def test_an_admin_token_is_shown_nowhere(complete: pytest.MonkeyPatch) -> None:
    """It may come from a file as every secret; printing settings shows none."""
    complete.setenv("INNKEEPER_ADMIN_TOKEN", "the-token-of-an-admin-0123456789")
    role = load(GatewayRole)
    settings = gateway_settings(role)
    assert settings.is_admin_token("the-token-of-an-admin-0123456789")
    assert not settings.is_admin_token("")
    assert "0123456789" not in f"{role!r} {settings!r}"
    complete.delenv("INNKEEPER_ADMIN_TOKEN")
    assert not gateway_settings(load(GatewayRole)).is_admin_token("")


def test_token_reviews_need_a_pod(complete: pytest.MonkeyPatch) -> None:
    """Asked for where there is no API server, the gateway says what would be right instead of letting nobody in."""
    assert reviews_of(load(GatewayRole)) is None
    complete.setenv("INNKEEPER_TOKEN_REVIEW", "1")
    complete.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(RoleError, match="INNKEEPER_TOKEN_REVIEW=0"):
        reviews_of(load(GatewayRole))


def test_an_event_key_of_digits_is_a_text(complete: pytest.MonkeyPatch) -> None:
    """Not a number, for a dev server either."""
    complete.setenv("INNKEEPER_EVENT_KEY", "12345")
    for keys in (load(GatewayRole).event_key, load(DevRole).event_key):
        assert [key.get_secret_value() for key in keys or ()] == ["12345"]


def test_a_dev_server_needs_nothing() -> None:
    dev = load(DevRole)
    assert (dev.host, dev.port, dev.signing_key, dev.event_key) == ("127.0.0.1", 8288, None, None)
    assert (dev.lease_s, dev.beat_s, dev.retry_jitter_s) == (30, 10, 30)
    assert dev.retry_backoff_s == (15, 30, 60, 120, 300, 600, 1200, 2400, 3600, 7200)


def test_what_is_given_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INNKEEPER_PORT", "9000")
    assert load(DevRole).port == 9000
    assert load(DevRole, port=9001, host=None).port == 9001


@pytest.mark.usefixtures("complete")
def test_a_complete_environment_is_read_whole() -> None:
    gateway = load(GatewayRole)
    executor = load(ExecutorRole)
    assert gateway.redis_url.get_secret_value() == COMPLETE["INNKEEPER_REDIS_URL"]
    assert [key.get_secret_value() for key in gateway.event_key or ()] == [EVENT]
    assert gateway.signing_key is not None
    assert gateway.signing_key.get_secret_value() == f"signkey-prod-{SIGNING}"
    assert executor.encryption_key.get_secret_value() == bytes.fromhex(SEALING)
    assert gateway.host == "0.0.0.0"


def test_event_keys_are_a_list_with_commas(complete: pytest.MonkeyPatch) -> None:
    complete.setenv("INNKEEPER_EVENT_KEY", " one, two,,three ")
    assert [key.get_secret_value() for key in load(GatewayRole).event_key or ()] == ["one", "two", "three"]
    complete.setenv("INNKEEPER_EVENT_KEY", " , ")
    with pytest.raises(SettingsError, match="INNKEEPER_EVENT_KEY: must be one key"):
        load(GatewayRole)


@pytest.mark.parametrize("secret", ["EVENT_KEY", "SIGNING_KEY", "ENCRYPTION_KEY", "WEBHOOK_KEY", "REDIS_URL"])
def test_every_secret_may_come_from_a_file(complete: pytest.MonkeyPatch, tmp_path: Path, secret: str) -> None:
    name = f"INNKEEPER_{secret}"
    expected = load(GatewayRole)
    file = tmp_path / "key"
    file.write_text(COMPLETE[name] + "\n")
    complete.delenv(name)
    complete.setenv(f"{name}_FILE", str(file))
    assert load(GatewayRole) == expected


def test_an_admin_token_may_come_from_a_file(complete: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("the-token-of-an-admin-0123456789\n")
    complete.setenv("INNKEEPER_ADMIN_TOKEN_FILE", str(file))
    assert gateway_settings(load(GatewayRole)).is_admin_token("the-token-of-an-admin-0123456789")


@pytest.mark.parametrize("model", [GatewayRole, ExecutorRole, OperatorRole, DevRole, ExportRole, SyncRole])
def test_whatever_is_hidden_may_come_from_a_file(model: type[Role]) -> None:
    """No field of a role holds a secret that `_FILE` is not read for."""
    hidden = {name for name, field in model.model_fields.items() if "Secret" in repr(field.annotation)}
    assert hidden
    assert hidden <= Role.SECRETS


def test_a_role_knows_where_it_shows_metrics(complete: pytest.MonkeyPatch) -> None:
    """A gateway nowhere unless told; the others where they answer probes, and each port once."""
    assert load(GatewayRole).shows_at == ()
    assert load(ExecutorRole).shows_at == ()
    assert load(OperatorRole).shows_at == (8290,)
    complete.setenv("INNKEEPER_METRICS_PORT", "9090")
    assert load(GatewayRole).shows_at == (9090,)
    assert load(OperatorRole).shows_at == (8290, 9090)
    complete.setenv("INNKEEPER_PORT", "9090")
    assert load(ExecutorRole).shows_at == load(OperatorRole).shows_at == (9090,)


def test_both_forms_of_a_secret_an_empty_and_a_missing_file_are_errors(
    complete: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text("\n")
    complete.setenv("INNKEEPER_SIGNING_KEY_FILE", str(file))
    with pytest.raises(SettingsError, match="both set"):
        load(GatewayRole)
    complete.delenv("INNKEEPER_SIGNING_KEY")
    with pytest.raises(SettingsError, match=r"INNKEEPER_SIGNING_KEY_FILE: .* is empty"):
        load(GatewayRole)
    complete.setenv("INNKEEPER_SIGNING_KEY_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match=r"cannot read .*nowhere: No such file"):
        load(GatewayRole)
    file.write_bytes(b"\xff\xfe\x00binary")
    complete.setenv("INNKEEPER_SIGNING_KEY_FILE", str(file))
    with pytest.raises(SettingsError, match="is not text"):
        load(GatewayRole)


@pytest.mark.parametrize(
    "spelled",
    [
        SEALING,
        SEALING.upper(),
        base64.b64encode(bytes.fromhex(SEALING)).decode(),
        base64.urlsafe_b64encode(bytes.fromhex(SEALING)).decode().rstrip("="),
        f" {SEALING}\n",
    ],
)
def test_an_encryption_key_is_hex_or_base64(monkeypatch: pytest.MonkeyPatch, spelled: str) -> None:
    monkeypatch.setenv("INNKEEPER_ENCRYPTION_KEY", spelled)
    key = load(DevRole).encryption_key
    assert key is not None
    assert key.get_secret_value() == bytes.fromhex(SEALING)


BAD = {
    "ENCRYPTION_KEY": ["hunter2hunter2", "ab" * 31, base64.b64encode(b"hunter2").decode()],
    "WEBHOOK_KEY": ["hunter2hunter2", "ab" * 31],
    "SIGNING_KEY": ["hunter2-not-hex", "signkey-prod-hunter2", "abc"],
    "REDIS_URL": ["http://:hunter2@redis", "redis://:hunter2@redis/notanumber"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_a_bad_secret_is_named_and_never_shown(complete: pytest.MonkeyPatch, name: str, value: str) -> None:
    complete.setenv(f"INNKEEPER_{name}", value)
    with pytest.raises(SettingsError) as raised:
        load(GatewayRole)
    assert str(raised.value).startswith(f"INNKEEPER_{name}: ")
    assert value not in str(raised.value)
    assert "hunter2" not in str(raised.value)
    # Nor in what a traceback would print above it.
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_settings_never_print_their_secrets(complete: pytest.MonkeyPatch) -> None:
    complete.setenv("INNKEEPER_SIGNING_KEY_FALLBACK", "99" * 32)
    shown = repr(load(GatewayRole)) + str(load(ExecutorRole))
    spelled = [SIGNING, SEALING, HOOKS, EVENT, "hunter2", "9999"]
    for secret in (*spelled, str(bytes.fromhex(SEALING)), str(bytes.fromhex(HOOKS))):
        assert secret not in shown


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PORT", "eighty", "valid integer"),
        ("PORT", "70000", "less than or equal to 65535"),
        ("RETRY_BACKOFF_S", "15,soon", r"RETRY_BACKOFF_S, entry 2: .*number"),
        ("RETRY_BACKOFF_S", "15,-1", r"entry 2: .*greater than 0"),
        ("RETRY_BACKOFF_S", ",", "at least 1 item"),
        ("RETRY_JITTER_S", "nan", "finite"),
        ("LEASE_S", "0", "greater than 0"),
        ("BEAT_S", "11", "at most a third of a lease"),
        ("CAPACITY", "0", "greater than or equal to 1"),
        ("LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("LOG_FORMAT", "xml", "'json' or 'console'"),
        ("EGRESS_ALLOW", "10.0.0.0/33", "10.0.0.0/33"),
        ("EGRESS_ALLOW", "http://host", "no CIDR"),
    ],
)
def test_a_bad_value_is_refused_with_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(f"INNKEEPER_{name}", value)
    with pytest.raises(SettingsError, match=rf"INNKEEPER_{name}|INNKEEPER_LEASE_S") as raised:
        load(DevRole)
    assert raised.match(says)


def test_lists_of_waits_and_of_networks_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INNKEEPER_RETRY_BACKOFF_S", "0.2, 0.4")
    monkeypatch.setenv("INNKEEPER_RETRY_JITTER_S", "0")
    monkeypatch.setenv("INNKEEPER_EGRESS_ALLOW", "10.0.0.0/8,fd00::/8,api.internal,*.svc.cluster.local")
    dev = load(DevRole)
    assert (dev.retry_backoff_s, dev.retry_jitter_s) == ((0.2, 0.4), 0)
    assert dev.egress_allow == ("10.0.0.0/8", "fd00::/8", "api.internal", "*.svc.cluster.local")


def test_policies_of_namespaces_are_json(complete: pytest.MonkeyPatch) -> None:
    complete.setenv("INNKEEPER_POLICIES", '{"shop": {"retentionRuns": "7d"}}')
    assert operator_settings(load(OperatorRole)).policies == {"shop": {"runs_keep_s": 7 * 86_400}}
    complete.setenv("INNKEEPER_ENVIRONMENTS", "shop-eu=shop")
    complete.setenv(
        "INNKEEPER_POLICIES", '{"shop": {"retentionRuns": "7d"}, "shop-eu": {"retentionRuns": "8d"}}'
    )
    with pytest.raises(SettingsError, match=r"INNKEEPER_POLICIES: shop\.retentionRuns and shop-eu"):
        load(OperatorRole)
