// @ts-check
/** Turns of a conversation as tokens, by the base model's own tokenizer and chat template. */

import { Template } from "../vendor/jinja.js";
import { Tokenizer } from "../vendor/tokenizers.js";

/** @typedef {{ role: "system" | "user" | "assistant", content: string }} Turn */

const REPLACEMENT = "\ufffd";

export class Conversation {
  /**
   * @param {{ chat_template: string }} manifest of the base model
   * @param {any} tokenizer what tokenizer.json holds @param {any} config what tokenizer_config.json holds
   */
  constructor(manifest, tokenizer, config) {
    this.tokenizer = new Tokenizer(tokenizer, config);
    const template = manifest.chat_template || config.chat_template;
    if (!template) throw new Error("The base model has no chat template.");
    this.template = new Template(template);
    /** @type {Turn[]} */
    this.turns = [];
  }

  /** The tokens of all turns, and of the beginning of an answer. @returns {number[]} */
  prompt() {
    const text = this.template.render({
      messages: this.turns,
      add_generation_prompt: true,
      bos_token: "",
      eos_token: "",
    });
    return this.tokenizer.encode(text, { add_special_tokens: false }).ids;
  }

  /** The text of tokens, without a character of which bytes are missing. @param {number[]} tokens */
  text(tokens) {
    const text = tokens.length ? this.tokenizer.decode(tokens, { skip_special_tokens: true }) : "";
    return text.endsWith(REPLACEMENT) ? text.slice(0, -1) : text;
  }
}
