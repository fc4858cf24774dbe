import type { Answer, Prefill } from "./answer.js";

/** What an answer cost, for the end of the terminal: speed of the prompt, speed of the answer, share of the context read. */
export function closingBlock(prefill: Prefill, answer: Answer): string {
  const { tokenIds, tokensPerSecond, stop } = answer;
  const lines = [
    ["prompt", `${count(prefill.tokens)}, ${prefill.tokensPerSecond.toFixed(0)} tokens/s`],
    [
      "answer",
      `${count(tokenIds.length)}${tokensPerSecond === null ? "" : `, ${tokensPerSecond.toFixed(1)} tokens/s`}`,
    ],
    ["read", whatWasRead(answer)],
    ["ended by", stop],
  ] as const;
  return lines.map(([name, value]) => `${name.padEnd(8)}  ${value}\n`).join("");
}

/** On a device that is its own host nothing is kept hot, and nothing is said of it. */
function whatWasRead({ readShare, hotShare }: Answer): string {
  if (readShare === null) return "the prompt only";
  const read = `${(100 * readShare).toFixed(1)} % of K and V a token`;
  return hotShare ? `${read}; ${(100 * hotShare).toFixed(1)} % of the fetched keys were still on the device` : read;
}

function count(tokens: number): string {
  return `${tokens} ${tokens === 1 ? "token" : "tokens"}`;
}
