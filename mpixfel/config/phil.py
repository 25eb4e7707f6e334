"""A small reader of PHIL, the parameter language of cctbx: scopes, definitions and includes, with line numbers.

freephil on PyPI has not changed since 2020, passes values to `eval`, and keeps no line numbers for messages. Here
nothing is evaluated: a file is read to definitions, and what they mean is judged by `phil_names`.
"""
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mpixfel.config.paths import fill_in, relative_to
from mpixfel.errors import MpixfelError

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")
_TOKEN = re.compile(r"""
    (?P<newline>\n) | (?P<blank>[^\S\n]+|\\[^\S\n]*\n) | (?P<comment>\#[^\n]*)
  | (?P<quoted>\"{3}.*?\"{3} | '{3}.*?'{3} | "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*')
  | (?P<open>["']) | (?P<sign>[{};=]) | (?P<word>[^\s{};=\#"']+)
""", re.VERBOSE | re.DOTALL)
DEEPEST_INCLUDE = 20


class Token(NamedTuple):
    """`kind` is newline, quoted, sign or word."""

    kind: str
    text: str
    line: int


@dataclass(frozen=True)
class Definition:
    """One `name = words`. `block` numbers its outermost scope, so that repeated scopes can be told apart."""

    name: str
    words: tuple
    where: str
    block: int = 0

    @property
    def text(self):
        """The words as one text, quoted where they hold blanks; of a choice (`LSQ *ML`) the chosen ones."""
        chosen = [w[1:] for w in self.words if w.startswith("*") and len(w) > 1]
        return " ".join(f'"{w}"' if re.search(r"[\s,]", w) and len(self.words) == 1 and not _LIST.match(w) else w
                        for w in chosen or self.words)


_LIST = re.compile(r"[-+.\deE,\s]+$")


def read_phil(path, environment=os.environ):
    """Read a PHIL file and what it includes.

    Parameters
    ----------
    path : str
        The file; where it is missing, `path.params` and `path.phil` are tried, as the old program did.

    Returns
    -------
    (definitions, texts)
        tuple of `Definition` in the order of reading, and {path: text} of all files read.
    """
    texts = {}
    found = next((p for p in (path, path + ".params", path + ".phil") if os.path.isfile(p)), path)
    return tuple(_read(found, "", environment, texts, ())), texts


def parse_phil(text, name="phil"):
    """The definitions of a text that includes nothing."""
    return tuple(_Parser(text, name, lambda path, where: _no_include(path, where)).definitions())


def _no_include(path, where):
    raise MpixfelError(f"include file {path} in a text", where, "write its lines here")


def _read(path, where, environment, texts, inside):
    real = os.path.realpath(path)
    if real in inside or len(inside) > DEEPEST_INCLUDE:
        raise MpixfelError(f"{path} includes itself", where, "take the include away")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as e:
        raise MpixfelError(f"PHIL file {path} cannot be read: {e.strerror}", where or path, "check the path") from None
    except UnicodeDecodeError:
        raise MpixfelError(f"PHIL file {path} is not a text file", where or path, "check the path") from None
    texts[path] = text

    def include(name, place):
        plain = name.replace("{", "{{").replace("}", "}}")    # braces are PHIL's here: only variables are filled in
        target = relative_to(os.path.dirname(path), fill_in(plain, {}, environment))
        return _read(target, place, environment, texts, (*inside, real))

    return _Parser(text, path, include).definitions()


def _switched_on(text):
    """The text with what stands between `#phil __OFF__` and `#phil __ON__`, or after `#phil __END__`, made blank."""
    lines, on = [], True
    for line in text.split("\n"):
        words = line.split()
        if words[:1] == ["#phil"] and words[1:2] == ["__END__"]:
            break
        if words[:1] == ["#phil"]:
            on = words[1:2] != ["__OFF__"]
        lines.append(line if on else "")
    return "\n".join(lines)


class _Parser:
    """Recursive descent over the tokens of one file."""

    def __init__(self, text, name, include):
        self.name, self.include = name, include
        self.tokens, self.at, self.block = list(self._tokens(_switched_on(text))), 0, 0

    def definitions(self):
        return list(self._objects((), None, True))

    def _tokens(self, text):
        line, at = 1, 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            kind, piece = (match.lastgroup, match[0]) if match else ("word", text[at])
            if kind == "open":
                self._refuse(line, f"the quote {piece} is not closed", "close it")
            if kind == "quoted":
                width = 3 if piece[:3] in ('"""', "'''") and len(piece) >= 6 else 1
                body = piece[width:-width]
                yield Token(kind, body if width == 3 else re.sub(r"\\(.)", r"\1", body, flags=re.DOTALL), line)
            elif kind not in ("blank", "comment"):
                yield Token(kind, piece, line)
            line += piece.count("\n")
            at += len(piece)

    def _refuse(self, line, what, remedy):
        raise MpixfelError(what, f"{self.name}:{line}", remedy)

    def _peek(self, skip_newlines=False):
        while skip_newlines and self.at < len(self.tokens) and self.tokens[self.at].kind == "newline":
            self.at += 1
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def _next_is(self, *signs):
        token = self._peek()
        return token is not None and token.kind == "sign" and token.text in signs

    def _objects(self, scope, opened_at, enabled):
        """Definitions up to the closing brace of `scope`, or the end of the file."""
        while (token := self._peek(skip_newlines=True)) is not None:
            self.at += 1
            if token.kind == "sign" and token.text == "}" and opened_at is not None:
                return
            if token.kind == "sign" and token.text == ";":
                continue
            if token.kind != "word":
                self._refuse(token.line, f"unexpected {token.text}", "write name = value or name { ... }")
            yield from self._object(token, scope, enabled)
        if opened_at is not None:
            self._refuse(opened_at, f"scope {'.'.join(scope)} is not closed", "write } at its end")

    def _object(self, token, scope, enabled):
        name, on = token.text.lstrip("!"), enabled and not token.text.startswith("!")
        if name.startswith("."):
            self._attribute()
        elif name == "include" and not self._next_is("="):
            included = self._include(token)
            base = self.block
            for d in included if on else ():
                block = base if scope else base + d.block
                self.block = max(self.block, block)
                yield Definition(".".join((*scope, d.name)), d.words, d.where, block if scope or d.block else 0)
        elif not _NAME.match(name):
            self._refuse(token.line, f"{name} is not a name", "write name = value or name { ... }")
        elif self._next_is("="):
            self.at += 1
            words = self._words(token)
            if on:
                yield Definition(".".join((*scope, name)), words, f"{self.name}:{token.line}",
                                 self.block if scope else 0)
        else:
            yield from self._scope(token, name, scope, on)

    def _scope(self, token, name, scope, on):
        while (after := self._peek(skip_newlines=True)) is not None and after.text.lstrip("!").startswith("."):
            self.at += 1
            self._attribute()
        if not self._next_is("{"):
            self._refuse(token.line, f"{name} is neither given a value nor opened as a scope",
                         f"write {name} = value or {name} {{ ... }}")
        self.at += 1
        if not scope:
            self.block += 1
        for d in self._objects((*scope, name), token.line, on):
            if on:
                yield d

    def _attribute(self):
        """Pass over `.help = ...` and its like: they describe parameters, and set none."""
        if self._next_is("="):
            self.at += 1
            self._words(self.tokens[self.at - 1])

    def _include(self, token):
        kind = self._peek()
        if kind is None or kind.text != "file":
            self._refuse(token.line, "only include file PATH is read" + (
                ": include scope needs the Python of another program" if kind and kind.text == "scope" else ""),
                "write the lines of that scope here, or put them in a file")
        self.at += 1
        words = self._words(token)
        return self.include(" ".join(words), f"{self.name}:{token.line}")

    def _words(self, lead):
        """The words of a value: to the line's end, ; or } or the next `name =`; quoted lines below go on with it."""
        words = []
        while (token := self._peek()) is not None:
            following = self._peek(skip_newlines=False) if token.kind != "newline" else self._after_newlines()
            if token.kind == "newline":
                if not words or following is None or following.kind != "quoted":
                    break
                self._peek(skip_newlines=True)
                continue
            if token.kind == "sign":
                if token.text != "=":
                    break
                self._refuse(token.line, "a second = in a value", "put quotes around the value")
            if words and token.kind == "word" and self._is_assignment():
                break
            words.append(token.text)
            self.at += 1
        if not words:
            self._refuse(lead.line, f"{lead.text} is given no value", "write None for no value")
        return tuple(words)

    def _after_newlines(self):
        at = self.at
        while at < len(self.tokens) and self.tokens[at].kind == "newline":
            at += 1
        return self.tokens[at] if at < len(self.tokens) else None

    def _is_assignment(self):
        after = self.tokens[self.at + 1] if self.at + 1 < len(self.tokens) else None
        return (after is not None and after.kind == "sign" and after.text in "={"
                and _NAME.match(self.tokens[self.at].text.lstrip("!")) is not None)
