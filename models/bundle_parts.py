"""The parts that a bundle may have, one for each model that is served."""

from __future__ import annotations

from models.bundles.bundle import Bundle, reading
from models.bundles.part import Part
from models.products.language_words import language_of, language_words
from models.products.spelling import WORDS_FILE, Speller, vocabulary_words
from models.query_types.bundle_part import TYPES_PART
from models.ranking.bundle_part import RANKER_PART
from models.ranking.column_files import COLUMNS_PART
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import log_words

PARTS: tuple[Part[object], ...] = (TEXT_ENCODER_PART, UNIFIED_PART, TYPES_PART, RANKER_PART, COLUMNS_PART, TEACHER_PART)


def verify_bundle(bundle: Bundle) -> None:
    """Checks every file of the bundle and reads whatever serving will read; each part must fit the manifest and this version of Aisle.

    Raises BundleError, which names the file, or the folder of a part whose files do not fit each other.
    """
    bundle.verify()
    bundle.index("cpu")
    bundle.identifiers()
    bundle.lexical()
    query_encoder = UNIFIED_PART if UNIFIED_PART.is_in(bundle) else TEXT_ENCODER_PART
    for part in PARTS:
        if part is query_encoder or part.is_in(bundle):
            part.check(bundle)
    load_speller(bundle)


def load_speller(bundle: Bundle) -> Speller:
    """Returns the speller, whose common words are those of the model that encodes queries. Raises BundleError."""
    bundle.verify(WORDS_FILE)
    if UNIFIED_PART.is_in(bundle):
        with reading(UNIFIED_PART.open(bundle)):
            vocabulary = log_words(UNIFIED_PART.open(bundle))
    else:
        with reading(TEXT_ENCODER_PART.open(bundle)):
            vocabulary = vocabulary_words(TEXT_ENCODER_PART.open(bundle) / "tokenizer.json")
    language_words(language_of(bundle.manifest.locales[0]))  # so that no query waits for it
    with reading(bundle.folder / WORDS_FILE):
        return Speller.load(bundle.folder, vocabulary)
