import type { Answer, Prefill } from "./answer.js";

/** What an answer cost, for the end of the terminal: speed of the prompt, speed of the answer, share of the context read. */
export function closingBlock(prefill: Prefill, answer: Answer): string {
  const { tokenIds, tokensPerSecond, readShare, stop } = answer;
  const lines = [
    ["prompt", `${count(prefill.tokens)}, ${prefill.tokensPerSecond.toFixed(0)} tokens/s`],
    [
      "answer",
      `${count(tokenIds.length)}${tokensPerSecond === null ? "" : `, ${tokensPerSecond.toFixed(1)} tokens/s`}`,
    ],
    ["read", readShare === null ? "the prompt only" : `${(100 * readShare).toFixed(1)} % of K and V a token`],
    ["ended by", stop],
  ] as const;
  return lines.map(([name, value]) => `${name.padEnd(8)}  ${value}\n`).join("");
}

function count(tokens: number): string {
  return `${tokens} ${tokens === 1 ? "token" : "tokens"}`;
}
