"""The plays of the installed package, and of a folder made here."""

import pytest

from octavo.config.errors import UsageError
from octavo.data.shakespeare import READING_ORDER, complete_text, plain_layout, plays


def test_the_package_holds_38_plays_in_reading_order():
    found = plays()
    assert len(found) == 38
    assert len({play.slug for play in found}) == 38
    assert [play.slug for play in found] == list(READING_ORDER)
    assert {play.title for play in found} >= {"Hamlet", "Macbeth", "The Tempest", "Measure for Measure"}
    assert all(play.text.startswith(f"# {play.title}\n") for play in found)


def test_the_complete_text_is_about_five_million_bytes_with_speakers_on_lines_of_their_own():
    text = complete_text()
    assert 4_900_000 < len(text.encode()) < 5_100_000
    assert "FRANCISCO:\nNay, answer me: stand, and unfold yourself.\n" in text
    assert "**" not in text


def test_layout():
    assert plain_layout("**A LORD**  \nGo.  \nNow.\n\n_Exit_\n") == "A LORD:\nGo.\nNow.\n\n_Exit_\n"


def test_a_folder_with_a_play_missing_is_refused(tmp_path):
    for slug in READING_ORDER[1:]:
        (tmp_path / f"{slug}.md").write_text(f"# {slug}\n\nText.\n")
    with pytest.raises(UsageError, match=READING_ORDER[0]):
        plays(tmp_path)
    (tmp_path / f"{READING_ORDER[0]}.md").write_text("## ACT I\n\nText.\n")
    assert plays(tmp_path)[0].title == "The Tempest"
