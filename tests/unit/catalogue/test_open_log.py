"""Which log the configuration opens, and what of it is refused at start."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.catalogue.open_log import check_log, open_log
from serving.catalogue.redis_log import RedisLog
from serving.catalogue.sqlite_log import SqliteLog
from serving.config import CatalogueConfig, ConfigError, load_config
from tests.change_writers import upserts


async def test_by_default_it_is_a_file_among_the_users_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    log = open_log(CatalogueConfig(), "My Shop/../2", "line")
    assert isinstance(log, SqliteLog)
    await log.close()
    assert (tmp_path / "aisle" / "My_Shop____2-changes.db").is_file()


def test_without_a_valid_state_folder_it_is_below_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    check_log(CatalogueConfig(), "shop", "line")
    assert (tmp_path / ".local" / "state" / "aisle" / "shop-changes.db").is_file()


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    check_log(CatalogueConfig(path=tmp_path / "deep" / "er.sqlite"), "shop", "line")
    assert (tmp_path / "deep" / "er.sqlite").is_file()


def test_off_is_no_log() -> None:
    assert open_log(CatalogueConfig(log="off"), "shop", "line") is None
    check_log(CatalogueConfig(log="off"), "shop", "line")


async def test_a_log_of_another_catalogue_is_refused_at_start(tmp_path: Path) -> None:
    config = CatalogueConfig(path=tmp_path / "changes.db")
    log = open_log(config, "shop", "line")
    assert log is not None
    await log.append(upserts("a"))
    await log.close()
    check_log(config, "shop", "line")
    with pytest.raises(ConfigError, match=r"catalogue\.path: .* of another catalogue"):
        check_log(config, "shop", "other line")


async def test_a_redis_that_is_away_does_not_keep_the_service_from_starting() -> None:
    config = CatalogueConfig.model_validate({"log": "redis", "url": "redis://127.0.0.1:1/0"})
    check_log(config, "shop", "line")
    log = open_log(config, "shop", "line")
    assert isinstance(log, RedisLog)
    await log.close()


def test_a_place_that_cannot_be_written_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"catalogue\.path: .* cannot be written"):
        check_log(CatalogueConfig(path=tmp_path / "file" / "changes.db"), "shop", "line")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("log = 'kafka'", "catalogue.log: "),
        ("log = 'redis'", "log = 'redis' and url go together"),
        ("url = 'redis://h'", "log = 'redis' and url go together"),
        ("log = 'redis'\nurl = 'http://user:secret@h'", "url must begin with redis://"),
        ("log = 'redis'\nurl = 'redis://h'\npath = 'x'", "path is for log = 'sqlite', not 'redis'"),
        ("sync = 'off'", "catalogue.sync: "),
        ("max_changes = 0", "catalogue.max_changes: "),
    ],
)
def test_what_cannot_be_is_named_and_no_password_shown(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "aisle.toml").write_text(f"[catalogue]\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "aisle.toml")
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_url_that_redis_does_not_understand_is_refused_without_its_password() -> None:
    config = CatalogueConfig.model_validate({"log": "redis", "url": "redis://:secret@host:notaport/0"})
    with pytest.raises(ConfigError) as caught:
        check_log(config, "shop", "line")
    assert "catalogue.url" in str(caught.value)
    assert "secret" not in str(caught.value) + repr(config)
