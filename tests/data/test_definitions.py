"""Dictionary lines from a tiny WordNet archive."""

import io
import tarfile

from octavo.data.definitions import LINES, definitions


def archive(path, nouns):
    lines = [f"{i:08d} 05 n 01 {word} 0 000 | {gloss}" for i, (word, gloss) in enumerate(nouns)]
    with tarfile.open(path, "w:gz") as tar:
        for short in ("noun", "verb", "adj", "adv"):
            data = "\n".join(["  1 licence", *(lines if short in {"noun", "adv"} else [])]).encode()
            info = tarfile.TarInfo(f"package/dict/data.{short}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_each_meaning_gives_one_line_in_a_fixed_order(tmp_path):
    words = [(f"w{i:02d}x", f'a small box that holds the number {i:02d}; also more; "in use {i}"') for i in range(30)]
    path = archive(tmp_path / "a.tgz", [*words, ("hot", "too short"), ("long", "x" * 200)])
    rows = list(definitions(path))
    assert rows == list(definitions(path))
    assert [row["text"].count("\n") + 1 for row in rows] == [LINES, LINES, 6]
    text = "\n".join(row["text"] for row in rows)
    assert all(text.count(word) == 1 and f"number {word[1:3]}" in text for word, _ in words)
    assert "more" not in text
    assert "in use" not in text
    assert "too short" not in text
    assert text.index("w00x") > text.index("w29x") or text.index("w01x") > text.index("w02x")
    assert "Answer:" in text
    assert " means: " in text
