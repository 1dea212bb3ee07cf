"""Loading, encoding without and with control tokens, offsets, decoding, long texts."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from octavo.config.errors import TextError
from octavo.text.special import Special
from octavo.text.tokenizer import Tokenizer
from tests.support.tiny_tokenizer import tiny_tokenizer

TEXTS = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("the keeper \n,.é日🙂\u0301")), max_size=60)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tokenizer(file: Path) -> Tokenizer:
    return Tokenizer.load(file)


def altered(file: Path, tmp_path: Path, **fields: object) -> Path:
    document = json.loads(file.read_text()) | fields
    target = tmp_path / "tokenizer.json"
    target.write_text(json.dumps(document))
    return target


def test_folder_and_file_load_the_same(file: Path, tokenizer: Tokenizer) -> None:
    other = Tokenizer.load(file.parent)
    assert other.fingerprint == tokenizer.fingerprint
    assert other.encode("The keeper") == tokenizer.encode("The keeper")


@given(text=TEXTS)
def test_decode_gives_the_text_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=TEXTS)
def test_encode_equals_the_library_where_no_control_token_is_spelled(
    tokenizer: Tokenizer, file: Path, text: str
) -> None:
    assume(not any(spelling in text for spelling in Special))
    assert tokenizer.encode(text) == Library.from_file(str(file)).encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("spelling", list(Special))
def test_spellings_in_user_text_are_ordinary_text(tokenizer: Tokenizer, spelling: str) -> None:
    text = f"say {spelling} and{spelling}{spelling}"
    ids = tokenizer.encode(text)
    assert min(ids) >= 16
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode_with_offsets(text)[0] == ids


def test_encode_special_parses_them(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_special("<｜User｜>Who?<｜Assistant｜></think>")
    assert ids == [3, *tokenizer.encode("Who?"), 4, 6]
    assert tokenizer.decode(ids) == "<｜User｜>Who?<｜Assistant｜></think>"


@given(text=TEXTS)
def test_offsets_are_the_character_of_each_first_byte(tokenizer: Tokenizer, text: str) -> None:
    ids, starts = tokenizer.encode_with_offsets(text)
    character_of_byte = [index for index, character in enumerate(text) for _ in character.encode()]
    byte = 0
    for token, start in zip(ids, starts, strict=True):
        assert start == character_of_byte[byte]
        byte += len(tokenizer.token_bytes(token))
    assert byte == len(character_of_byte)


def test_offsets_ignore_a_trimming_post_processor(file: Path, tmp_path: Path) -> None:
    trimming = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    tokenizer = Tokenizer.load(altered(file, tmp_path, post_processor=trimming))
    ids, starts = tokenizer.encode_with_offsets("a the")
    assert tokenizer.token_bytes(ids[1])[:1] == b" "
    assert starts[1] == 1


def test_long_text_in_pieces_equals_one_shot(file: Path, tokenizer: Tokenizer) -> None:
    rng = random.Random(0)
    words = [
        "The",
        "keeper",
        "counted",
        "199",
        "stairs,",
        "and",
        "héron",
        "日本語。",
        "🙂",
        "\n",
        "\n\n",
        "  ",
        "x=1;",
        "—",
    ]
    text = " ".join(rng.choices(words, k=120_000))
    ids, starts = tokenizer.encode_with_offsets(text)
    whole = Library.from_file(str(file)).encode(text, add_special_tokens=False)
    assert len(text) > 9 * (1 << 15)  # more than one batch of pieces
    assert tokenizer.encode(text) == ids == whole.ids
    assert starts == [start for start, _ in whole.offsets]


def test_text_changing_normaliser_is_obeyed_in_one_shot(file: Path, tmp_path: Path) -> None:
    path = altered(file, tmp_path, normalizer={"type": "Lowercase"})
    text = "The Keeper\n" * 20_000
    assert Tokenizer.load(path).encode(text) == Library.from_file(str(path)).encode(text).ids
    assert Tokenizer.load(path).encode("THE") == Tokenizer.load(file).encode("the")


def test_settings_of_the_file_that_cut_or_pad_are_not_applied(file: Path, tmp_path: Path) -> None:
    cutting = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    tokenizer = Tokenizer.load(altered(file, tmp_path, truncation=cutting))
    assert tokenizer.decode(tokenizer.encode("counted the stairs")) == "counted the stairs"
    assert tokenizer.decode(tokenizer.encode_special("counted the stairs")) == "counted the stairs"


def test_empty_text_has_no_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == []
    assert tokenizer.encode_with_offsets("") == ([], [])
    assert tokenizer.decode([]) == ""


@given(ids=st.lists(st.integers(min_value=0, max_value=383), max_size=12))
def test_any_ids_decode_as_the_library_decodes_them(tokenizer: Tokenizer, file: Path, ids: list[int]) -> None:
    assert tokenizer.decode(ids) == Library.from_file(str(file)).decode(ids, skip_special_tokens=False)


def test_special_by_spelling_and_by_name(tokenizer: Tokenizer) -> None:
    assert tokenizer.special("<｜User｜>") == tokenizer.special("user") == tokenizer.special(Special.USER) == 3
    with pytest.raises(TextError, match="no control token '<｜nobody｜>'"):
        tokenizer.special("<｜nobody｜>")


def test_vocab_size_counts_rows_of_the_embedding(file: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == 384
    added = json.loads(file.read_text())["added_tokens"]
    added.append(added[-1] | {"id": 384, "content": "<extra>", "normalized": True, "special": False})
    more = Tokenizer.load(altered(file, tmp_path, added_tokens=added))
    assert more.vocab_size == 385
    assert more.decode([384]) == more.piece(384) == "<extra>"
    assert 384 not in more.encode("an <extra> word")
    assert 384 in more.encode_special("an <extra> word")


def test_fingerprint_is_of_the_content_not_of_the_layout(file: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    assert Tokenizer.load(altered(file, tmp_path)).fingerprint == tokenizer.fingerprint
    assert len(tokenizer.fingerprint) == 64
    other = Tokenizer.load(altered(file, tmp_path, normalizer={"type": "NFC"}))
    assert other.fingerprint != tokenizer.fingerprint


@pytest.mark.parametrize("bad", [-1, 384, 10**9])
def test_id_out_of_range_is_named(tokenizer: Tokenizer, bad: int) -> None:
    for call in (lambda: tokenizer.decode([5, bad]), lambda: tokenizer.token_bytes(bad), lambda: tokenizer.piece(bad)):
        with pytest.raises(TextError, match=f"{bad} .*384"):
            call()


def test_lone_surrogate_is_refused_everywhere(tokenizer: Tokenizer) -> None:
    for call in (tokenizer.encode, tokenizer.encode_with_offsets, tokenizer.encode_special):
        with pytest.raises(TextError, match=r"lone surrogate U\+DC80"):
            call("ab\udc80")


def test_unusable_files_are_named(file: Path, tmp_path: Path) -> None:
    with pytest.raises(TextError, match="nowhere"):
        Tokenizer.load(tmp_path / "nowhere")
    broken = tmp_path / "broken.json"
    broken.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(TextError, match=r"broken\.json: tokenizer\.json cannot be read"):
        Tokenizer.load(broken)
    with pytest.raises(TextError, match="byte-level BPE is needed"):
        Tokenizer.load(altered(file, tmp_path, decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}))


@settings(max_examples=30)
@given(cut=st.integers(min_value=0, max_value=255))
def test_every_byte_has_a_token(tokenizer: Tokenizer, cut: int) -> None:
    assert bytes([cut]) in {tokenizer.token_bytes(token) for token in range(16, 384)}
