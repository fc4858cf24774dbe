import { requireInteger } from "./validate.js";

/** The golden ratio as a 32-bit fraction: consecutive multiples are spread evenly over the 32-bit integers. */
const STRIDE = 0x9e3779b9;

/** The finaliser of MurmurHash3: every input bit changes every output bit with probability close to one half. */
function mix(value: number): number {
  let bits = value >>> 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}

/**
 * The random signs of the rotation, `[headDim] f32` of +1 and -1.
 *
 * Sign j is the top bit of a hash of `seed + (j + 1) * 0x9E3779B9` modulo 2^32: the generator is part of the format, so
 * that summaries can be saved, moved and read elsewhere.
 *
 * @throws InvalidArgumentError when `headDim` is not positive or `seed` is not an unsigned 32-bit number.
 */
export function rotationSigns(headDim: number, seed: number): Float32Array {
  requireInteger("headDim", headDim, 1, 65536);
  requireInteger("seed", seed, 0, 0xffffffff);
  const signs = new Float32Array(headDim);
  for (let j = 0; j < headDim; j++) {
    signs[j] = mix(seed + Math.imul(j + 1, STRIDE)) >>> 31 === 1 ? -1 : 1;
  }
  return signs;
}
