"""API keys: who is admitted to what, and what becomes of a keys file that changes or breaks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.config import ConfigError, TlsConfig
from serving.errors import NotPermitted, Unauthenticated
from serving.gateway.security import RELOAD_S, KeyRing, new_key, read_keys, server_credentials

HASH = "0" * 64


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_new_key_is_admitted_by_its_line_to_its_scopes_only(keys_file: Path) -> None:
    key, line = new_key("shop", ["search", "info"])
    keys_file.write_text(f"# ours\n\n{line}  # the shop\n")
    ring = KeyRing(keys_file)
    assert ring.admit(key, "search") == ring.admit(key, "info") == "shop"
    with pytest.raises(NotPermitted, match="the API key 'shop' has no scope 'embed'"):
        ring.admit(key, "embed")
    assert key not in line


def test_a_star_is_every_scope(keys_file: Path) -> None:
    key, line = new_key("admin", ["*"])
    keys_file.write_text(line)
    assert [KeyRing(keys_file).admit(key, scope) for scope in ("search", "embed", "info")] == ["admin"] * 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda _: "", "an API key is needed"),
        (lambda key: key + "x", "the API key is unknown"),
        (lambda key: key[:-1], "the API key is unknown"),
        (str.upper, "the API key is unknown"),
        (lambda _: "é" * 1000, "the API key is unknown"),
    ],
)
def test_what_is_not_a_key_is_refused(keys_file: Path, change: Callable[[str], str], says: str) -> None:
    key, line = new_key("shop", ["*"])
    keys_file.write_text(line)
    with pytest.raises(Unauthenticated, match=says):
        KeyRing(keys_file).admit(change(key), "search")
    with pytest.raises(Unauthenticated):
        KeyRing(keys_file).admit(line.split()[1], "search")  # the hash is not the key


def test_keys_are_different_each_time() -> None:
    assert len({new_key("shop", ["search"])[0] for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("name", "scopes", "says"),
    [
        ("a b", ["search"], "the name 'a b' must be"),
        ("", ["search"], "the name '' must be"),
        ("x" * 65, ["search"], "1 to 64"),
        ("a#b", ["search"], "the name 'a#b' must be"),
        ("a\n", ["search"], "must be"),
        ("a", ["serach"], "scopes 'serach' are unknown; known are search, embed, info"),
        ("a", [], "a key needs a scope"),
        ("a", ["search,embed"], "'search,embed' are unknown"),
    ],
)
def test_a_key_that_its_file_could_not_hold_is_not_made(name: str, scopes: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        new_key(name, scopes)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"shop {HASH} search\nother", 2),
        (f"\n# comment\nshop {HASH[:-1]} search", 3),
        (f"shop {HASH} search embed", 1),
        (f"shop {HASH} serach", 1),
        (f"shop {HASH} search,", 1),
        (f"shop {'g' * 64} search", 1),
        (f"shop {HASH} # search", 1),
    ],
)
def test_a_wrong_line_is_named_by_its_number(keys_file: Path, text: str, line: int) -> None:
    keys_file.write_text(text)
    with pytest.raises(ConfigError, match=f"keys:{line}: "):
        read_keys(keys_file)


def test_a_file_without_keys_or_that_cannot_be_read_is_refused(keys_file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_keys(keys_file)
    keys_file.write_text("# none yet\n")
    with pytest.raises(ConfigError, match="holds no key"):
        read_keys(keys_file)
    keys_file.write_bytes(b"# ok\nshop \xff search\n")
    with pytest.raises(ConfigError, match="keys:2: is not UTF-8"):
        read_keys(keys_file)


def test_windows_line_ends_and_a_byte_order_mark_do_not_matter(keys_file: Path) -> None:
    keys_file.write_bytes(f"\ufeffshop {HASH} search\r\nother {HASH} embed\r\n".encode())
    assert [key.name for key in read_keys(keys_file)] == ["shop", "other"]


class TestReload:
    @pytest.fixture
    def keys(self) -> list[tuple[str, str]]:
        return [new_key(name, ["search"]) for name in ("first", "second")]

    def test_a_changed_file_counts_after_a_while(
        self, keys_file: Path, clock: Clock, keys: list[tuple[str, str]]
    ) -> None:
        (first, first_line), (second, second_line) = keys
        keys_file.write_text(first_line)
        ring = KeyRing(keys_file, clock)
        replace(keys_file, second_line)
        clock.now += RELOAD_S / 2
        assert ring.admit(first, "search") == "first"
        clock.now += RELOAD_S
        assert ring.admit(second, "search") == "second"
        with pytest.raises(Unauthenticated):
            ring.admit(first, "search")

    @pytest.mark.parametrize(
        "broken", [b"", b"broken line\n", b"\xff\xfe", None], ids=["empty", "line", "bytes", "gone"]
    )
    def test_a_broken_file_leaves_the_keys_until_it_is_mended(
        self, keys_file: Path, clock: Clock, keys: list[tuple[str, str]], broken: bytes | None
    ) -> None:
        (first, first_line), (second, second_line) = keys
        keys_file.write_text(first_line)
        ring = KeyRing(keys_file, clock)
        if broken is None:
            keys_file.unlink()
        else:
            keys_file.write_bytes(broken)
        clock.now += 2 * RELOAD_S
        assert ring.admit(first, "search") == "first"
        replace(keys_file, second_line)
        clock.now += 2 * RELOAD_S
        assert ring.admit(second, "search") == "second"

    def test_a_file_as_old_and_as_long_counts_too(
        self, keys_file: Path, clock: Clock, keys: list[tuple[str, str]]
    ) -> None:
        """As when a secret is mounted anew."""
        (_, first_line), (_, second_line) = keys
        fresh = keys_file.with_name("fresh")
        keys_file.write_text(first_line.replace("first", "shop_1"))
        fresh.write_text(
            second_line.replace("second", "shop_2").ljust(keys_file.stat().st_size)[: keys_file.stat().st_size]
        )
        for path in (keys_file, fresh):
            os.utime(path, (1, 1))
        ring = KeyRing(keys_file, clock)
        fresh.rename(keys_file)
        clock.now += 2 * RELOAD_S
        assert ring.admit(keys[1][0], "search") == "shop_2"


def replace(path: Path, text: str) -> None:
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    fresh.rename(path)


def test_credentials_need_a_certificate() -> None:
    with pytest.raises(ConfigError, match="certificate and key are needed"):
        server_credentials(TlsConfig())
