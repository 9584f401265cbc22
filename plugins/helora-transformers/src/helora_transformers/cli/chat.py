"""``helora chat``."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli import options
from helora_core.errors import ConnectionLost, HeloraError
from helora_transformers.cli.options import Asked, asking, checked_text

if TYPE_CHECKING:
    from helora_transformers.cli.figures import Answer
    from helora_transformers.cli.opening import Opened

_HELP = "/report what it took so far, /reset to begin anew, /quit or Ctrl-D to end; Ctrl-C cancels an answer"
_PROMPT = "> "


@click.command()
@asking
@options.as_json
def chat(asked: Asked, as_json: bool) -> None:
    """Talk with a language model whose LoRA is encrypted.

    The base model answers beside it, in a conversation of its own. Type /report for what it took so far, /reset to
    begin anew, /quit or Ctrl-D to end; Ctrl-C cancels the current answer. Standard input that is not a terminal is
    read as one message a line. With --json one document a line is printed for each message.
    """
    from helora_transformers.cli.opening import opened
    from helora_transformers.cli.showing import say

    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # before anything is read of it
    at_terminal = sys.stdin.isatty()

    def check(model: Any, tokenizer: Any) -> None:
        from helora_transformers.conversation import Conversation

        Conversation(model, tokenizer)

    with opened(asked, plaintext_too=False, check=check, confirm=at_terminal and not as_json) as talked_to:
        say(talked_to.protects, err=True)
        if at_terminal and not as_json:
            say(_HELP, err=True)
        talk = _Talk(talked_to, asked.max_new_tokens, as_json=as_json)
        for message in _messages(at_terminal=at_terminal, as_json=as_json):
            if not talk.heard(message):
                break
    if talk.refusals and not at_terminal:
        click.get_current_context().exit(1)


def _messages(*, at_terminal: bool, as_json: bool) -> Iterator[str]:
    """What is typed, or the lines of standard input, until its end."""
    if not at_terminal:
        for line in sys.stdin:
            yield line.rstrip("\r\n")
        return
    with suppress(ImportError):
        import readline  # noqa: F401 - input() edits lines with it
    while True:
        try:
            if as_json or not sys.stdout.isatty():
                click.echo(_PROMPT, nl=False, err=True)
                yield input()
            else:
                yield input(_PROMPT)
        except KeyboardInterrupt:
            click.echo(f"\n{_HELP}", err=True)
        except EOFError:
            click.echo(err=True)
            return


class _Talk:
    """Conversations with the variants that are shown.

    Attributes:
        refusals: How many messages got no answer.
    """

    def __init__(self, talked_to: Opened, max_new_tokens: int, *, as_json: bool) -> None:
        from helora_transformers.conversation import Conversation

        self._talked_to, self._max_new_tokens, self._as_json = talked_to, max_new_tokens, as_json
        self._conversations = {
            variant: Conversation(talked_to.model, talked_to.tokenizer) for variant in talked_to.shown
        }
        self.refusals = 0

    def heard(self, message: str) -> bool:
        """Answer a message, or do what it commands. False if it ends the conversation.

        Raises:
            ConnectionLost: The adapter's host is gone.
        """
        command = message.strip()
        if command == "/quit":
            return False
        if command == "/reset":
            for each in self._conversations.values():
                each.reset()
            self._tell({"event": "reset"}, "a new conversation")
        elif command == "/report":
            self._report()
        elif command.startswith("/"):
            self._tell({"event": "help", "help": _HELP}, _HELP)
        elif command:
            self._answer(message)
        return True

    def _report(self) -> None:
        from helora_transformers.cli.options import plain

        private = self._talked_to.private
        report = private.report() if private else None
        text = plain(str(report)) if report else "nothing is encrypted in this mode"
        document = {"event": "report", "report": report.to_dict() if report else None}
        self._tell(document, *text.splitlines())

    def _answer(self, message: str) -> None:
        try:
            answers = self._answers(checked_text(message))
        except ConnectionLost:
            raise
        except HeloraError as error:  # the next message may fare better
            self.refusals += 1
            refusal = {"code": error.code, "message": error.message, "hint": error.hint}
            if self._as_json:
                self._tell({"event": "refused", "message": message, "error": refusal})
            else:
                click.secho(f"error [{error.code}]", fg="red", bold=True, err=True, nl=False)
                click.echo(f" {error.message}\n  hint: {error.hint}", err=True)
            return
        if len(answers) == len(self._conversations):  # else the conversations would part
            for answer in answers:
                self._conversations[answer.variant].keep(message, answer.text)
        document = {"event": "answered", "message": message, "answers": [each.to_dict() for each in answers]}
        self._tell(document, *(each.line() for each in answers), dim=True)

    def _answers(self, message: str) -> list[Answer]:
        from helora_transformers.cli.answering import answered
        from helora_transformers.cli.showing import viewing

        answers: list[Answer] = []
        with _cancelling() as cancel, viewing(self._talked_to.shown, hidden=self._as_json) as view:
            for variant in self._talked_to.shown:

                def begin(on_token: Any, conversation: Any = self._conversations[variant]) -> Any:
                    how = {"max_new_tokens": self._max_new_tokens, "do_sample": False, "cancel": cancel}
                    return conversation.ask(message, on_token=on_token, **how)

                view.begin(variant)
                answers.append(answered(self._talked_to, variant, begin, view.add))
                view.end()
                if cancel.is_set():
                    break
        return answers

    def _tell(self, document: dict[str, Any], *lines: str, dim: bool = False) -> None:
        if self._as_json:
            import msgspec

            click.echo(msgspec.json.encode(document).decode())
            return
        from helora_transformers.cli.showing import say

        for line in lines:
            say(line, dim=dim)


class _Interrupted:
    """Whether Ctrl-C was pressed. No ``Event``: its lock might be held by what the handler interrupts."""

    def __init__(self) -> None:
        self._times = 0

    def is_set(self) -> bool:
        return self._times > 0

    def note(self, *_: object) -> None:
        self._times += 1
        if self._times > 1:  # whoever presses it again will not wait for a token
            raise KeyboardInterrupt


@contextmanager
def _cancelling() -> Iterator[_Interrupted]:
    """While this is open, Ctrl-C is noted."""
    interrupted = _Interrupted()
    before = signal.signal(signal.SIGINT, interrupted.note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
