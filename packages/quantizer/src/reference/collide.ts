import { CENTROIDS, NO_SCORE } from "../spec.js";
import { requireLength } from "../validate.js";

/**
 * Scores the keys of one page: `scores[scoresOffset + i]` = the largest over the tables of Σ_b table[b][ids[b][i]]
 * (step 3 of section 3 of the algorithm).
 *
 * `ids` is `[subspaces, strideTokens] u8`, of which the first `tokens` columns are read; `tables` is
 * `[tableCount, subspaces, CENTROIDS] u8`; `scores` is u16. A score is at most MAX_VOTE · 32 = 2016. Invalid keys look like
 * any other here: `excludeInvalidKeys` finds them.
 *
 * @throws InvalidArgumentError when an array is too short.
 */
export function collide(
  ids: Uint8Array,
  tables: Uint8Array,
  tableCount: number,
  subspaces: number,
  tokens: number,
  strideTokens: number,
  scores: Uint16Array,
  scoresOffset: number,
): void {
  requireLength("ids", ids, (subspaces - 1) * strideTokens + tokens);
  requireLength("tables", tables, tableCount * subspaces * CENTROIDS);
  requireLength("scores", scores, scoresOffset + tokens);
  const tableLength = subspaces * CENTROIDS;
  for (let i = 0; i < tokens; i++) {
    let best = 0;
    for (let start = 0; start < tableCount * tableLength; start += tableLength) {
      let score = 0;
      for (let b = 0; b < subspaces; b++) {
        score += tables[start + b * CENTROIDS + ids[b * strideTokens + i]!]!;
      }
      if (score > best) best = score;
    }
    scores[scoresOffset + i] = best;
  }
}

/**
 * Gives the invalid keys of one page the score NO_SCORE and returns their number; needed only for pages that have some.
 *
 * `codes` is `[tokens, codeBytesPerKey] u8`. A key is invalid exactly when all its codes are zero: the largest normalised
 * coordinate of a valid key is at least 1 / sqrt(8) in some subspace, which lies above the lowest threshold.
 *
 * @throws InvalidArgumentError when an array is too short.
 */
export function excludeInvalidKeys(
  codes: Uint8Array,
  codeBytesPerKey: number,
  tokens: number,
  scores: Uint16Array,
  scoresOffset: number,
): number {
  requireLength("codes", codes, tokens * codeBytesPerKey);
  requireLength("scores", scores, scoresOffset + tokens);
  let excluded = 0;
  for (let i = 0; i < tokens; i++) {
    let at = i * codeBytesPerKey;
    const end = at + codeBytesPerKey;
    while (at < end && codes[at] === 0) at += 1;
    if (at < end) continue;
    scores[scoresOffset + i] = NO_SCORE;
    excluded += 1;
  }
  return excluded;
}
