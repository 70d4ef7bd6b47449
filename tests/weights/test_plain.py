"""Objects as the plain data that describes them."""

from zoo.quantum import KmerTokenizer
from zoo.weights.plain import as_plain


def test_objects_that_describe_themselves_are_plain_at_any_depth():
    tokenizer = KmerTokenizer(2, alphabet="ACGT")
    plain = tokenizer.to_dict()
    given = {"tokenizer": tokenizer, "deep": [{"a": (tokenizer, 1)}], "class": KmerTokenizer, "name": "x"}
    assert as_plain(given) == {"tokenizer": plain, "deep": [{"a": [plain, 1]}], "class": KmerTokenizer, "name": "x"}
    assert given["tokenizer"] is tokenizer
