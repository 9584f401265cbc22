/** The parts of `@huggingface/tokenizers` that are used here. */
export class Tokenizer {
  constructor(tokenizer: unknown, config: unknown);
  encode(text: string, options?: { add_special_tokens?: boolean }): { ids: number[] };
  decode(tokens: readonly number[], options?: { skip_special_tokens?: boolean }): string;
}
