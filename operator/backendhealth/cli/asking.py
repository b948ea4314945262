"""Asks a person: on a terminal, or line by line from a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO

from backendhealth.cli.output import wrapped
from backendhealth.core.triage import Question, Reply

_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("y", "yes"), True),
    **dict.fromkeys(("n", "no"), False),
    **dict.fromkeys(("", "?", "d", "don't know", "dont know", "unknown"), None),
}
_MAX_TYPO = 3
"""Letters of a word that is no error text yet: `ye` was meant to be another."""
HOW = "y (yes), n (no), ? (don't know), or paste what the error says"


class NotUnderstood(ValueError):  # noqa: N818 - what is said of us
    """A reply that is none of the words, and too short for an error's text."""


def reply_of(text: str) -> Reply:
    """What a person's text says: yes, no, don't know, or an error's text, which is a no. Raises NotUnderstood."""
    said = text.strip()
    word = said.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    if word in _WORDS:
        return Reply(_WORDS[word])
    if len(word) <= _MAX_TYPO and word.isalpha():
        raise NotUnderstood(f"{said}: answer with {HOW}")
    return Reply(works=False, error=said)


class Asker:
    """Asks on `prompts`, reads from `answers`. On a `terminal` an error ends at an empty line, else it is one line.

    What a pipe answers is repeated on `prompts`, so that both sides of the conversation can be read there.
    """

    def __init__(self, answers: IO[str], prompts: IO[str], *, terminal: bool) -> None:
        self._answers = answers
        self._prompts = prompts
        self._terminal = terminal

    def say(self, line: str) -> None:
        """Tell the person something."""
        print(wrapped(line), file=self._prompts, flush=True)

    def ask(self, question: Question) -> Reply | None:
        """The person's reply; None at the end of the input."""
        if question.about_error:
            return self._error()
        while (line := self._line(f"{question.symptom.question} [y/n/?]")) is not None:
            try:
                reply = reply_of(line)
            except NotUnderstood as problem:
                self.say(f"  {problem}")
                continue
            return Reply(reply.works, self._rest(reply.error)) if reply.error else reply
        return None

    def choose(self, title: str, names: Sequence[str]) -> str | None:
        """One of `names`, by name or number; None at the end of the input."""
        for number, name in enumerate(names, 1):
            self.say(f"  {number}. {name}")
        while (line := self._line(title)) is not None:
            said = line.strip()
            if said in names:
                return said
            if said.isdecimal() and 0 < int(said) <= len(names):
                return names[int(said) - 1]
        return None

    def _error(self) -> Reply | None:
        end = ", end with an empty line" if self._terminal else ""
        line = self._line(f"  What does the error say? [paste it{end}; empty: can't tell]")
        if line is None:
            return None
        text = line.strip()
        return Reply(works=False, error="" if text in ("", "?") else self._rest(text))

    def _rest(self, text: str) -> str:
        """`text` with the lines that were pasted with it."""
        lines = [text]
        while self._terminal and (line := self._answers.readline()).strip():
            lines.append(line.rstrip())
        return "\n".join(lines)

    def _line(self, prompt: str) -> str | None:
        print(wrapped(prompt), end=" ", file=self._prompts, flush=True)
        line = self._answers.readline()
        if not line:
            print(file=self._prompts)
            return None
        if not self._terminal:
            print(line.rstrip("\n"), file=self._prompts, flush=True)
        return line
