"""The function words of each language that a query's conditions are written with. No word of any catalogue is among them."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.products.language_words import language_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # compared by identity: there is one of each language
class LanguageRules:
    """Words in lower case. A phrase may hold blanks."""

    below: tuple[str, ...]  # before an amount: less than it
    at_most: tuple[str, ...]
    above: tuple[str, ...]
    at_least: tuple[str, ...]
    about: tuple[str, ...]
    or_less: tuple[str, ...]  # after an amount
    less: tuple[str, ...] = ()  # after an amount, which is excluded
    or_more: tuple[str, ...]
    between: tuple[str, ...]
    range_joints: tuple[str, ...]  # between two amounts
    price_words: tuple[str, ...]  # say that the number after them is a price
    price_fillers: tuple[str, ...]  # belong to the condition after them
    without: tuple[str, ...]  # always exclude what follows
    no: tuple[str, ...]  # exclude it where something stands before them: "no name" is a name
    without_after: tuple[str, ...] = ()  # exclude what stands before them
    conjunctions: tuple[str, ...]
    purpose: tuple[str, ...]  # before what a product is for
    prepositions: tuple[str, ...]  # end the noun phrase, as those of `purpose` do
    head_is_last: bool  # the head of "iphone case" is its last noun, that of "coque iphone" its first
    not_nouns: tuple[str, ...] = field(default=())  # colours, sizes and determiners, which are no head


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_EN = LanguageRules(
    below=("under", "below", "less than", "cheaper than", "lower than", "<"),
    at_most=("up to", "at most", "no more than", "not more than", "maximum", "max", "max.", "within", "<=", "≤"),
    above=("over", "above", "more than", ">"),
    at_least=("at least", "no less than", "not less than", "minimum", "min", "min.", "starting at", "from", ">=", "≥"),
    about=("about", "around", "roughly", "approximately", "approx", "approx.", "ca.", "~", "circa"),
    or_less=("or less", "or under", "or below", "and under", "and below", "max", "maximum", "tops"),
    or_more=("or more", "and up", "and above", "or above", "and over", "or over", "upwards", "minimum"),
    between=("between", "from"),
    range_joints=("to", "and", "till", "until"),
    price_words=("price", "priced", "prices", "costing", "costs", "cost", "budget"),
    price_fillers=("for", "at", "is", "of", "a", "with a", "in the range", "price range"),
    without=("without", "excluding", "except", "exclude", "w/o"),
    no=("no", "not", "minus"),
    conjunctions=("and", "or", "nor"),
    purpose=("for",),
    prepositions=(
        "with",
        "of",
        "in",
        "on",
        "by",
        "from",
        "to",
        "at",
        "under",
        "over",
        "and",
        "or",
        "that",
        "which",
        "between",
        "like",
        "as",
        "into",
        "behind",
    ),
    head_is_last=True,
    not_nouns=_words(
        "a an the my your new cheap best small medium large big black white red blue green yellow pink purple orange "
        "brown grey gray beige gold silver xs s m l xl xxl size"
    ),
)
_DE = LanguageRules(
    below=("unter", "weniger als", "billiger als", "günstiger als", "<"),
    at_most=("bis", "bis zu", "höchstens", "maximal", "max", "max.", "nicht mehr als", "<=", "≤"),
    above=("über", "mehr als", ">"),
    at_least=("mindestens", "ab", "min", "min.", ">=", "≥"),
    about=("etwa", "ca", "ca.", "circa", "ungefähr", "um", "~"),
    or_less=("oder weniger", "maximal", "max", "höchstens"),
    or_more=("oder mehr", "aufwärts", "mindestens"),
    between=("zwischen", "von", "ab"),
    range_joints=("bis", "und"),
    price_words=("preis", "kosten", "kostet", "budget"),
    price_fillers=("für", "zu", "von", "im"),
    without=("ohne", "außer", "ausser"),
    no=("kein", "keine", "keinen", "keinem", "keiner", "nicht"),
    conjunctions=("und", "oder", "noch"),
    purpose=("für",),
    prepositions=(
        "mit",
        "von",
        "aus",
        "in",
        "im",
        "auf",
        "an",
        "am",
        "zum",
        "zur",
        "zu",
        "bei",
        "und",
        "oder",
        "unter",
    ),
    head_is_last=True,
    not_nouns=_words(
        "ein eine einen der die das den neu neue neuer klein groß schwarz weiß rot blau grün gelb rosa lila braun grau "
        "beige gold silber xs s m l xl xxl"
    ),
)
_FR = LanguageRules(
    below=("moins de", "en dessous de", "inférieur à", "sous", "<"),
    at_most=("jusqu'à", "jusqu\u2019à", "maximum", "max", "max.", "au plus", "pas plus de", "<=", "≤"),
    above=("plus de", "au-dessus de", "supérieur à", ">"),
    at_least=("au moins", "à partir de", "dès", "minimum", "min", ">=", "≥"),
    about=("environ", "autour de", "vers", "~"),
    or_less=("ou moins", "maximum", "max"),
    or_more=("ou plus", "et plus", "minimum"),
    between=("entre", "de"),
    range_joints=("à", "et", "a"),
    price_words=("prix", "budget", "coût"),
    price_fillers=("à", "pour", "de"),
    without=("sans", "sauf", "excepté"),
    no=("pas de", "pas d'", "pas", "non"),
    conjunctions=("et", "ou", "ni"),
    purpose=("pour",),
    prepositions=("avec", "de", "d", "du", "des", "en", "à", "au", "aux", "sur", "et", "ou", "par"),
    head_is_last=False,
    not_nouns=_words(
        "un une l le la les petit petite grand grande nouveau nouvelle belle beau noir noire blanc blanche rouge bleu vert "
        "jaune rose gris xs s m l xl xxl"
    ),
)
_ES = LanguageRules(
    below=("menos de", "por debajo de", "inferior a", "<"),
    at_most=("hasta", "máximo", "como máximo", "max", "max.", "no más de", "<=", "≤"),
    above=("más de", "mas de", "superior a", "por encima de", ">"),
    at_least=("al menos", "desde", "a partir de", "mínimo", "min", ">=", "≥"),
    about=("alrededor de", "aproximadamente", "unos", "~"),
    or_less=("o menos", "máximo", "max"),
    or_more=("o más", "mínimo"),
    between=("entre", "de", "desde"),
    range_joints=("a", "y", "hasta"),
    price_words=("precio", "presupuesto", "cuesta"),
    price_fillers=("por", "a", "de"),
    without=("sin", "excepto", "salvo"),
    no=("no",),
    conjunctions=("y", "o", "ni", "e", "u"),
    purpose=("para",),
    prepositions=("con", "de", "del", "en", "a", "por", "y", "o", "sobre"),
    head_is_last=False,
    not_nouns=_words(
        "un una el la los las pequeño grande nuevo nueva negro negra blanco blanca rojo roja azul verde rosa gris"
    ),
)
_IT = LanguageRules(
    below=("meno di", "sotto i", "sotto", "inferiore a", "<"),
    at_most=("fino a", "massimo", "max", "max.", "al massimo", "non più di", "entro", "<=", "≤"),
    above=("più di", "oltre", "sopra i", "sopra", "superiore a", ">"),
    at_least=("almeno", "a partire da", "da", "minimo", "min", ">=", "≥"),
    about=("circa", "intorno a", "~"),
    or_less=("o meno", "massimo", "max"),
    or_more=("o più", "minimo"),
    between=("tra", "fra", "da"),
    range_joints=("a", "e"),
    price_words=("prezzo", "budget", "costo"),
    price_fillers=("a", "per", "di"),
    without=("senza", "eccetto", "tranne"),
    no=("non", "no"),
    conjunctions=("e", "o", "né", "ed"),
    purpose=("per",),
    prepositions=("con", "di", "del", "della", "in", "a", "da", "su", "e", "o"),
    head_is_last=False,
    not_nouns=_words("un una il la lo gli le piccolo grande nuovo nuova nero nera bianco bianca rosso blu verde rosa"),
)
_NL = LanguageRules(
    below=("onder", "minder dan", "goedkoper dan", "<"),
    at_most=("tot", "maximaal", "max", "max.", "hoogstens", "niet meer dan", "<=", "≤"),
    above=("boven", "meer dan", ">"),
    at_least=("minstens", "vanaf", "minimaal", "min", ">=", "≥"),
    about=("ongeveer", "rond", "circa", "ca.", "~"),
    or_less=("of minder", "maximaal", "max"),
    or_more=("of meer", "minimaal"),
    between=("tussen", "van", "vanaf"),
    range_joints=("tot", "en"),
    price_words=("prijs", "budget", "kost"),
    price_fillers=("voor", "van"),
    without=("zonder", "behalve"),
    no=("geen", "niet"),
    conjunctions=("en", "of", "noch"),
    purpose=("voor",),
    prepositions=("met", "van", "in", "op", "aan", "uit", "bij", "en", "of"),
    head_is_last=True,
    not_nouns=_words(
        "een de het nieuw nieuwe klein groot zwart zwarte wit witte rood rode blauw groen geel roze grijs"
    ),
)
_JA = LanguageRules(
    below=("<",),
    at_most=("最大", "上限", "<=", "≤"),
    above=(">",),
    at_least=("最低", "下限", ">=", "≥"),
    about=("約", "およそ", "~"),
    or_less=("以下", "以内", "まで"),
    less=("未満",),
    or_more=("以上", "から"),
    between=(),
    range_joints=("から",),
    price_words=("価格", "予算", "値段"),
    price_fillers=(),
    without=(),
    no=(),
    without_after=("なし", "無し", "以外", "不要", "抜き"),
    conjunctions=("と", "か"),
    purpose=(),
    prepositions=(),
    head_is_last=True,
)

_RULES = {"en": _EN, "de": _DE, "fr": _FR, "es": _ES, "it": _IT, "nl": _NL, "ja": _JA}
LANGUAGES = tuple(_RULES)


def rules_of(locale: str) -> LanguageRules:
    """Returns the rules of a locale's language, the English ones for a language without any."""
    return _RULES.get(language_of(locale), _EN)
