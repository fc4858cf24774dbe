/** A source of numbers in [0, 1). */
export type RandomSource = () => number;

/**
 * A seeded source of numbers in [0, 1) with 53 random bits each: the same seed gives the same numbers everywhere.
 *
 * The generator is sfc32: 128 bits of state, a counter that makes every period at least 2^32. It is no source of secrets.
 *
 * @param seed a whole number from 0 to 2^53 - 1; all its bits count.
 */
export function createRandomSource(seed: number): RandomSource {
  let a = 0;
  let b = seed >>> 0;
  let c = Math.floor(seed / 2 ** 32) >>> 0;
  let counter = 1;
  const next = (): number => {
    const sum = (a + b + counter) >>> 0;
    counter = (counter + 1) >>> 0;
    a = (b ^ (b >>> 9)) >>> 0;
    b = (c + (c << 3)) >>> 0;
    c = ((c << 21) | (c >>> 11)) >>> 0;
    c = (c + sum) >>> 0;
    return sum;
  };
  for (let round = 0; round < 16; round += 1) next(); // until near seeds have nothing in common
  return () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53;
}
