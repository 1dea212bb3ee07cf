"""Readers of archives, on archives made here."""

import gzip
import io
import json
import shutil
import subprocess
import tarfile
import zipfile

import pytest

from octavo.data.extract import books, dictionary, factbook, manual, without_furniture, wordnet


@pytest.fixture
def deb(tmp_path):
    """Builds a Debian package from `{path: bytes}`."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")

    def make(files):
        root = tmp_path / "root"
        (root / "DEBIAN").mkdir(parents=True)
        (root / "DEBIAN" / "control").write_text(
            "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: tiny\n"
        )
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        subprocess.run(["dpkg-deb", "-b", str(root), str(tmp_path / "t.deb")], check=True, capture_output=True)
        return tmp_path / "t.deb"

    return make


def test_manual_reads_the_pages_asked_for(deb):
    body = "<h1>Page</h1><p>" + "words of the page " * 40 + "</p>"
    archive = deb({
        "doc/a.html": f"<p>Menu</p>{body}".encode(),
        "doc/genindex.html": body.encode(),
        "doc/short.html": b"<p>short</p>",
        "doc/b.txt": ("Title\n=====\n\n" + "more words " * 60).encode(),
    })  # fmt: skip
    rows = list(manual("doc", "*.html")(archive))
    assert [row["id"] for row in rows] == ["a.html"]
    assert rows[0]["text"].startswith("# Page\n\nwords of the page")
    assert [row["text"][:7] for row in manual("doc", "*.txt")(archive)] == ["# Title"]


def test_furniture_of_many_pages_is_dropped():
    own = [f"# Page {i}\n\n" + f"only page {i} says this " * 30 for i in range(12)]
    pages = [{"id": str(i), "text": f"Top\n\n{text}\n\nFooter\n\nPrev Up Next"} for i, text in enumerate(own)]
    assert [row["text"] for row in without_furniture(pages)] == own


def test_dictionary_joins_twenty_entries(deb):
    entries = "\n\n".join(f"ENTRY{i}, n.  Meaning number {i}." for i in range(25))
    packed = gzip.compress(f"00-database-info\nabout\n\n{entries}\n".encode())
    rows = list(dictionary("tiny")(deb({"usr/share/dictd/tiny.dict.dz": packed})))
    assert [row["id"] for row in rows] == ["tiny:0", "tiny:20"]
    assert rows[1]["text"].startswith("ENTRY20, n.")


def test_wordnet_glosses(tmp_path):
    lines = (
        "  1 licence text\n"
        '00001740 29 n 02 dog 0 domestic_dog(p) 0 001 @ 00002 n 0000 | a tame animal; "the dog barked"; "a dog"\n'
        "00001930 29 n 01 cat 0 000 | a small animal\n"
    )
    with tarfile.open(tmp_path / "w.tgz", "w:gz") as tar:
        for part in ("noun", "verb", "adj", "adv"):
            content = lines.encode() if part == "noun" else b""
            info = tarfile.TarInfo(f"package/dict/data.{part}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    rows = list(wordnet(tmp_path / "w.tgz"))
    assert [row["text"] for row in rows] == [
        "dog (noun): a tame animal. Also: domestic dog. Example: the dog barked.\n\ncat (noun): a small animal."
    ]


def test_factbook_profiles(tmp_path):
    name = {"Country name": {"conventional short form": {"text": "Freedonia"}}}
    data = {"Government": name, "People": {"Population": {"text": "<b>12</b> &amp; more", "note": "x"}}, "Empty": {}}
    with zipfile.ZipFile(tmp_path / "f.whl", "w") as wheel:
        wheel.writestr("pkg/data/fr.json", json.dumps(data))
        wheel.writestr("pkg/other.json", "{}")
    (row,) = factbook(tmp_path / "f.whl")
    assert row["id"] == "fr"
    assert row["text"].startswith("# Freedonia\n\n## Government\n\nconventional short form: Freedonia")
    assert row["text"].endswith("## People\n\nPopulation: 12 & more")


def test_books_keep_headings(tmp_path):
    path = tmp_path / "b.jsonl"
    path.write_text(
        json.dumps({"author": "A", "title": "T", "year": 1900, "text": "## CHAPTER I\n\nIt began.\n"}) + "\n"
    )
    assert list(books(path)) == [{"id": "A/T", "text": "# T\n\nby A\n\n## CHAPTER I\n\nIt began."}]
