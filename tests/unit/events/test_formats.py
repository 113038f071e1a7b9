"""Ready mappings read files as their publishers write them, and a suggested mapping reads the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from models.errors import InputError
from models.events.event_log import COLUMNS, open_log
from models.events.importing.import_log import ImportLimits, import_log
from models.events.importing.mapping import LogMapping, SourceMapping, format_names, ready_format
from models.events.importing.report import ImportReport
from models.events.importing.suggest_mapping import suggest_mapping

Event = tuple[str, str, str, str, int | None]  # kind, product, shopper, query, position

RETAILROCKET = """timestamp,visitorid,event,itemid,transactionid
1433221332117,257597,view,355908,
1433221340000,257597,addtocart,355908,
1433221350000,257597,transaction,355908,4000
1433224214164,992329,view,248676,
"""
OPENCDP = """event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session
2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde-8bb3
2019-10-01 00:00:05 UTC,cart,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde-8bb3
2019-10-01 00:00:07 UTC,remove_from_cart,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde-8bb3
2019-10-01 00:00:09 UTC,purchase,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde-8bb3
"""
COVEO_BROWSING = """session_id_hash,event_type,product_action,product_sku_hash,server_timestamp_epoch_ms,hashed_url
20c458b8,pageview,,,1550885210881,7e4527ac
20c458b8,event_product,detail,d5157f8b,1550885213307,7e4527ac
20c458b8,event_product,add,d5157f8b,1550885213400,7e4527ac
20c458b8,event_product,remove,d5157f8b,1550885213500,7e4527ac
20c458b8,event_product,purchase,d5157f8b,1550885213600,4ed279f4
"""
COVEO_SEARCH = """session_id_hash,query_vector,clicked_skus_hash,product_skus_hash,server_timestamp_epoch_ms
20c458b8,"[-0.2, 0.1]","['d5157f8b']","['aa', 'd5157f8b']",1550885212000
20c458b8,"[-0.1, 0.1]",,"['bb']",1550885214000
"""
DIGINETICA = {
    "train-queries.csv": "queryId;sessionId;userId;timeframe;duration;eventdate;searchstring.tokens;categoryId;items;is.test\n"
    "1;2;NA;16327074;311;2016-05-09;31331,4651;0;7518,71,30311;FALSE\n",
    "train-clicks.csv": "queryId;timeframe;itemId\n1;16330000;71\n",
    "train-item-views.csv": "sessionId;userId;itemId;timeframe;eventdate\n2;NA;71;16331000;2016-05-09\n",
    "train-purchases.csv": "sessionId;userId;timeframe;eventdate;ordernumber;itemId\n2;NA;16340000;2016-05-09;16421;71\n",
}
UBI_QUERIES = [
    {
        "query_id": "q1",
        "user_query": "laptop bag",
        "client_id": "c1",
        "timestamp": "2024-11-15T10:00:00.000Z",
        "query_response_hit_ids": ["p1", "p2"],
    }
]
UBI_EVENTS = [
    {"query_id": "q1", "action_name": "on_search", "timestamp": "2024-11-15T10:00:00.500Z", "client_id": "c1"},
    {
        "query_id": "q1",
        "action_name": "item_click",
        "timestamp": "2024-11-15T10:00:09.000Z",
        "client_id": "c1",
        "event_attributes": {"object": {"object_id": "p2", "object_id_field": "sku"}, "position": {"ordinal": 2}},
    },
]


def ga4(name: str, at: int, items: list[dict[str, Any]], **parameters: Any) -> dict[str, Any]:
    values = [{"key": "ga_session_id", "value": {"int_value": "170"}}]
    values += [{"key": key, "value": {"string_value": value}} for key, value in parameters.items()]
    return {
        "event_name": name,
        "event_timestamp": str(1_700_000_000_000_000 + at),
        "user_pseudo_id": "u.1",
        "event_params": values,
        "items": items,
    }


GA4 = [
    ga4("page_view", 0, []),
    ga4("view_item_list", 10, [{"item_id": "a", "index": 0}, {"item_id": "b", "index": 1}], search_term="lamp"),
    ga4("select_item", 20_000, [{"item_id": "b", "index": 1}], search_term="lamp"),
    ga4("purchase", 90_000, [{"item_id": "b", "price": 9.5}]),
]
_ACTION = "unstruct_event_com_snowplowanalytics_snowplow_ecommerce_snowplow_ecommerce_action_1"
_PRODUCTS = "contexts_com_snowplowanalytics_snowplow_ecommerce_product_1"


def snowplow(number: int, kind: str | None, products: list[dict[str, Any]]) -> dict[str, Any]:
    values = {
        "event_id": f"e{number}",
        "derived_tstamp": f"2024-05-01T10:00:0{number}.000Z",
        "domain_userid": "d1",
        "domain_sessionid": "s1",
    }
    return values | ({_ACTION: {"type": kind}, _PRODUCTS: products} if kind else {"event_name": "page_ping"})


SNOWPLOW = [
    snowplow(0, None, []),
    snowplow(1, "list_view", [{"id": "a", "price": 5, "currency": "USD", "position": 1}, {"id": "b", "position": 2}]),
    snowplow(2, "add_to_cart", [{"id": "b", "price": 7.5, "currency": "EUR"}]),
]
JDSEARCH = (
    "query\tcandidate_wid_list\tcandidate_label_list\thistory_qry_list\n"
    "11 22\t901,902,903\t0,1,3\t5 6\n"
    "33\t904,905\t0,0\t\n"
)


def json_lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(map(json.dumps, rows)) + "\n"


FILES: dict[str, dict[str, str]] = {
    "retailrocket": {"events.csv": RETAILROCKET},
    "opencdp": {"2019-Oct.csv": OPENCDP},
    "coveo": {"browsing_train.csv": COVEO_BROWSING, "search_train.csv": COVEO_SEARCH},
    "diginetica": DIGINETICA,
    "ubi": {"ubi_queries.jsonl": json_lines(UBI_QUERIES), "ubi_events.jsonl": json_lines(UBI_EVENTS)},
    "ga4": {"events_20240501.jsonl": json_lines(GA4)},
    "snowplow": {"enriched.jsonl": json_lines(SNOWPLOW)},
    "jdsearch": {"train.tsv": JDSEARCH},
    "aisle": {
        "events.csv": "id,time,shopper_id,session_id,locale,kind,product_id,query,position,price_minor\n"
        "e1,2025-01-01 00:38:37.276,u1,s1,en-US,impression,P1,rope,2,2295\n"
        "e2,2025-01-01 00:38:59.600,u1,s1,en-US,click,P1,rope,2,2295\n"
    },
}
EXPECTED: dict[str, list[Event]] = {
    "retailrocket": [
        ("click", "355908", "257597", "", None),
        ("cart", "355908", "257597", "", None),
        ("purchase", "355908", "257597", "", None),
        ("click", "248676", "992329", "", None),
    ],
    "opencdp": [(kind, "44600062", "541312140", "", None) for kind in ("click", "cart", "purchase")],
    "coveo": [
        ("impression", "aa", "", "", 1),
        ("impression", "d5157f8b", "", "", 2),
        ("click", "d5157f8b", "", "", 2),
        ("click", "d5157f8b", "", "", None),
        ("cart", "d5157f8b", "", "", None),
        ("purchase", "d5157f8b", "", "", None),
        ("impression", "bb", "", "", 1),
    ],
    "diginetica": [
        *(("impression", item, "", "31331,4651", at) for at, item in enumerate(("7518", "71", "30311"), start=1)),
        ("click", "71", "", "31331,4651", 2),
        ("click", "71", "", "", None),
        ("purchase", "71", "", "", None),
    ],
    "ubi": [
        ("impression", "p1", "c1", "laptop bag", 1),
        ("impression", "p2", "c1", "laptop bag", 2),
        ("click", "p2", "c1", "laptop bag", 2),
    ],
    "ga4": [
        ("impression", "a", "u.1", "lamp", 1),
        ("impression", "b", "u.1", "lamp", 2),
        ("click", "b", "u.1", "lamp", 2),
        ("purchase", "b", "u.1", "", None),
    ],
    "snowplow": [("impression", "a", "d1", "", 1), ("impression", "b", "d1", "", 2), ("cart", "b", "d1", "", None)],
    "jdsearch": [
        ("impression", "901", "", "11 22", 1),
        ("impression", "902", "", "11 22", 2),
        ("impression", "903", "", "11 22", 3),
        ("click", "902", "", "11 22", 2),
        ("purchase", "903", "", "11 22", 3),
        ("impression", "904", "", "33", 1),
        ("impression", "905", "", "33", 2),
    ],
    "aisle": [("impression", "P1", "u1", "rope", 2), ("click", "P1", "u1", "rope", 2)],
}


def write(folder: Path, name: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for file, text in FILES[name].items():
        (folder / file).write_text(text)
    return [folder / file for file in FILES[name]]


def imported(paths: list[Path], out: Path, mapping: LogMapping) -> ImportReport:
    return import_log(paths, out, mapping, ImportLimits(now_ms=1_800_000_000_000), replace=True)


def test_every_format_is_tested_and_says_what_it_is() -> None:
    assert sorted(FILES) == sorted(EXPECTED) == format_names()
    for name in format_names():
        assert ready_format(name).description
        assert ready_format(name).lacks or name == "aisle"


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_ready_format_reads_its_files(tmp_path: Path, name: str) -> None:
    report = imported(write(tmp_path / "files", name), tmp_path / "log", ready_format(name))
    log = open_log(tmp_path / "log")
    rows = log.table(np.arange(len(log))).to_pylist()
    found = [(str(r["kind"]), r["product_id"], r["shopper_id"], r["query"], r["position"]) for r in rows]
    assert found == EXPECTED[name]
    assert (report.num_bad, report.unread_files) == (0, [])
    if name != "aisle":
        assert any(line.startswith("for training: ") for line in report.lines())


def test_searches_of_ready_formats_have_their_clicks(tmp_path: Path) -> None:
    for name in ("ubi", "diginetica", "ga4", "jdsearch"):
        imported(write(tmp_path / name, name), tmp_path / "log", ready_format(name))
        log = open_log(tmp_path / "log")
        click = int(np.flatnonzero(log.kind > 0)[0])
        shown = np.flatnonzero((log.kind == 0) & (log.session == log.session[click]) & (log.query == log.query[click]))
        assert log.product[click] in log.product[shown], name


def test_prices_of_ready_formats(tmp_path: Path) -> None:
    for name, prices in (("opencdp", [3_579] * 3), ("ga4", [-1, -1, -1, 950]), ("snowplow", [500, -1, -1])):
        report = imported(write(tmp_path / name, name), tmp_path / "log", ready_format(name))
        assert open_log(tmp_path / "log").price_minor.tolist() == prices, name
        assert sum(report.lost.values()) == (name == "snowplow")


def test_a_format_whose_file_is_missing_says_which(tmp_path: Path) -> None:
    (events,) = write(tmp_path, "ubi")[1:]
    with pytest.raises(InputError, match=r"the mapping ubi needs a file \*queries\* too"):
        imported([events], tmp_path / "log", ready_format("ubi"))
    other = tmp_path / "other.csv"
    other.write_text("a,b\n")
    with pytest.raises(InputError, match=r"no file is one of the mapping coveo, which reads \*browsing\*, \*search\*"):
        imported([other], tmp_path / "log", ready_format("coveo"))
    with pytest.raises(InputError, match="there is no format 'excel'; there are aisle, coveo"):
        ready_format("excel")


@pytest.mark.parametrize("name", ["retailrocket", "opencdp", "coveo", "aisle"])
def test_a_suggested_mapping_makes_the_same_log(tmp_path: Path, name: str) -> None:
    files = write(tmp_path / "files", name)
    (tmp_path / "mapping.toml").write_text(suggest_mapping(files).toml)
    imported(files, tmp_path / "ready", ready_format(name))
    imported(files, tmp_path / "suggested", LogMapping.load(tmp_path / "mapping.toml"))
    ready, suggested = open_log(tmp_path / "ready"), open_log(tmp_path / "suggested")
    for column in COLUMNS:
        assert np.array_equal(getattr(ready, column), getattr(suggested, column)), column
    assert ready.products.to_pylist() == suggested.products.to_pylist()


def test_a_suggestion_explains_what_it_found_and_what_not(tmp_path: Path) -> None:
    text = suggest_mapping(write(tmp_path, "retailrocket")).toml
    assert '"addtocart" = "cart" # 1 of 4 rows; put into the cart' in text
    assert 'time_unit = "ms"' in text
    assert "ms since 1970, by their size" in text
    assert "# query: not found; what was searched: without, queries come from titles" in text
    assert "# not used: transactionid" in text


def test_a_suggestion_finds_flags_lists_units_and_marks(tmp_path: Path) -> None:
    flags = tmp_path / "flags.csv"
    flags.write_text(
        "ts;user_id;sku;rank;clicked;price\n1714557600;u;A;0;1;12,50\n1714557601;u;B;1;0;3,20\n1714557602;u;C;2;0;5,00\n"
    )
    (tmp_path / "mapping.toml").write_text(suggest_mapping([flags]).toml)
    found = LogMapping.load(tmp_path / "mapping.toml")
    assert found.sources[0].shape == "impressions"
    assert (found.time_unit, found.decimal, found.first_position) == ("s", "comma", 0)
    imported([flags], tmp_path / "log", found)
    log = open_log(tmp_path / "log")
    assert log.price_minor.tolist() == [1_250, 1_250, 320, 500]
    assert log.position.tolist() == [1, 1, 2, 3]


def test_a_kind_that_is_not_known_is_left_to_the_reader(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("time,item,action\n2025-01-01,A,view\n2025-01-01,B,teleport\n")
    text = suggest_mapping([file]).toml
    assert '# "teleport" = "" # 1 of 2 rows; unknown: name its kind, or leave it out' in text


def test_files_without_times_or_products_cannot_be_suggested_for(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("when,item,action\nyesterday,A,view\n")
    with pytest.raises(InputError, match=r"a\.csv: no column of times was found among when, item, action"):
        suggest_mapping([file])


def test_a_suggestion_reads_the_words_and_values_of_names_that_nobody_knows(tmp_path: Path) -> None:
    path = tmp_path / "behaviour.tsv"
    kinds = ("list_view", "detailView", "put in basket", "order", "removed_item", "ping")
    rows = [f"v{n % 7}\t{1_700_000_000 + 60 * n}\t{kinds[n % 6]}\t{n % 5}\tblue sofa\t{n % 3}" for n in range(60)]
    path.write_text("visitorHash\tstamp\twhat\titem_no\tsearch_text\titem_rank\n" + "\n".join(rows) + "\n")
    (tmp_path / "mapping.toml").write_text(text := suggest_mapping([path]).toml)
    for line in (
        'time = "stamp"',
        'product = "item_no"',
        'kind = "what"',
        'shopper = "visitorHash"',
        'query = "search_text"',
        'position = "item_rank"',
        '"list_view" = "impression"',
        '"detailView" = "click"',
        '"put in basket" = "cart"',
        '"order" = "purchase"',
        '"removed_item" = ""',
        '# "ping" = ""',
    ):
        assert line in text, line


ORDERS = """InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID
536365,85123A,6,2010-12-01 08:26,2.55,17850
536365,71053,6,2010-12-01 08:26,3.39,17850
536366,22633,2,2010-12-01 08:28,1.85,
536366,22632,4,2010-12-01 08:28,1.85,
C536379,85123A,-1,2010-12-02 09:41,2.55,17850
"""


def test_a_table_of_order_lines_is_purchases_without_returns_and_an_order_is_a_visit(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(ORDERS)
    suggested = suggest_mapping([file])
    (assumed,) = suggested.assumed
    assert assumed.startswith("orders.csv: no column says what a row is: each is taken for a purchase")
    (tmp_path / "mapping.toml").write_text(suggested.toml)
    report = imported([file], tmp_path / "log", LogMapping.load(tmp_path / "mapping.toml"))
    assert (report.events, report.returned, report.num_bad) == (4, 1, 0)
    assert "left out 1 rows with a quantity of 0 or less: returns" in report.lines()
    log = open_log(tmp_path / "log")
    assert report.kinds["purchase"] == 4
    assert log.session.tolist() == [0, 0, 1, 1]
    assert log.shopper.tolist() == [0, 0, -1, -1]


def test_a_view_without_a_quantity_is_no_return(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    rows = ("view,0,1714557600", "view,0,1714557601", "purchase,2,1714557602", "purchase,-2,1714557603")
    file.write_text("action,quantity,ts,user,item\n" + "".join(f"{row},ada,A\n" for row in rows))
    (tmp_path / "mapping.toml").write_text(suggest_mapping([file]).toml)
    report = imported([file], tmp_path / "log", LogMapping.load(tmp_path / "mapping.toml"))
    assert (report.kinds["click"], report.kinds["purchase"], report.returned) == (2, 1, 1)


def test_a_table_without_kinds_or_orders_is_clicks(tmp_path: Path) -> None:
    file = tmp_path / "views.csv"
    file.write_text("user,item,ts\nada,A,1714557600\nada,B,1714557601\n")
    suggested = suggest_mapping([file])
    assert 'kind = "=click"' in suggested.toml
    assert "each is taken for a click" in suggested.assumed[0]


def test_views_with_the_order_that_some_led_to_or_a_place_in_a_list_are_no_order_lines(tmp_path: Path) -> None:
    file = tmp_path / "views.csv"
    rows = [
        f"u{n % 3},p{n % 4},{1_714_557_600 + n},{n % 5},{f'o{n // 6}' if n % 3 == 0 else ''},9.50" for n in range(30)
    ]
    file.write_text("user,item,ts,sort_order,order_id,sale_price\n" + "\n".join(rows) + "\n")
    text = suggest_mapping([file]).toml
    assert 'kind = "=click"' in text
    assert "session =" not in text


def test_a_visit_is_an_order_by_its_number_alone(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    rows = [f"{20 + n // 2},{'open' if n % 2 else 'paid'},{n % 11},p{n % 4},{1_714_557_600 + n}" for n in range(30)]
    file.write_text("orderid,order_status,order_line,item,ts\n" + "\n".join(rows) + "\n")
    text = suggest_mapping([file]).toml
    assert 'kind = "=purchase"' in text
    assert 'session = "orderid"' in text


def test_the_catalogue_tells_which_column_is_the_product(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("item_id,thing,ts,action\n1,A-1.0,1714557600,view\n2,7.0,1714557601,view\n")
    assert 'product = "item_id"' in suggest_mapping([file]).toml
    known = suggest_mapping([file], pa.array(["A-1.0", "7", "B"], pa.large_string())).toml
    assert 'product = "thing" # 100% of its 2 ids are in the catalogue' in known


def test_a_mapping_without_kinds_says_what_to_name() -> None:
    columns = {"time": "t", "product": "p"}
    with pytest.raises(
        InputError, match=r'a row needs its kind: the column of kinds, or "=purchase" where every row is an order line'
    ):
        LogMapping(sources=(SourceMapping(columns=columns),))


@pytest.mark.parametrize(
    ("cells", "time_format", "is_told"),
    [
        (("12/1/2010 8:26", "12/13/2010 17:05"), "%m/%d/%Y %H:%M", False),
        (("1/12/2010 8:26", "13/12/2010 17:05"), "%d/%m/%Y %H:%M", False),
        (("1.12.2010", "13.12.2010"), "%d.%m.%Y", False),
        (("1/12/2010", "2/12/2010"), "%m/%d/%Y", True),
    ],
)
def test_times_in_the_notation_of_a_country_are_found_by_their_days(
    tmp_path: Path, cells: tuple[str, str], time_format: str, is_told: bool
) -> None:
    file = tmp_path / "views.csv"
    file.write_text("user,item,seen,what\n" + "".join(f"ada,A,{cell},view\n" for cell in cells))
    suggested = suggest_mapping([file])
    assert f'time_format = "{time_format}"' in suggested.toml
    assert any("reads as %m/%d/%Y and as %d/%m/%Y" in one for one in suggested.assumed) == is_told
    (tmp_path / "mapping.toml").write_text(suggested.toml)
    assert imported([file], tmp_path / "log", LogMapping.load(tmp_path / "mapping.toml")).events == 2
