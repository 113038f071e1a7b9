"""A bundle that is fetched is the one that its manifest describes, or it is not there."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

import models.bundles.fetch as fetching
from models.bundle_parts import verify_bundle
from models.bundles.bundle import Bundle
from models.bundles.fetch import fetch_bundle
from models.bundles.manifest import MANIFEST, BundleError
from models.errors import InputError
from serving.cli.main import app

VECTORS = "vectors.npy"


class Shelf(ThreadingHTTPServer):
    """A web server of a folder that counts its answers, and breaks off some of them. What it does for GET and HEAD is what an S3 store does
    for objects that everybody may read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder = folder
        self.can_resume = True
        self.served: Counter[str] = Counter()  # bytes
        self.broken: Counter[str] = Counter()  # how many more answers break off in the middle

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/shop"


class Answer(BaseHTTPRequestHandler):
    server: Shelf
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        name, body = self.answer()
        if self.server.broken[name] > 0:
            self.server.broken[name] -= 1
            body = body[: len(body) // 2]
            self.close_connection = True
        self.server.served[name] += len(body)
        self.wfile.write(body)

    def answer(self) -> tuple[str, bytes]:
        """Sends the head of the answer. Returns the name of the file and what is asked for of it."""
        name = self.path.removeprefix("/shop/")
        file = self.server.folder / name
        body, asked = file.read_bytes() if file.is_file() else b"", self.headers.get("Range", "")
        start, _, stop = asked.removeprefix("bytes=").partition("-")
        is_part = bool(asked) and self.server.can_resume
        whole, body = len(body), body[int(start) : int(stop or len(body)) + 1] if is_part else body
        self.send_response((206 if is_part else 200) if file.is_file() else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 18:00:00 GMT")
        if self.server.can_resume:
            self.send_header("Accept-Ranges", "bytes")
        if is_part:
            self.send_header("Content-Range", f"bytes {start}-{int(start) + len(body) - 1}/{whole}")
        self.end_headers()
        return name, body

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def origin(shop_bundle: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(shop_bundle, tmp_path / "origin"))


@pytest.fixture
def shelf(origin: Path) -> Iterator[Shelf]:
    server = Shelf(origin)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PAUSE_S", 0.001)


def test_a_bundle_from_a_web_server_is_whole(shelf: Shelf, origin: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    out.parent.mkdir()
    manifest = fetch_bundle(shelf.url, out, version=Bundle(origin).manifest.version)
    verify_bundle(Bundle(out))
    assert manifest == Bundle(origin).manifest
    assert sorted(path.name for path in out.parent.iterdir()) == ["out"]
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == {
        MANIFEST,
        *manifest.files,
    }


def test_what_is_there_is_verified_and_not_fetched_again(shelf: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fetch_bundle(shelf.url, out)
    shelf.served.clear()
    fetch_bundle(shelf.url, out)
    assert set(shelf.served) == {MANIFEST}
    (out / VECTORS).write_bytes(b"other")
    with pytest.raises(BundleError, match=f"{VECTORS} has 5 bytes"):
        fetch_bundle(shelf.url, out)


def test_a_bundle_from_an_object_store_is_whole(
    shelf: Shelf, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ACCESS_KEY_ID", "shop"), ("SECRET_ACCESS_KEY", "secret"), ("EC2_METADATA_DISABLED", "true")):
        monkeypatch.setenv(f"AWS_{name}", value)
    place = f"?endpoint_override=127.0.0.1:{shelf.server_port}&scheme=http&region=eu"
    manifest = fetch_bundle(f"s3://shop{place}", tmp_path / "out")
    verify_bundle(Bundle(tmp_path / "out"))
    assert manifest == Bundle(origin).manifest
    with pytest.raises(BundleError, match=r"manifest.json cannot be read: FileNotFoundError"):
        fetch_bundle(f"s3://shop/nothing{place}", tmp_path / "none")


@pytest.mark.parametrize("can_resume", [True, False])
def test_an_answer_that_breaks_off_is_asked_for_again(shelf: Shelf, tmp_path: Path, can_resume: bool) -> None:
    shelf.can_resume = can_resume
    shelf.broken.update({MANIFEST: 1, VECTORS: 2})
    fetch_bundle(shelf.url, tmp_path / "out")
    verify_bundle(Bundle(tmp_path / "out"))
    assert not +shelf.broken


def test_a_fetch_that_failed_goes_on_with_the_files_it_lacks(shelf: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shelf.broken[VECTORS] = 1000
    with pytest.raises(BundleError, match=rf"{VECTORS} cannot be read, {fetching.TRIES} times"):
        fetch_bundle(shelf.url, out)
    assert not out.exists()
    shelf.broken.clear()
    shelf.served.clear()
    fetch_bundle(shelf.url, out)
    verify_bundle(Bundle(out))
    assert VECTORS in shelf.served
    assert len(shelf.served) < len(Bundle(out).manifest.files)


def test_a_file_goes_on_where_it_ended(origin: Path, tmp_path: Path) -> None:
    out, half = tmp_path / "out", (origin / VECTORS).stat().st_size // 2
    right = (origin / VECTORS).read_bytes()
    (origin / VECTORS).write_bytes(right[:half])
    with pytest.raises(BundleError, match=f"ended after {half} of {len(right)} bytes"):
        fetch_bundle(origin.as_uri(), out)
    # What was fetched is not read again: the origin's first half is other now, and the bundle is right.
    (origin / VECTORS).write_bytes(bytes(half) + right[half:])
    fetch_bundle(origin.as_uri(), out)
    verify_bundle(Bundle(out))
    assert (out / VECTORS).read_bytes() == right


@pytest.mark.parametrize(
    ("spoiled", "says"),
    [(b"x", "has the SHA-256 .*, the manifest says"), (b"xx", "has more than .* bytes, the manifest says")],
)
def test_a_file_that_is_not_the_manifests_is_refused(origin: Path, tmp_path: Path, spoiled: bytes, says: str) -> None:
    right = (origin / VECTORS).read_bytes()
    (origin / VECTORS).write_bytes(right[:-1] + spoiled)
    with pytest.raises(BundleError, match=f"{VECTORS} {says}"):
        fetch_bundle(origin.as_uri(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (origin / VECTORS).write_bytes(right)
    fetch_bundle(origin.as_uri(), tmp_path / "out")
    verify_bundle(Bundle(tmp_path / "out"))


def test_what_cannot_be_a_bundle_is_one_line(shelf: Shelf, origin: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    version = Bundle(origin).manifest.version
    for url, says in (
        ("bundles/mine", "is no address"),
        ("nowhere://bucket/mine", "nowhere"),
        (f"{shelf.url}/nothing", r"nothing/manifest.json cannot be read: .*404"),
        ("http://127.0.0.1:1", "cannot be read, 4 times"),
    ):
        with pytest.raises(InputError, match=says):
            fetch_bundle(url, out)
    with pytest.raises(BundleError, match=f"is version {version}, and 0123456789ab is asked for"):
        fetch_bundle(shelf.url, out, version="0123456789ab")
    (origin / MANIFEST).write_text((origin / MANIFEST).read_text().replace('"products": 6', '"products": 7'))
    with pytest.raises(BundleError, match="manifest.json was altered"):
        fetch_bundle(shelf.url, out)
    assert not out.exists()


def test_the_command_replaces_a_bundle_only_if_told_to(origin: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fetch_bundle(origin.as_uri(), out)
    manifest = (out / MANIFEST).read_text()
    (out / MANIFEST).write_text(manifest + "\n")  # another bundle, as far as this one knows
    refused = CliRunner().invoke(app, ["bundle", "fetch", origin.as_uri(), str(out)])
    assert (refused.exit_code, "--force" in refused.output) == (1, True)
    assert (out / MANIFEST).read_text() == manifest + "\n"
    replaced = CliRunner().invoke(app, ["bundle", "fetch", origin.as_uri(), str(out), "--force"])
    assert replaced.exit_code == 0, replaced.output
    assert (out / MANIFEST).read_text() == manifest
