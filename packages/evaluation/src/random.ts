/** The random draws of one sample; the same seed text gives the same draws on every machine. */
export interface Random {
  /** A whole number, uniform over 0 … 2^32 - 1. */
  uint32(): number;
  /** A whole number, uniform over 0 … `bound - 1`; `bound` is at least 1 and at most 2^32. */
  below(bound: number): number;
  /** A whole number, uniform over `lowest` … `highest`, both included. */
  between(lowest: number, highest: number): number;
  /** True with the given probability. */
  chance(probability: number): boolean;
  /** One of the items, which must not be empty. */
  pick<T>(items: readonly T[]): T;
  /** `count` distinct places of `items` in random order; at most all of them. */
  sample<T>(items: readonly T[], count: number): T[];
  /** The items in random order, as a new array. */
  shuffle<T>(items: readonly T[]): T[];
}

const rotateLeft = (word: number, bits: number): number => (word << bits) | (word >>> (32 - bits));

/** FNV-1a of the low bytes of the UTF-16 units: seed texts are ASCII. */
function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ (text.charCodeAt(index) & 0xff), 0x01000193);
  }
  return hash >>> 0;
}

/** splitmix32: spreads one word of seed over as many words of state as are asked for. */
function createSplitmix(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = state ^ (state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  };
}

/**
 * The generator xoshiro128** (Blackman and Vigna), version 1.1, in 32-bit integer arithmetic.
 *
 * @param state - four words, not all zero; kept and advanced in place.
 */
export function xoshiro128(state: Uint32Array): () => number {
  return () => {
    const [a = 0, b = 0, c = 0, d = 0] = state;
    const result = Math.imul(rotateLeft(Math.imul(b, 5), 7), 9) >>> 0;
    const e = d ^ b;
    const f = c ^ a;
    state[0] = a ^ e;
    state[1] = b ^ f;
    state[2] = f ^ (b << 9);
    state[3] = rotateLeft(e, 11);
    return result;
  };
}

/**
 * The draws that belong to a seed text: xoshiro128** whose state is four words of splitmix32, seeded by the FNV-1a hash
 * of the text. Bounded draws reject the incomplete last block, so they are exactly uniform.
 */
export function createRandom(seedText: string): Random {
  const splitmix = createSplitmix(hashText(seedText));
  const uint32 = xoshiro128(Uint32Array.from({ length: 4 }, splitmix));

  const below = (bound: number): number => {
    const limit = 2 ** 32 - (2 ** 32 % bound);
    let draw = uint32();
    while (draw >= limit) draw = uint32();
    return draw % bound;
  };
  const sample = <T>(items: readonly T[], count: number): T[] => {
    // The first `count` steps of a Fisher–Yates shuffle.
    const rest = [...items];
    const taken = Math.min(count, rest.length);
    for (let index = 0; index < taken; index++) {
      const other = index + below(rest.length - index);
      [rest[index], rest[other]] = [rest[other] as T, rest[index] as T];
    }
    return rest.slice(0, taken);
  };

  return {
    uint32,
    below,
    between: (lowest, highest) => lowest + below(highest - lowest + 1),
    chance: (probability) => uint32() < probability * 2 ** 32,
    pick: (items) => items[below(items.length)] as (typeof items)[number],
    sample,
    shuffle: (items) => sample(items, items.length),
  };
}
