/** What sizing needs of a model: its own tokenizer. */
export interface TextTokenizer {
  /**
   * The token ids the model is given for `text`, special tokens that the tokenizer puts in front included.
   */
  encode(text: string): ArrayLike<number>;
}

/** A model as an evaluation sees it: text in, text out. */
export interface TextModel extends TextTokenizer {
  /**
   * The greedy continuation of `prompt`, at most `maxNewTokens` tokens, without the prompt and without the end token.
   */
  generate(request: { readonly prompt: string; readonly maxNewTokens: number }): string | Promise<string>;
}
