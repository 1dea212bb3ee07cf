"""Near copies and held-out code."""

import hashlib

from octavo.data.code_filter import CodeFilter, is_held_out, read_packages
from octavo.data.heldout import ParagraphFilter
from octavo.data.javascript import Package
from tests.data.test_javascript import package


def code(name, count=20):
    return "".join(f"  const {name}_{i} = make('{name}', {i}, options);\n" for i in range(count))


def test_a_near_copy_is_dropped_and_counted_and_a_related_file_stays():
    words = ParagraphFilter()
    keep = CodeFilter(words=words)
    assert keep.keeps(code("first"))
    assert keep.keeps(code("first", 8) + code("second"))
    copy = code("first").replace("  const", "const") + "\n\nlet x;\n"
    assert not keep.keeps(copy)
    assert words.counts.duplicate == len(copy)


def test_five_telling_lines_of_held_out_code_drop_a_file_and_everyday_lines_do_not():
    keep = CodeFilter(words=ParagraphFilter())
    everyday = "return;\n" * 6
    keep.hold_out(code("secret") + everyday)
    assert keep.keeps(code("open") + everyday)
    assert keep.keeps(code("own") + code("secret", 4))
    assert not keep.keeps(code("other") + code("secret", 5))
    assert keep.words.counts.held_out > 0


def test_thirteen_words_of_a_held_out_text_drop_a_file():
    sentence = "one two three four five six seven eight nine ten eleven twelve thirteen"
    keep = CodeFilter(words=ParagraphFilter.from_texts([sentence]))
    assert not keep.keeps(f"{code('a')}// {sentence}\n")
    assert keep.keeps(f"{code('a')}// {sentence.removesuffix(' thirteen')}\n")


def names(count):
    chosen = {True: "", False: ""}
    for i in range(count):
        chosen[hashlib.sha256(f"p{i}".encode()).digest()[0] < 8] = f"p{i}"
    return chosen


def test_packages_are_held_out_whole_by_the_hash_of_their_name(tmp_path):
    chosen = names(200)
    readme = {"README.md": "How to use this. " * 60}
    archives = [
        package(tmp_path / "a.tgz", {"src/a.js": code("a"), "src/copy.js": code("kept") + code("a", 6)} | readme,
                name=chosen[False]),
        package(tmp_path / "b.tgz", {"src/a.js": code("a", 12)} | readme, name=chosen[True]),
        package(tmp_path / "c.tgz", {"src/c.js": code("c")}, name="other", license="GPL-3.0"),
    ]  # fmt: skip
    found = read_packages(archives, ParagraphFilter())
    assert [row["id"] for row in found.held_out] == [f"{chosen[True]}/src/a.js"]
    assert found.trained == ()
    assert [row["id"] for row in found.readmes] == [f"{chosen[False]}/readme"]
    assert [(e.files, e.held_out, e.licence) for e in found.packages] == [
        (0, False, "MIT"), (1, True, "MIT"), (0, False, "GPL-3.0"),
    ]  # fmt: skip
    files = ({"id": "a", "text": "x" * 800_000},)
    assert not is_held_out(Package(name=chosen[True], version="1", licence="MIT", files=files, readme=None))
