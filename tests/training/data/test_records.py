"""Reading records and naming where they stand."""

import json

import pytest

from training.data.records import BrokenRecord, read_records


def test_list_items_know_their_lines(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[\n  {"a": 1},\n  {\n    "b": "x\\ny"\n  }, {"c": [1, 2]},\n\n  7\n]\n')
    *records, broken = read_records(path)
    assert [(record.source, record.fields) for record in records] == [
        (f"{path}:2", {"a": 1}),
        (f"{path}:3", {"b": "x\ny"}),
        (f"{path}:5", {"c": [1, 2]}),
    ]
    assert isinstance(broken, BrokenRecord)
    assert str(broken) == f"{path}:7: the record is a int, but must be a JSON object. Correct it."


@pytest.mark.parametrize("indent", [None, 2])
def test_lists_agree_with_the_json_module(tmp_path, indent):
    content = [{"n": n, "text": 'quote " and é, ]['} for n in range(50)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content, indent=indent))
    assert [record.fields for record in read_records(path)] == content


def test_empty_list(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[ ]")
    assert list(read_records(path)) == []


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('[\n{"a": 1},\n{"b" 2}\n]', 3, "Expecting ':' delimiter"),
        ('[{"a": 1}\n{"b": 2}]', 2, "found '{', but a list of records needs ','"),
        ('{"a": 1}', 1, "needs '['"),
        ('[{"a": 1},\n\n', 3, "Expecting value"),
        ('[{"a": 1}', 1, "found '', but"),
    ],
)
def test_broken_lists_are_refused_with_their_line(tmp_path, text, line, says):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(BrokenRecord) as error:
        list(read_records(path))
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert says in str(error.value)


def test_text_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'[\n{"a": "\xff"}]')
    with pytest.raises(BrokenRecord, match=r"a\.json:2: this line is not UTF-8"):
        list(read_records(path))
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": "\xff"}\n{"a": 2}\n')
    records = list(read_records(path))
    assert [isinstance(record, BrokenRecord) for record in records] == [False, True, False]
    assert "a.jsonl:2: byte 8 is not UTF-8" in str(records[1])


def test_a_broken_line_leaves_the_others(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n{"a": 2}\n')
    first, broken, last = read_records(path)
    assert (first.source, last.source) == (f"{path}:1", f"{path}:4")
    assert str(broken).startswith(f"{path}:3: Expecting value")


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ends in '.parquet', but must end in .json or .jsonl"):
        read_records(tmp_path / "a.parquet")
