from itertools import islice

import pytest
import torch

from experiments.core.options import BadOption
from experiments.core.text import Names, Naming, Reading, Text, batches, passages, prose, words

TEXT = "to be or not to be, that is the question"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "text"
    path.write_text(TEXT)
    return path


def test_a_text_is_split_into_nine_tenths_and_one_and_its_tokens_spell_it(path):
    text = Reading(text=path).read()
    assert (len(text.train), len(text.validation)) == (36, 4)
    assert text.decode(text.train) + text.decode(text.validation) == TEXT
    assert text.vocabulary == "".join(sorted(set(TEXT))) and text.train.dtype == torch.int64
    assert text.decode(text.encode("not to be")) == "not to be"


def test_the_default_is_prose_that_needs_no_file():
    text = Reading().read()
    assert len(text.train) + len(text.validation) == len(prose()) > 400_000
    assert {*"the quick brown fox"} < {*text.vocabulary}


@pytest.mark.parametrize(
    "window", [lambda t: next(batches(t, 5, 7, torch.Generator().manual_seed(1))), lambda t: passages(t, 5)]
)
def test_every_window_is_of_the_text_and_its_targets_one_character_further_on(window):
    tokens = torch.arange(100, 136)
    x, y = window(tokens)
    assert x.shape == y.shape == (7, 5)
    assert torch.equal(y, x + 1) and torch.equal(x, x[:, :1] + torch.arange(5)) and x.min() >= 100 and y.max() <= 135


def test_windows_are_drawn_from_everywhere_and_by_the_generator_alone():
    tokens = torch.arange(9)

    def drawn():
        return torch.cat([x for x, _ in islice(batches(tokens, 4, 8, torch.Generator().manual_seed(0)), 20)])

    assert {*drawn()[:, 0].tolist()} == {0, 1, 2, 3, 4}
    assert torch.equal(drawn(), drawn())


@pytest.mark.parametrize(("count", "starts"), [(13, [0, 4, 8]), (12, [0, 4]), (5, [0])])
def test_passages_are_as_many_as_have_a_character_after_them(count, starts):
    assert passages(torch.arange(count), 4)[0][:, 0].tolist() == starts


def test_contexts_begin_before_the_name_and_end_with_its_end():
    names = Names("\nabc", ["ab", "c"])
    x, y = names.contexts(names.every, 2)
    assert x.tolist() == [[0, 0], [0, 1], [1, 2], [0, 0], [0, 3]] and y.tolist() == [1, 2, 0, 3, 0]


def test_the_parts_of_names_are_all_of_them_and_always_the_same(tmp_path):
    path = tmp_path / "names"
    path.write_text("\n".join(f" {chr(97 + i)}x \n" for i in range(20)))
    names = Naming(names=path).read()
    assert names.every[:2] == ["ax", "bx"] and names.vocabulary == "\n" + "abcdefghijklmnopqrstx"
    assert [len(part) for part in names.parts()] == [16, 2, 2]
    assert sorted(sum(names.parts(), [])) == names.every and names.parts() == names.parts()


def test_the_default_names_are_words_of_the_alphabet():
    names = Naming().read()
    assert names.every == words() and names.vocabulary == "\nabcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("options", "content", "message"),
    [
        (Reading, b"short", "text: got 5 characters, needs at least 10"),
        (Reading, b"\xff" * 20, "text: got .*, needs a text in UTF-8"),
        (Naming, b"a\n\n b\n", "names: got 2, needs at least 10"),
        (Naming, b"\xff" * 20, "names: got .*, needs a text in UTF-8"),
    ],
)
def test_a_file_that_is_no_text_or_too_short_is_refused(tmp_path, options, content, message):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(BadOption, match=message):
        options(**{"text" if options is Reading else "names": path}).read()


@pytest.mark.parametrize("windows", [lambda t: next(batches(t, 4, 1, torch.Generator())), lambda t: passages(t, 4)])
def test_a_part_that_is_no_longer_than_a_window_is_refused(windows):
    text = Text("ab", torch.zeros(4, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(BadOption, match="text: got a part of 4 characters, needs more than 4"):
        windows(text.train)
