"""API keys: who is admitted to what, and what becomes of a keys file that changes or breaks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.config import ConfigError, TlsConfig
from serving.edge.keys import LOOK_S, RELOAD_S, REPEAT_S, SCOPES, KeyRing, new_key, read_keys, server_credentials
from serving.errors import NotPermitted, Unauthenticated
from serving.logs import log

HASH = "0" * 64
OTHER_HASH = "1" * 64


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def aisle_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level("INFO", log.name)


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
    assert ring.admit(key, "search").name == ring.admit(key, "info").name == "shop"
    with pytest.raises(NotPermitted, match="the API key 'shop' has no scope 'embed'"):
        ring.admit(key, "embed")
    assert key not in line


def test_a_star_is_every_scope(keys_file: Path) -> None:
    key, line = new_key("admin", ["*"])
    keys_file.write_text(line)
    assert [KeyRing(keys_file).admit(key, scope).name for scope in SCOPES] == ["admin"] * len(SCOPES)


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
        (f"shop {HASH} search unknown=1", 1),
        (f"shop {HASH} search\nother {HASH} embed", 2),
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
    keys_file.write_bytes(f"\ufeffshop {HASH} search\r\nother {OTHER_HASH} embed\r\n".encode())
    assert [key.name for key in read_keys(keys_file)] == ["shop", "other"]


def test_every_fault_of_a_file_is_named_at_once(keys_file: Path) -> None:
    keys_file.write_bytes(b"shop\n\xff\nother " + HASH.encode() + b" serach\n")
    with pytest.raises(ConfigError, match=r"keys:1: .*keys:2: is not UTF-8.*keys:3: scopes are"):
        read_keys(keys_file)


def test_two_keys_may_share_a_name_while_one_replaces_the_other(keys_file: Path) -> None:
    (old, old_line), (new, new_line) = (new_key("shop", ["search"]) for _ in range(2))
    keys_file.write_text(f"{old_line}\n{new_line}\n")
    ring = KeyRing(keys_file)
    assert ring.admit(old, "search").name == ring.admit(new, "search").name == "shop"


def test_the_first_of_two_lines_with_one_key_counts(keys_file: Path) -> None:
    """A gateway that starts again while the file has a fault takes what is good, as a running one does."""
    key, line = new_key("shop", ["search"])
    keys_file.write_text(f"{line}\n{line.replace('search', '*')}\n")
    ring = KeyRing(keys_file)
    assert ring.admit(key, "search")
    with pytest.raises(NotPermitted):
        ring.admit(key, "history")


@pytest.mark.parametrize("mode", [0o644, 0o646])
def test_a_file_that_every_user_may_write_is_warned_of(
    keys_file: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    keys_file.write_text(new_key("shop", ["search"])[1])
    keys_file.chmod(mode)
    KeyRing(keys_file)
    assert [record.levelname for record in caplog.records if "can be written" in record.message] == (
        ["WARNING"] if mode & 0o002 else []
    )


class TestReload:
    @pytest.fixture
    def keys(self) -> list[tuple[str, str]]:
        return [new_key(name, ["search"]) for name in ("first", "second")]

    @pytest.fixture
    def ring(self, keys_file: Path, clock: Clock, keys: list[tuple[str, str]]) -> KeyRing:
        keys_file.write_text("".join(line + "\n" for _, line in keys))
        return KeyRing(keys_file, clock)

    def test_a_changed_file_counts_after_a_while(
        self, ring: KeyRing, keys_file: Path, clock: Clock, keys: list[tuple[str, str]]
    ) -> None:
        (first, _), (second, second_line) = keys
        replace(keys_file, second_line)
        clock.now += RELOAD_S / 2
        assert admitted(ring, first)
        clock.now += RELOAD_S
        assert admitted(ring, second)
        assert not admitted(ring, first)

    @pytest.mark.parametrize(
        "broken",
        [
            b"",
            b"# none\n",
            b"first\nsecond\n",
            b"\xff\xfe",
            None,
            "folder",
        ],
        ids=["empty", "comment", "lines", "bytes", "gone", "folder"],
    )
    def test_a_file_that_states_no_key_any_more_admits_nobody_until_it_is_mended(
        self,
        ring: KeyRing,
        keys_file: Path,
        clock: Clock,
        keys: list[tuple[str, str]],
        broken: bytes | str | None,
    ) -> None:
        (first, first_line), (second, _) = keys
        keys_file.unlink()
        if broken == "folder":
            keys_file.mkdir()
        elif isinstance(broken, bytes):
            keys_file.write_bytes(broken)
        clock.now += RELOAD_S
        assert not admitted(ring, first)
        assert not admitted(ring, second)
        if broken == "folder":
            keys_file.rmdir()
        replace(keys_file, first_line)
        clock.now += RELOAD_S
        assert admitted(ring, first)
        assert not admitted(ring, second)

    @pytest.mark.parametrize("broken", ["{line}x", "{line} x", "x{line}", "{cut}", ""])
    def test_a_broken_line_ends_its_key_and_no_other(
        self, ring: KeyRing, keys_file: Path, clock: Clock, keys: list[tuple[str, str]], broken: str
    ) -> None:
        (first, first_line), (second, second_line) = keys
        wrong = broken.format(line=second_line.replace(" ", "", broken == "x{line}"), cut=second_line[:-9])
        replace(keys_file, f"{wrong}\n{first_line}\n")
        clock.now += RELOAD_S
        assert admitted(ring, first)
        assert not admitted(ring, second)

    @pytest.mark.parametrize("idle_s", [RELOAD_S, 1000.0])
    def test_a_key_that_was_taken_away_is_never_admitted_after_the_time_promised(
        self, ring: KeyRing, keys_file: Path, clock: Clock, keys: list[tuple[str, str]], idle_s: float
    ) -> None:
        """Whether calls came in between or none."""
        (first, first_line), (second, _) = keys
        replace(keys_file, first_line)
        clock.now += idle_s
        assert not admitted(ring, second)
        keys_file.write_bytes(b"")
        for _ in range(20):
            clock.now += RELOAD_S / 20
            last = admitted(ring, first)
        assert not last

    @pytest.mark.parametrize("half_written", [None, b"", b"first"])
    def test_a_file_that_an_editor_is_writing_costs_no_call(
        self, ring: KeyRing, keys_file: Path, clock: Clock, keys: list[tuple[str, str]], half_written: bytes | None
    ) -> None:
        """It is looked at every `LOOK_S`, and read once more before it counts."""
        clock.now += LOOK_S
        assert admitted(ring, keys[0][0])
        before = keys_file.read_bytes()
        keys_file.unlink()
        if half_written is not None:
            keys_file.write_bytes(half_written)
        clock.now += LOOK_S
        assert admitted(ring, keys[0][0])
        keys_file.write_bytes(before)
        for _ in range(10):
            clock.now += LOOK_S / 5
            assert admitted(ring, keys[0][0])

    def test_a_fault_is_logged_with_its_line_and_again_while_it_lasts(
        self,
        ring: KeyRing,
        keys_file: Path,
        clock: Clock,
        keys: list[tuple[str, str]],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        replace(keys_file, f"{keys[0][1]}\nbroken\n")
        for _ in range(int(2.5 * REPEAT_S)):
            clock.now += 1
            assert admitted(ring, keys[0][0])
        errors = [record.__dict__["fields"] for record in caplog.records if record.levelname == "ERROR"]
        assert len(errors) == 3
        assert {error["keys"] for error in errors} == {1}
        assert all(f"{keys_file}:2: a line is" in error["error"] for error in errors)
        caplog.clear()
        replace(keys_file, keys[0][1])
        for _ in range(int(2.5 * REPEAT_S)):
            clock.now += 1
            assert admitted(ring, keys[0][0])
        assert [record.levelname for record in caplog.records] == ["INFO"]

    def test_a_file_as_old_and_as_long_counts_too(
        self, ring: KeyRing, keys_file: Path, clock: Clock, keys: list[tuple[str, str]]
    ) -> None:
        """As when a secret is mounted anew; and in the same file, within one tick of the file system's clock."""
        before = keys_file.stat()
        (third, third_line), text = new_key("third_", ["search"]), keys_file.read_text()
        keys_file.write_text(text.replace(keys[1][1], third_line))
        assert keys_file.stat().st_size == before.st_size
        os.utime(keys_file, ns=(before.st_atime_ns, before.st_mtime_ns))
        clock.now += RELOAD_S
        assert admitted(ring, third)
        assert not admitted(ring, keys[1][0])


def admitted(ring: KeyRing, key: str) -> bool:
    try:
        ring.admit(key, "search")
    except Unauthenticated:
        return False
    return True


def replace(path: Path, text: str) -> None:
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    fresh.rename(path)


def test_credentials_need_a_certificate() -> None:
    with pytest.raises(ConfigError, match="certificate and key are needed"):
        server_credentials(TlsConfig())
