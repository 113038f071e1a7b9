"""Which store the configuration opens, and what of it is refused at start."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.config import ConfigError, ShoppersConfig, load_config
from serving.shoppers.open_store import check_shoppers, open_shoppers
from serving.shoppers.redis_store import RedisStore
from serving.shoppers.sqlite_store import SqliteStore
from serving.shoppers.store import now_ms


async def test_by_default_it_is_a_file_among_the_users_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    store = await open_shoppers(ShoppersConfig(), "My Shop/../2")
    assert isinstance(store, SqliteStore)
    await store.close()
    assert (tmp_path / "aisle" / "My_Shop____2.db").is_file()


async def test_without_a_valid_state_folder_it_is_below_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    check_shoppers(ShoppersConfig(), "shop")
    assert (tmp_path / ".local" / "state" / "aisle" / "shop.db").is_file()


async def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    check_shoppers(ShoppersConfig(path=tmp_path / "deep" / "er.sqlite"), "shop")
    assert (tmp_path / "deep" / "er.sqlite").is_file()


async def test_off_is_no_store() -> None:
    assert await open_shoppers(ShoppersConfig(store="off"), "shop") is None
    check_shoppers(ShoppersConfig(store="off"), "shop")


async def test_a_redis_that_is_away_does_not_keep_the_service_from_starting() -> None:
    config = ShoppersConfig.model_validate({"store": "redis", "url": "redis://127.0.0.1:1/0"})
    check_shoppers(config, "shop")
    store = await open_shoppers(config, "shop")
    assert isinstance(store, RedisStore)
    await store.close()


def test_a_place_that_cannot_be_written_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"shoppers\.path: .* cannot be written"):
        check_shoppers(ShoppersConfig(path=tmp_path / "file" / "shop.db"), "shop")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("store = 'mongo'", "shoppers.store: "),
        ("store = 'redis'", "store = 'redis' and url go together"),
        ("url = 'redis://h'", "store = 'redis' and url go together"),
        ("store = 'redis'\nurl = 'http://user:secret@h'", "url must begin with redis://"),
        ("store = 'redis'\nurl = 'redis://h'\npath = 'x'", "path is for store = 'sqlite', not 'redis'"),
        ("max_events_per_shopper = 0", "shoppers.max_events_per_shopper: "),
        ("retention_days = 0", "shoppers.retention_days: "),
        ("sync = 'off'", "shoppers.sync: "),
    ],
)
def test_what_cannot_be_is_named_and_no_password_shown(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "aisle.toml").write_text(f"[shoppers]\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "aisle.toml")
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_url_that_redis_does_not_understand_is_refused_without_its_password() -> None:
    config = ShoppersConfig.model_validate({"store": "redis", "url": "redis://:secret@host:notaport/0"})
    with pytest.raises(ConfigError) as caught:
        check_shoppers(config, "shop")
    assert "shoppers.url" in str(caught.value)
    assert "secret" not in str(caught.value) + repr(config)


def test_the_clock_counts_milliseconds() -> None:
    assert 1_700_000_000_000 < now_ms() < 5_000_000_000_000
