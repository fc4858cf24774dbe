import { requireLength } from "./validate.js";

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The bits of the bfloat16 nearest to an f32, ties to even; a NaN stays a NaN. */
export function toBfloat16(value: number): number {
  float[0] = value;
  return roundToBfloat16(bits[0]!);
}

/** The f32 that the bits of a bfloat16 stand for; exact. */
export function fromBfloat16(half: number): number {
  bits[0] = half << 16;
  return float[0]!;
}

/** The bits of the IEEE half (f16) nearest to an f32, ties to even; a NaN stays a NaN, 65520 and above are infinite. */
export function toFloat16(value: number): number {
  float[0] = value;
  return roundToFloat16(bits[0]!);
}

/** The f32 that the bits of an IEEE half (f16) stand for; exact. */
export function fromFloat16(half: number): number {
  bits[0] = widenFloat16(half);
  return float[0]!;
}

/**
 * Rounds `source`, f32, to bfloat16 bits in `target`.
 *
 * @throws InvalidArgumentError when `target` is shorter than `source`.
 */
export function encodeBfloat16(source: Float32Array, target: Uint16Array): void {
  requireLength("target", target, source.length);
  const sourceBits = new Uint32Array(source.buffer, source.byteOffset, source.length);
  for (let i = 0; i < sourceBits.length; i++) target[i] = roundToBfloat16(sourceBits[i]!);
}

/**
 * Widens `source`, bfloat16 bits, to f32 in `target`.
 *
 * @throws InvalidArgumentError when `target` is shorter than `source`.
 */
export function decodeBfloat16(source: Uint16Array, target: Float32Array): void {
  requireLength("target", target, source.length);
  const targetBits = new Uint32Array(target.buffer, target.byteOffset, target.length);
  for (let i = 0; i < source.length; i++) targetBits[i] = source[i]! << 16;
}

/**
 * Rounds `source`, f32, to IEEE half (f16) bits in `target`.
 *
 * @throws InvalidArgumentError when `target` is shorter than `source`.
 */
export function encodeFloat16(source: Float32Array, target: Uint16Array): void {
  requireLength("target", target, source.length);
  const sourceBits = new Uint32Array(source.buffer, source.byteOffset, source.length);
  for (let i = 0; i < sourceBits.length; i++) target[i] = roundToFloat16(sourceBits[i]!);
}

/**
 * Widens `source`, IEEE half (f16) bits, to f32 in `target`.
 *
 * @throws InvalidArgumentError when `target` is shorter than `source`.
 */
export function decodeFloat16(source: Uint16Array, target: Float32Array): void {
  requireLength("target", target, source.length);
  const targetBits = new Uint32Array(target.buffer, target.byteOffset, target.length);
  for (let i = 0; i < source.length; i++) targetBits[i] = widenFloat16(source[i]!);
}

function roundToBfloat16(single: number): number {
  // The quiet bit is set, so that a NaN whose payload lies in the dropped half does not turn into an infinity.
  if ((single & 0x7fffffff) > 0x7f800000) return (single >>> 16) | 0x40;
  return ((single + 0x7fff + ((single >>> 16) & 1)) >>> 16) & 0xffff;
}

function roundToFloat16(single: number): number {
  const sign = (single >>> 16) & 0x8000;
  const magnitude = single & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >>> 13) & 0x1ff);
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65520, the midpoint between the largest half and the next step
  if (magnitude < 0x38800000) {
    // Below 2^-14 the half is a multiple of 2^-24, which is the unit in the last place of 0.5: the addition rounds.
    bits[0] = magnitude;
    float[0] = float[0]! + 0.5;
    return sign | (bits[0]! - 0x3f000000);
  }
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

function widenFloat16(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >>> 10) & 31;
  const mantissa = half & 0x3ff;
  if (exponent === 31) return sign | 0x7f800000 | (mantissa << 13);
  if (exponent !== 0) return sign | ((exponent + 112) << 23) | (mantissa << 13);
  float[0] = mantissa * 2 ** -24;
  return sign | bits[0]!;
}
