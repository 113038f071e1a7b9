"""A configuration that cannot be used is refused at start, and the message says which key and why."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from serving.cli.main import app
from serving.config import AisleConfig, ConfigError, load_config, redis_url

Load = Callable[..., AisleConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, overrides: dict[str, dict[str, Any]] | None = None) -> AisleConfig:
        (tmp_path / "aisle.toml").write_text(text, encoding="utf-8")
        return load_config(tmp_path / "aisle.toml", overrides)

    return load


def test_without_a_file_it_serves_this_machine_only() -> None:
    config = load_config(None)
    assert (config.server.host, config.server.port) == ("127.0.0.1", 9000)
    assert config.server.is_loopback()


def test_a_file_changes_what_it_states_and_the_command_line_wins(load: Load) -> None:
    config = load("[server]\nport = 1234\nreplicas = 2\n", {"server": {"port": 5678}, "log": {}})
    assert (config.server.port, config.server.replicas) == (5678, 2)
    assert config.limits == AisleConfig().limits


def test_the_printed_configuration_is_the_default_one(load: Load) -> None:
    printed = CliRunner().invoke(app, ["config"])
    assert printed.exit_code == 0, printed.output
    assert load(printed.stdout) == AisleConfig()
    for section, keys in tomllib.loads(printed.stdout).items():
        assert keys or section in ("tls", "auth")
    for section, field in AisleConfig.model_fields.items():
        for key in field.annotation.model_fields:  # type: ignore[union-attr]
            assert f"{key} = " in printed.stdout, f"{section}.{key}"


def test_every_key_says_what_it_is() -> None:
    for name, field in AisleConfig.model_fields.items():
        section: Any = field.annotation
        assert section.__doc__, name
        for key, about in section.model_fields.items():
            assert about.description, f"{name}.{key}"
            assert "\n" not in about.description, f"{name}.{key}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[server]\nprot = 1", "server.prot: unknown key; did you mean 'port'?"),
        ("[servre]\nport = 1", "servre: unknown key; did you mean 'server'?"),
        ("[log]\nzzzz = 1", "log.zzzz: unknown key; known are format, level, requests"),
        ("port = 1", "port: unknown key"),
        ("server = 5", "server: "),
        ("[server]\nport = 0", "server.port: Input should be greater than or equal to 1 (it is 0)"),
        ("[server]\nport = 65536", "server.port: "),
        ("[server]\nport = 'x'", "(it is 'x')"),
        ("[server]\nmax_connection_age_s = inf", "server.max_connection_age_s: "),
        ("[server]\nmax_connection_age_s = 1e9", "server.max_connection_age_s: "),
        ("[server]\nmax_message_bytes = 4294967296", "server.max_message_bytes: "),
        ("[encoder]\nmax_wait_ms = inf", "encoder.max_wait_ms: "),
        ("[encoder]\nplacement = 'cloud'", "'local' or 'remote'"),
        ("[encoder]\nmax_replicas = 2", "a local stage has one replica"),
        ("[retriever]\nshards = 2", "shards = 2 needs placement = 'remote'"),
        (
            "[retriever]\nplacement = 'remote'\nshards = 0",
            "retriever.shards: Input should be greater than or equal to 1",
        ),
        (
            "[retriever]\nplacement = 'remote'\nshards = 65",
            "retriever.shards: Input should be less than or equal to 64",
        ),
        ("[encoder]\nshards = 2", "encoder.shards: unknown key"),
        ("[encoder]\nplacement='remote'\nmin_replicas=3", "max_replicas (1) is below min_replicas (3)"),
        (
            "[encoder]\nplacement='remote'\nmax_replicas=3\ntarget_queue_ms=250",
            "target_queue_ms (250) is not below max_wait_ms (250)",
        ),
        ("[encoder]\nscale_down_after_s=0", "encoder.scale_down_after_s: Input should be greater than or equal to 1"),
        ("[encoder]\nplacement='remote'\ndevice='cuda'", "needs num_gpus above 0"),
        ("[limits]\ndefault_page_size = 200", "default_page_size (200) <= max_page_size (100)"),
        ("[limits]\nmax_results = 50", "max_page_size (100) <= max_results (50)"),
        ("[ranker]\nclick_weight = 0\ncart_weight = 0\npurchase_weight = 0", "must not all be 0"),
        ("[ranker]\nmodel = 'oracle'", "'none', 'student' or 'teacher'"),
        ("[ranker]\ndepth = 2000", "ranker.depth (2000) is above limits.max_rank_depth (1000)"),
        ("[teacher]\ndepth = 0", "teacher.depth: "),
        ("[tls]\ncertificate = 'x.pem'", "certificate and key go together"),
        ("[tls]\nclient_ca = 'x.pem'", "client_ca needs certificate and key"),
        ("[tls]\ncertificate = '/no/c.pem'\nkey = '/no/k.pem'", "certificate: there is no file /no/c.pem"),
        ("[server]\nport = ", "is not valid TOML"),
        ("[server]\nport = 1\nport = 2", "is not valid TOML"),
    ],
)
def test_what_cannot_be_is_named(load: Load, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text, {"server": {}})
    assert says in str(caught.value)
    assert "aisle.toml" in str(caught.value)


def test_all_wrong_keys_come_together(load: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        load("[server]\nprot = 1\nport = 0\n[log]\nlevel = 'loud'")
    assert all(key in str(caught.value) for key in ("server.prot", "server.port", "log.level"))


class TestHost:
    @pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
    def test_loopback_needs_no_tls(self, load: Load, host: str) -> None:
        server = load(f"[server]\nhost = '{host}'").server
        assert (server.host, server.is_loopback()) == (host, True)

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "shop.example", "", "localhost.evil.example"])  # noqa: S104
    def test_any_other_does(self, load: Load, host: str) -> None:
        with pytest.raises(ConfigError) as caught:
            load(f"[server]\nhost = '{host}'")
        assert f"server.host = '{host}' is reachable from other machines" in str(caught.value)
        assert "allow_insecure" in str(caught.value)
        assert len(str(caught.value)) < 400

    def test_unless_it_is_asked_for_or_there_is_tls(self, load: Load, tmp_path: Path) -> None:
        insecure = load("[server]\nhost = '0.0.0.0'\nallow_insecure = true")
        assert (insecure.server.is_loopback(), insecure.tls.certificate) == (False, None)
        for name in ("c.pem", "k.pem"):
            (tmp_path / name).touch()
        secure = load(f"[server]\nhost = '0.0.0.0'\n[tls]\ncertificate = '{tmp_path}/c.pem'\nkey = '{tmp_path}/k.pem'")
        assert (secure.tls.certificate, secure.tls.key) == (tmp_path / "c.pem", tmp_path / "k.pem")
        assert not secure.server.allow_insecure

    def test_the_command_line_does_not_get_around_it(self, load: Load) -> None:
        with pytest.raises(ConfigError, match="reachable"):
            load("", {"server": {"host": "0.0.0.0"}})  # noqa: S104


def test_relative_paths_hold_in_other_processes(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("c.pem", "k.pem"):
        Path(name).touch()
    config = load("[tls]\ncertificate = 'c.pem'\nkey = 'k.pem'\n[auth]\nkeys_file = 'keys'")
    assert config.tls.certificate == tmp_path / "c.pem"
    assert config.auth.keys_file == tmp_path / "keys"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no configuration file .*none\.toml"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"[server]\nhost = '\xe4'")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(tmp_path / "latin.toml")


def test_a_file_from_windows_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_bytes(b"\xef\xbb\xbf[server]\r\nport = 1234\r\n")
    assert load_config(tmp_path / "w.toml").server.port == 1234


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("redis://redis:6379/1", "redis://:p%40ss%2Fword@redis:6379/1"),
        ("rediss://shop@redis:6379/1", "rediss://shop:p%40ss%2Fword@redis:6379/1"),
        ("unix:///run/redis@1.sock", "unix://:p%40ss%2Fword@/run/redis@1.sock"),
    ],
)
def test_a_password_may_be_in_a_file_of_its_own(load: Load, tmp_path: Path, url: str, whole: str) -> None:
    password = tmp_path / "password"
    password.write_text("p@ss/word\n")
    text = f'[shoppers]\nstore = "redis"\nurl = "{url}"\npassword_file = "{password}"\n'
    config = load(text)
    assert redis_url(config.shoppers) == whole
    assert "p@ss" not in repr(config)
    password.unlink()
    with pytest.raises(ConfigError, match=r"shoppers\.password_file: .*password cannot be read"):
        redis_url(load(text).shoppers)


def test_a_password_is_stated_once(load: Load) -> None:
    with pytest.raises(ConfigError, match="password_file and a password in url"):
        load('[catalogue]\nlog = "redis"\nurl = "redis://:secret@redis"\npassword_file = "p"\n')
    with pytest.raises(ConfigError, match="password_file needs url"):
        load('[shoppers]\npassword_file = "p"\n')
