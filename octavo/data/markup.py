"""Markup to Markdown-like plain text: HTML manuals and reStructuredText sources. Headings become `#` lines.

Does not cover: tables as grids, images, mathematics, or any other markup language.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_BREAKING = {*_HEADINGS, "p", "li", "pre", "dt", "dd", "tr", "blockquote", "div", "table", "ul", "ol", "section"}
_IGNORED = {"script", "style", "nav", "head", "header", "footer", "svg", "button", "form", "aside"}


class _HtmlReader(HTMLParser):
    """Collects paragraphs; code blocks keep their lines and are indented by four spaces."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.paragraphs: list[str] = []
        self._pieces: list[str] = []
        self._ignored = 0
        self._mark = ""
        self._code = False

    def close_paragraph(self) -> None:
        raw = "".join(self._pieces).replace("¶", "")
        self._pieces = []
        if self._code:
            text = "\n".join("    " + line for line in raw.strip("\n").splitlines())
        else:
            text = " ".join(raw.split())
        if self._mark.startswith("#"):
            text = text.rstrip("# ")
        if text.strip():
            self.paragraphs.append(f"{self._mark} {text}" if self._mark else text)
        self._mark = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _IGNORED:
            self._ignored += 1
        elif tag in _BREAKING:
            self.close_paragraph()
            self._mark = _HEADINGS.get(tag, "- " if tag == "li" else "").strip()
            self._code = tag == "pre" or (self._code and tag not in _HEADINGS)
        elif tag in {"br", "td", "th"}:
            self._pieces.append("\n" if tag == "br" else " ")

    def handle_endtag(self, tag: str) -> None:
        if tag in _IGNORED:
            self._ignored = max(0, self._ignored - 1)
        elif tag in _BREAKING:
            self.close_paragraph()
            self._code = self._code and tag != "pre"

    def handle_data(self, data: str) -> None:
        if not self._ignored:
            self._pieces.append(data)


def html_to_text(source: str) -> str:
    """Readable text of an HTML page: paragraphs parted by blank lines, headings as `#` lines, no navigation."""
    reader = _HtmlReader()
    reader.feed(source)
    reader.close()
    reader.close_paragraph()
    return "\n\n".join(reader.paragraphs)


_ROLE = re.compile(r":[\w:+-]+:`[~!]?([^`<]+?)\s*(?:<[^`>]*>)?`")
_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]+>`_{1,2}")
_UNDERLINE = re.compile(r"([=\-~^\"'*+#.:`])\1{2,}\s*$")
_DIRECTIVE = re.compile(r"(\s*)\.\. (?:(?P<name>[\w:-]+)::(?P<rest>.*)|.*)$")
_SHOWN = {
    "note", "warning", "tip", "seealso", "versionadded", "versionchanged", "deprecated", "rubric", "function", "class",
    "method", "attribute", "data", "exception", "module", "describe", "option", "setting", "opcode",
}  # fmt: skip


def _directive_text(name: str, rest: str) -> str | None:
    """The line that stands for a directive, or None when it and its body are dropped."""
    if name in {"code-block", "sourcecode", "code", "productionlist", "doctest", "testcode"}:
        return ""
    if name.split(":")[-1] in _SHOWN:
        return f"{name.split(':')[-1].capitalize()}: {rest.strip()}".rstrip(": ")
    return None


def _blocks(source: str) -> list[str]:
    """Lines without comments and without the directives that show nothing."""
    lines: list[str] = []
    dropping = -1
    for line in source.expandtabs(4).splitlines():
        indent = len(line) - len(line.lstrip())
        if dropping >= 0 and (not line.strip() or indent > dropping):
            continue
        dropping = -1
        found = _DIRECTIVE.match(line)
        if found is None:
            if not re.match(r"\s*:[\w-]+:(\s.{0,60})?$", line):
                lines.append(line)
            continue
        shown = _directive_text(found["name"], found["rest"]) if found["name"] else None
        if shown is None:
            dropping = indent
        else:
            lines.append(" " * indent + shown)
    return lines


def rst_to_text(source: str) -> str:
    """Readable text of a reStructuredText page: `#` headings by first use of each underline, roles unwrapped."""
    lines = _blocks(source)
    levels: list[str] = []
    out: list[str] = []
    for line in lines:
        found = _UNDERLINE.match(line)
        if found and out and out[-1].strip() and not out[-1].startswith((" ", "#")):
            levels += [found[1]] if found[1] not in levels else []
            out[-1] = "#" * (levels.index(found[1]) + 1) + " " + out[-1].strip()
        elif not found:
            out.append(line.rstrip())
    text = _LINK.sub(r"\1", _ROLE.sub(r"\1", "\n".join(out))).replace("``", "`")
    text = re.sub(r"::$", ":", text.replace("\\ ", ""), flags=re.M)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
