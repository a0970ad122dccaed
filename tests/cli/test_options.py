"""`--cfg-options`: a value is what was typed, or an error says how to type it."""
from __future__ import annotations

import argparse

import pytest

from perception.cli.options import add_config_options, option_value


@pytest.mark.parametrize(('text', 'value'), [
    ('5', 5), ('1e-3', 1e-3), ('-3', -3), ('true', True), ('False', False), ('None', None), ('', ''),
    ('a b', 'a b'), ('data/my world/a  b ', 'data/my world/a  b '), ("'a, b'", 'a, b'), ("'5'", '5'),
    ('data/a(1)b)', 'data/a(1)b)'), ("it's", "it's"),
    ('[1,2]', [1, 2]), ('[1, 2.5]', [1, 2.5]), ('(1,2)', (1, 2)), ('(1,)', (1,)), ('[]', []),
    ('[(1,2), [a, b c], None]', [(1, 2), ['a', 'b c'], None]), ("['a,b', it's, \"]\"]", ['a,b', "it's", ']']),
    ("{'camera': 0.5}", {'camera': 0.5}), ("[{'a': [1, 2]}, 2]", [{'a': [1, 2]}, 2])])
def test_a_value_is_what_was_typed(text, value) -> None:
    found = option_value(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(('text', 'message'), [
    ('data/a,b', r'found a comma in data/a,b; expected \[data/a,b\] for a list, "\'data/a,b\'" for a text'),
    ('1,2', 'for a list'), ('a(1,2)', 'for a text'), ('[1,2', 'that close'), ('(1,2]', 'that close'),
    ('[1] b', 'that close'), ("['a, b]", 'that close'), ('[a,,b]', 'empty element'), ('{a}', 'dictionary')])
def test_a_value_of_two_meanings_is_refused(text, message) -> None:
    with pytest.raises(ValueError, match=message):
        option_value(text)


def test_the_words_of_a_command_line(capsys) -> None:
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    words = ['--cfg-options', 'a.root=data/my world', 'b=[1, 2]', '--cfg-options', 'c=x=y']
    assert parser.parse_args(words).cfg_options == {'a.root': 'data/my world', 'b': [1, 2], 'c': 'x=y'}
    assert parser.parse_args([]).cfg_options is None

    for word, message in (('a', "expected KEY=VALUE, found 'a'"), ('=1', 'expected KEY=VALUE'),
                          ('a.root=b,c', '--cfg-options a.root: found a comma')):
        with pytest.raises(SystemExit, match='2'):
            parser.parse_args(['--cfg-options', word])
        assert message in capsys.readouterr().err
