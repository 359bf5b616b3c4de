"""HTML that somebody else has written, made fit for Python's parser.

HTMLParser looks for the end of an open comment, tag or marked section again at each of them, and so do parsers that are built
on it: a page of nothing else would take it hours.
"""

import re

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
#: what begins like a tag and has no end; an attribute in quotes may hold `<` and `>`, as `data-requires-python` of some indexes
_UNCLOSED = re.compile(r"""<(?:(?=!\[)|(?![^<>]{0,8192}>|(?:[^<>"']{1,2048}+|"[^"]{0,2048}"|'[^']{0,2048}'){0,64}+>))""")


def parseable(text: str) -> str:
    """A page that HTMLParser reads in a time that grows with its length: without comments, and with `&lt;` for what begins a
    marked section, or a tag that does not end.
    """
    return _UNCLOSED.sub("&lt;", _COMMENT.sub("", text))
