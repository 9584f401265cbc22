"""``helora chat``."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli import options
from helora_core.errors import ConnectionLost, HeloraError, InvalidInput
from helora_transformers.cli.options import Asked, asking, checked_text
from helora_transformers.cli.terminal import HELP, cancelling, messages

if TYPE_CHECKING:
    from helora_transformers.cli.figures import Answer
    from helora_transformers.cli.opening import Opened


@click.command()
@click.argument("address", required=False)
@asking
@options.as_json
def chat(address: str | None, asked: Asked, as_json: bool) -> None:
    """Talk with a language model whose LoRA is encrypted.

    ADDRESS is that of the adapter's host, as for --adapter; or of a proxy, as `helora proxy` prints it: it has the base
    model and the keys then, and neither torch nor the model is needed here.

    The base model answers beside it, in a conversation of its own. Type /report for what it took so far, /reset to
    begin anew, /quit or Ctrl-D to end; Ctrl-C cancels the current answer. Standard input that is not a terminal is
    read as one message a line. With --json one document a line is printed for each message.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # before anything is read of it
    if address is not None and asked.adapter is not None:
        raise InvalidInput(f"Both {address} and --adapter were given.", hint="Leave one of them out.")
    if address is not None and address.rstrip("/").endswith("/v1"):
        from helora_transformers.cli.proxied import talk

        refusals = talk(address, asked, as_json=as_json)
    else:
        refusals = _talk(asked if address is None else replace(asked, adapter=address), as_json=as_json)
    if refusals and not sys.stdin.isatty():
        click.get_current_context().exit(1)


def _talk(asked: Asked, *, as_json: bool) -> int:
    """Talk with a model of this process. Returns how many messages got no answer."""
    from helora_transformers.cli.opening import opened
    from helora_transformers.cli.showing import say

    at_terminal = sys.stdin.isatty()

    def check(model: Any, tokenizer: Any) -> None:
        from helora_transformers.conversation import Conversation

        Conversation(model, tokenizer)

    with opened(asked, plaintext_too=False, check=check, confirm=at_terminal and not as_json) as talked_to:
        say(talked_to.protects, err=True)
        if at_terminal and not as_json:
            say(HELP, err=True)
        talk = _Talk(talked_to, asked.max_new_tokens, as_json=as_json)
        for message in messages(at_terminal=at_terminal, as_json=as_json):
            if not talk.heard(message):
                break
    return talk.refusals


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
            self._tell({"event": "help", "help": HELP}, HELP)
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
        with cancelling() as cancel, viewing(self._talked_to.shown, hidden=self._as_json) as view:
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
