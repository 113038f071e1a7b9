"""The build: never over what is there, never twice at once, and on from where it stopped."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.arrays import Progress
from models.bundle_parts import verify_bundle
from models.bundles.build import Recipe, build_bundle
from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError, Manifest
from models.bundles.source import Source
from models.bundles.sources import catalogue_source
from models.bundles.work_folder import PROGRESS
from models.products.errors import CatalogueError
from models.products.product import Product
from models.products.product_table import BLOCK
from models.text_encoder.embed_products import ENCODE_BLOCK, TextEmbedding
from models.text_encoder.hugging_face import PACKAGED
from models.text_encoder.spec import EncoderError

Build = Callable[..., Manifest]
MakeSource = Callable[..., Source]
SAME = [Product(f"P{n}", f"Sofa number {n}") for n in range(5)]


def build(source: Source, recipe: Recipe, out: Path, progress: Progress) -> Manifest:
    embedding = TextEmbedding.for_recipe(recipe, source.text_attributes)
    return build_bundle(source, recipe, out, progress, embedding=embedding)


class Interrupted(Exception):
    """Stands for Ctrl-C."""


def stop_at(what: str, times: int = 1) -> Callable[[str, int, int | None], None]:
    seen = 0

    def progress(now: str, *_: object) -> None:
        nonlocal seen
        seen += now.startswith(what)
        if seen == times:
            raise Interrupted

    return progress


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_only_the_bundle_is_left(build_tiny: Build, tmp_path: Path) -> None:
    build_tiny(tmp_path / "shop")
    assert names_in(tmp_path) == {"shop"}
    assert PROGRESS not in names_in(tmp_path / "shop")


class TestOut:
    def test_an_existing_bundle_is_not_touched(self, build_tiny: Build, tmp_path: Path) -> None:
        version = build_tiny(tmp_path / "shop").version
        with pytest.raises(BundleError, match="exists; choose another --out, or replace it with --force"):
            build_tiny(tmp_path / "shop", SAME)
        assert Bundle(tmp_path / "shop").manifest.version == version

    def test_a_bundle_is_replaced_when_that_is_asked(self, build_tiny: Build, tmp_path: Path) -> None:
        build_tiny(tmp_path / "shop")
        build_tiny(tmp_path / "shop", SAME, replace=True)
        assert names_in(tmp_path) == {"shop"}
        bundle = Bundle(tmp_path / "shop")
        verify_bundle(bundle)
        assert len(bundle.products()) == len(SAME)

    def test_what_is_served_from_the_replaced_one_stays_readable(self, build_tiny: Build, tmp_path: Path) -> None:
        build_tiny(tmp_path / "shop")
        old = Bundle(tmp_path / "shop")
        table, vectors = old.products(), old.vectors()
        build_tiny(tmp_path / "shop", SAME, replace=True)
        assert table.product(0).title == "Velvet Sofa"
        assert np.isfinite(vectors).all()

    @pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["a folder", "a file"])
    def test_what_is_no_bundle_is_never_replaced(
        self, build_tiny: Build, tmp_path: Path, make: Callable[[Path], None]
    ) -> None:
        make(tmp_path / "work")
        if (tmp_path / "work").is_dir():
            (tmp_path / "work" / "thesis.txt").write_text("years")
        with pytest.raises(BundleError, match="is not a bundle, so --force does not replace it"):
            build_tiny(tmp_path / "work", replace=True)
        assert names_in(tmp_path) == {"work"}

    def test_an_empty_folder_may_be_filled(self, build_tiny: Build, tmp_path: Path) -> None:
        (tmp_path / "shop").mkdir()
        build_tiny(tmp_path / "shop", replace=True)
        verify_bundle(Bundle(tmp_path / "shop"))

    def test_a_link_is_followed(self, build_tiny: Build, tmp_path: Path) -> None:
        build_tiny(tmp_path / "first")
        (tmp_path / "current").symlink_to("first")
        build_tiny(tmp_path / "current", SAME, replace=True)
        assert (tmp_path / "current").is_symlink()
        assert Bundle(tmp_path / "first").manifest.products == len(SAME)
        assert names_in(tmp_path) == {"first", "current"}

    def test_a_relative_folder_and_missing_parents(
        self, build_tiny: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        build_tiny(Path("deep/er/shop"))
        verify_bundle(Bundle(tmp_path / "deep/er/shop"))

    def test_a_folder_that_cannot_be_made_is_named(self, build_tiny: Build, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(BundleError, match="cannot be made: Not a directory"):
            build_tiny(tmp_path / "file" / "shop")

    def test_a_folder_of_somebody_else_is_not_emptied(self, build_tiny: Build, tmp_path: Path) -> None:
        (tmp_path / "shop.partial").mkdir()
        (tmp_path / "shop.partial" / "thesis.txt").write_text("years")
        with pytest.raises(BundleError, match="is not an unfinished build"):
            build_tiny(tmp_path / "shop")
        assert names_in(tmp_path / "shop.partial") == {"thesis.txt"}


def test_a_second_build_is_refused_while_the_first_is_at_work(build_tiny: Build, tmp_path: Path) -> None:
    (tmp_path / "shop.partial").mkdir()
    descriptor = os.open(tmp_path / "shop.partial", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(BundleError, match="another build is at work"):
            build_tiny(tmp_path / "shop")
    finally:
        os.close(descriptor)
    build_tiny(tmp_path / "shop")


class TestGoingOn:
    @pytest.fixture
    def many(self) -> list[Product]:
        return [Product(f"P{n}", f"sofa {n}") for n in range(2 * ENCODE_BLOCK + 10)]

    def build(
        self, source: Source, encoder: Path, out: Path, progress: Callable[..., None] = lambda *_: None, **recipe: Any
    ) -> Manifest:
        return build(source, Recipe(**({"name": "t", "encoder": str(encoder)} | recipe)), out, progress)

    @pytest.mark.parametrize(
        ("what", "times"),
        [("export", 1), ("read", 2), ("encode", 1), ("encode", 2), ("encode", 3), ("look-up", 1), ("index", 1)],
    )
    def test_interrupted_anywhere_the_same_bundle_comes_out(
        self,
        make_source: MakeSource,
        exported_encoder: Path,
        tmp_path: Path,
        many: list[Product],
        what: str,
        times: int,
    ) -> None:
        whole = self.build(make_source(many), exported_encoder, tmp_path / "whole")
        with pytest.raises(Interrupted):
            self.build(make_source(many), exported_encoder, tmp_path / "shop", stop_at(what, times))
        assert names_in(tmp_path) == {"whole", "shop.partial"}
        again = self.build(make_source(many), exported_encoder, tmp_path / "shop")
        assert again.version == whole.version
        assert np.array_equal(Bundle(tmp_path / "shop").vectors(), Bundle(tmp_path / "whole").vectors())
        assert names_in(tmp_path) == {"whole", "shop"}

    def test_what_was_done_is_not_done_again(
        self, make_source: MakeSource, exported_encoder: Path, tmp_path: Path, many: list[Product]
    ) -> None:
        with pytest.raises(Interrupted):
            self.build(make_source(many), exported_encoder, tmp_path / "shop", stop_at("encode", 3))
        steps: list[tuple[str, int]] = []
        unread = dataclasses.replace(make_source([]), products=lambda: pytest.fail("read again"))
        self.build(unread, exported_encoder, tmp_path / "shop", lambda what, done, _: steps.append((what, done)))
        assert [done for what, done in steps if what == "encode products"] == [2 * ENCODE_BLOCK, len(many)]
        assert not [what for what, _ in steps if what.startswith(("read", "export"))]

    def test_half_a_block_that_was_written_is_written_again(
        self, make_source: MakeSource, exported_encoder: Path, tmp_path: Path, many: list[Product]
    ) -> None:
        whole = self.build(make_source(many), exported_encoder, tmp_path / "whole")
        with pytest.raises(Interrupted):
            self.build(make_source(many), exported_encoder, tmp_path / "shop", stop_at("encode", 2))
        with (tmp_path / "shop.partial" / "vectors.npy").open("ab") as file:
            file.write(b"\x99" * 1001)
        assert self.build(make_source(many), exported_encoder, tmp_path / "shop").version == whole.version

    @pytest.mark.parametrize("change", ["recipe", "source", "encoder"])
    def test_another_recipe_starts_anew(
        self, make_source: MakeSource, exported_encoder: Path, tmp_path: Path, many: list[Product], change: str
    ) -> None:
        encoder = Path(shutil.copytree(exported_encoder, tmp_path / "encoder"))
        with pytest.raises(Interrupted):
            self.build(make_source(many), encoder, tmp_path / "shop", stop_at("look-up"))
        if change == "encoder":
            os.utime(encoder / "model.safetensors", (0, 0))
        recipe: dict[str, Any] = {"max_product_tokens": 8} if change == "recipe" else {}
        source = make_source(SAME, fingerprint="2" if change == "source" else "1")
        self.build(source, encoder, tmp_path / "shop", **recipe)
        bundle = Bundle(tmp_path / "shop")
        verify_bundle(bundle)
        assert bundle.manifest.products == len(SAME)

    def test_a_damaged_progress_file_starts_anew(
        self, make_source: MakeSource, exported_encoder: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(Interrupted):
            self.build(make_source(SAME), exported_encoder, tmp_path / "shop", stop_at("look-up"))
        (tmp_path / "shop.partial" / PROGRESS).write_bytes(b"")
        (tmp_path / "shop.partial" / "index").mkdir()
        (tmp_path / "shop.partial" / PROGRESS).write_text("{")
        assert self.build(make_source(SAME), exported_encoder, tmp_path / "shop").products == len(SAME)

    def test_files_of_another_attempt_do_not_get_into_the_bundle(
        self, make_source: MakeSource, exported_encoder: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(Interrupted):
            self.build(make_source(SAME), exported_encoder, tmp_path / "shop", stop_at("index"))
        (tmp_path / "shop.partial" / "index").mkdir()
        (tmp_path / "shop.partial" / "index" / "of-another-kind").touch()
        manifest = self.build(make_source(SAME), exported_encoder, tmp_path / "shop")
        assert "index/of-another-kind" not in manifest.files

    def test_a_build_that_was_killed_while_it_took_its_place_is_ended(
        self, make_source: MakeSource, exported_encoder: Path, build_tiny: Build, tmp_path: Path
    ) -> None:
        """The old bundle is out of the way, the new one is complete but has not its name."""
        build_tiny(tmp_path / "shop.replaced")
        with pytest.raises(Interrupted):
            self.build(make_source(SAME), exported_encoder, tmp_path / "shop", stop_at("index"))
        self.build(make_source(SAME), exported_encoder, tmp_path / "shop")
        assert names_in(tmp_path) == {"shop"}


def test_products_are_read_as_they_are_written(make_source: MakeSource, exported_encoder: Path, tmp_path: Path) -> None:
    """Memory does not grow with the catalogue: when a block is full it is on the disk before the next product is asked for."""
    seen: list[int] = []

    def products() -> Iterator[Product]:
        for n in range(2 * BLOCK + 1):
            if n in (BLOCK - 1, BLOCK + 1, 2 * BLOCK):
                seen.append((tmp_path / "shop.partial" / "products.arrow").stat().st_size)
            yield Product(str(n), "sofa")

    with pytest.raises(Interrupted):
        build(
            make_source(products()),
            Recipe("t", encoder=str(exported_encoder)),
            tmp_path / "shop",
            stop_at("encode"),
        )
    before, first, second = seen
    assert before < 10_000 < first < second


class TestRefusals:
    def test_a_source_without_products(self, build_tiny: Build, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="test shop holds no usable product"):
            build_tiny(tmp_path / "shop", [])
        assert not (tmp_path / "shop").exists()

    @pytest.mark.parametrize(
        ("recipe", "error", "says"),
        [
            ({"encoder": "/no/such/encoder"}, EncoderError, "no directory '/no/such/encoder'"),
            ({"dimensions": (64,)}, EncoderError, r"dimensions \[64\] do not fit the encoder's 32"),
            ({"currency": "dollars"}, CatalogueError, "'dollars' is not a currency"),
        ],
    )
    def test_a_wrong_recipe_before_any_product_is_read(
        self, build_tiny: Build, tmp_path: Path, recipe: dict[str, Any], error: type[Exception], says: str
    ) -> None:
        def unread() -> Iterator[Product]:
            pytest.fail("read")
            yield

        with pytest.raises(error, match=says):
            build_tiny(tmp_path / "shop", unread(), **recipe)


class TestCatalogueSource:
    def source(self, path: Path, columns: dict[str, str] | None = None, attributes: Iterable[str] = ()) -> Source:
        return catalogue_source(path, columns or {}, (), tuple(attributes), "USD")

    def test_all_wrong_columns_come_in_one_error_with_those_that_are_there(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text("sku,name,maker\n1,Sofa,Nord\n")
        with pytest.raises(CatalogueError) as caught:
            self.source(tmp_path / "x.csv", {"title": "nam", "brand": "makr"}, ["colour"])
        for part in ("'id'", "did you mean 'name'", "did you mean 'maker'", "'colour'", "sku, name, maker"):
            assert part in str(caught.value)

    def test_columns_named_like_fields_need_no_mapping(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text("id,name,price,brand\n7,Sofa,9.5,Nord\n")
        source = self.source(tmp_path / "x.csv", {"title": "name"})
        assert list(source.products()) == [Product("7", "Sofa", "Nord", price_minor=950)]
        assert source.report()["rows"] == 1

    def test_windows_line_ends_and_integer_ids(self, build_tiny: Build, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbfid,title\r\n1,Sofa\r\n007,Lamp\r\n")
        build_tiny(tmp_path / "shop", self.source(tmp_path / "x.csv").products())
        assert [(p.id, p.title) for p in Bundle(tmp_path / "shop").products().products()] == [
            ("1", "Sofa"),
            ("007", "Lamp"),
        ]

    def test_the_fingerprint_follows_content_mapping_and_currency(self, tmp_path: Path) -> None:
        for name, content in (
            ("a.csv", "id,title,x\n1,S,y\n"),
            ("b.csv", "id,title,x\n1,S,y\n"),
            ("c.csv", "id,title\n1,T\n"),
        ):
            (tmp_path / name).write_text(content)
        a = self.source(tmp_path / "a.csv").fingerprint
        assert a == self.source(tmp_path / "b.csv").fingerprint
        assert a != self.source(tmp_path / "c.csv").fingerprint
        assert a != self.source(tmp_path / "a.csv", attributes=["x"]).fingerprint
        assert a != catalogue_source(tmp_path / "a.csv", {}, (), (), "JPY").fingerprint

    def test_identifier_columns_are_returned_and_found(self, exported_encoder: Path, tmp_path: Path) -> None:
        (tmp_path / "shop.csv").write_text("id,title,gtin,mpn\na,Lamp,012345678905,Große\nb,Rug,,XK-99\n")
        source = catalogue_source(tmp_path / "shop.csv", {}, (), (), "USD", identifiers=("gtin", "mpn"))
        plain = catalogue_source(tmp_path / "shop.csv", {}, (), ("gtin", "mpn"), "USD")
        assert source.fingerprint != plain.fingerprint
        recipe = Recipe("t", encoder=str(exported_encoder))
        manifest = build(source, recipe, tmp_path / "bundle", lambda *_: None)
        bundle = Bundle(tmp_path / "bundle")
        found = [bundle.identifiers().find(query)[0].rows.tolist() for query in ("0012345678905", "grosse", "xk 99")]
        assert found == [[0], [0], [1]]
        assert bundle.products().product(1).attributes == {"mpn": "XK-99"}
        assert manifest.catalogue["identifiers"] == ["gtin", "mpn"]

    def test_a_text_that_is_empty_once_cleaned_still_gets_a_vector(self, build_tiny: Build, tmp_path: Path) -> None:
        build_tiny(tmp_path / "shop", [Product("1", "..."), Product("2", "\u200b"), Product("3", "沙发")])
        lengths = np.linalg.norm(np.asarray(Bundle(tmp_path / "shop").vectors(), np.float32), axis=1)
        assert lengths == pytest.approx(1, abs=2e-3)


def test_the_report_of_the_source_is_kept(exported_encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id,title\n1,Sofa\n1,Again\n,None\n")
    source = catalogue_source(tmp_path / "x.csv", {}, (), (), "USD")
    build(source, Recipe("t", encoder=str(exported_encoder)), tmp_path / "shop", lambda *_: None)
    report = json.loads((tmp_path / "shop" / "manifest.json").read_text())["catalogue"]["report"]
    assert report["skipped"] == {"duplicate id": 1, "no id": 1}


def test_the_default_encoder_is_the_packaged_one() -> None:
    assert Recipe("any").encoder == PACKAGED
