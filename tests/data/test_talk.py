"""Readers of exchanges on tiny archives."""

import json
import sqlite3
import zipfile

from octavo.data.talk import EXCHANGES, dialogues, elements, small_talk, word_problems


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_word_problems_lose_their_calculator_marks(tmp_path):
    row = {"question": "How many are 2 and 3?", "answer": "It is 2+3=<<2+3=5>>5.\n#### 5"}
    (document,) = word_problems(lines(tmp_path / "a.jsonl", [row]))
    text = "Question: How many are 2 and 3?\nAnswer: It is 2+3=5.\nThe answer is 5."
    assert document == {"id": "gsm8k:0", "text": text}


def test_dialogues_are_paragraphs_eight_to_a_document(tmp_path):
    rows = [{"turns": [{"role": "user", "text": f"tea {i} "}, {"role": "assistant", "text": "yes"}]} for i in range(9)]
    first, second = dialogues(lines(tmp_path / "a.jsonl", rows))
    assert first["text"].count("\n\n") == EXCHANGES - 1
    assert second == {"id": "taskmaster:8", "text": "User: tea 8\nAssistant: yes"}


def test_small_talk_takes_english_files_but_opinions(tmp_path):
    text = "categories:\n- x\nconversations:\n- - Hello\n  - 'Hi, and\n    welcome'\n- - alone\n- - Bye\n  - So long\n"
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        for name in ("english/food.yml", "english/politics.yml", "french/food.yml"):
            wheel.writestr(f"chatterbot_corpus/data/{name}", text.replace("Hello", name))
    (document,) = small_talk(tmp_path / "a.whl")
    assert document["text"] == "User: english/food.yml\nAssistant: Hi, and welcome\n\nUser: Bye\nAssistant: So long"


def test_elements(tmp_path):
    database = sqlite3.connect(tmp_path / "elements.db")
    columns = "name, symbol, atomic_number, description, name_origin, sources, uses"
    database.execute(f"create table elements ({columns})")
    database.execute("insert into elements values ('Tin', 'Sn', 50, 'A  soft metal.', 'Old English', null, 'Cans')")
    database.commit()
    database.close()
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.write(tmp_path / "elements.db", "mendeleev/elements.db")
    (document,) = elements(tmp_path / "a.whl")
    assert document["text"] == "Tin (Sn), element 50. A soft metal.\nName: Old English\nUses: Cans"
