"""Each reader of query and path says what it is for: words of a dictionary, words that go with steps, judgements of like pairs."""

from __future__ import annotations

import numpy as np

from models.query_types.crossed_words import CrossedWords
from models.query_types.judged_neighbours import JudgedNeighbours
from models.query_types.tokens import QueryHashing
from models.query_types.word_lexicon import WordLexicon

EARRINGS, WATCHES = ("jewellery", "earrings"), ("jewellery", "watches")
ENTRIES = [
    ("orecchini", EARRINGS),
    ("orologi", WATCHES),
    ("orologi da polso", ("jewellery", "wrist watches")),
    ("ohrringe", EARRINGS),
    ("uhren", WATCHES),
    ("armbanduhren", ("jewellery", "wrist watches")),
]
NOTHING = WordLexicon({})


def test_a_word_stands_for_the_word_that_names_come_with() -> None:
    lexicon = WordLexicon.count(ENTRIES)
    assert lexicon.names("ohrringe gold") == ["earring", "gold"]
    right, wrong = lexicon.features(["orologi"] * 2, [WATCHES, EARRINGS])
    assert right[0] > wrong[0]
    assert right[1] > wrong[1]


def test_a_query_without_words_has_no_share() -> None:
    assert not WordLexicon.count(ENTRIES).features(["!?"], [WATCHES]).any()
    assert WordLexicon.count([]).features([], []).shape == (0, 4)


def test_words_that_went_with_a_step_do_so_in_new_queries() -> None:
    queries, fits = ["apex red", "apex blue", "lamp red", "lamp blue"] * 3, np.array([True, True, False, False] * 3)
    crossed = CrossedWords(queries, [WATCHES] * len(queries), fits, NOTHING)
    known, unknown = crossed.scores(["apex green", "lamp green"], [WATCHES] * 2)
    assert known > unknown


def test_neighbours_vote_for_the_paths_that_fitted_them() -> None:
    queries = ["gold watch", "gold watch", "pearl studs", "pearl studs"]
    paths = [WATCHES, EARRINGS, WATCHES, EARRINGS]
    fits = np.array([True, False, False, True])
    near = JudgedNeighbours(queries, paths, fits, QueryHashing(bits=12), NOTHING)
    fitting, unfitting = near.features(["gold watches"] * 2, [WATCHES, EARRINGS])
    assert fitting[0] > fitting[1]
    assert unfitting[0] < unfitting[1]


def test_queries_of_two_languages_meet_in_the_words_of_paths() -> None:
    lexicon = WordLexicon.count(ENTRIES)
    near = JudgedNeighbours(["orologi"], [WATCHES], np.array([True]), QueryHashing(bits=12), lexicon)
    translated, strange = near.features(["uhren", "xyz"], [WATCHES] * 2)
    assert translated[4] > 0
    assert strange[4] == 0


def test_nothing_like_it_leaves_the_overall_share() -> None:
    near = JudgedNeighbours(
        ["a watch", "b watch"], [WATCHES] * 2, np.array([True, False]), QueryHashing(bits=12), NOTHING
    )
    found = near.features(["zzz"], [("tools", "saws")])[0]
    assert not found[:6].any()
    assert abs(found[6] - 0.5) < 1e-9
