"""Prompts as token ids: a chat where the tokenizer has a template for one, else plain text; with examples before it.

chat   <user> Describe the video. <assistant>           <user> what moves? <assistant>
plain  caption:                                         question: what moves? answer:

An answer ends as texts of its kind do: a chat's with the token that ends a turn, a plain one with its line. A language
model expects that; the end of all text, in the middle of a page, it would first have to learn.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from core_encoder.said_once import warn_once

log = logging.getLogger(__name__)

LONGEST_QUESTION = 128  # tokens; the rest is cut
QuestionAnswer = tuple[str, str]


class Prompts:
    """Makes prompts and answers into ids.

    `caption_prompt` asks for a caption in a chat, `most_tokens` is how long an answer may be, its end included.
    """

    def __init__(self, tokenizer: Any, chat: bool, caption_prompt: str, most_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.chat = chat and bool(getattr(tokenizer, "chat_template", None))
        self.caption_prompt = caption_prompt
        self.most_tokens = most_tokens
        line = [] if self.chat else self._ids("\n")
        self.end = line[0] if len(line) == 1 else int(tokenizer.eos_token_id)

    def prompt_ids(self, question: str | None, examples: Sequence[QuestionAnswer] = ()) -> list[int]:
        """The ids of a question, of the wish for a caption where there is none; `examples` stand before questions."""
        shots = examples if question else ()
        asked = self._cut_question(question) if question else self.caption_prompt
        if self.chat:
            turns = [turn for q, a in shots for turn in (("user", q), ("assistant", a))]
            messages = [{"role": role, "content": text} for role, text in (*turns, ("user", asked))]
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            return self._ids(text)
        lines = [f"question: {q} answer: {a}.\n" for q, a in shots]
        lines.append(f"question: {asked} answer:" if question else "caption:")
        ids = list(self.tokenizer("".join(lines))["input_ids"])
        return ids[:-1] if ids and ids[-1] == self.tokenizer.eos_token_id else ids

    def answer_ids(self, text: str) -> list[int]:
        """The ids of an answer or caption with the end after them; too long ones lose their end, which is said once."""
        ids = self._ids(text if self.chat else f" {' '.join(text.split())}")
        if len(ids) + 1 > self.most_tokens:
            what = f"answers longer than max_new_tokens={self.most_tokens} are cut"
            warn_once(log, what, f"(this one: {len(ids) + 1})")
            return ids[: self.most_tokens]
        return [*ids, self.end]

    def text_of(self, ids: Sequence[int]) -> str:
        """What generated ids say: the first line that is not empty."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return next((line.strip() for line in text.splitlines() if line.strip()), "")

    def _cut_question(self, question: str) -> str:
        ids = self._ids(question)
        if len(ids) <= LONGEST_QUESTION:
            return question
        warn_once(log, f"questions longer than {LONGEST_QUESTION} tokens are cut", f"(this one has {len(ids)})")
        return str(self.tokenizer.decode(ids[:LONGEST_QUESTION]))

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
