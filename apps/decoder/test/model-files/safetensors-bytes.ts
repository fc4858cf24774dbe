/** What a safetensors file is made of; each part may lie. */
export interface SafetensorsParts {
  /** The header as text, as bytes, or as an object that becomes JSON. */
  readonly header: string | Uint8Array | object;
  readonly data?: Uint8Array;
  /** The length field; the true length when left out. */
  readonly declaredBytes?: bigint;
}

/** The bytes of a safetensors file: length field, header, data. */
export function safetensorsBytes({ header, data = new Uint8Array(0), declaredBytes }: SafetensorsParts): Uint8Array {
  const headerBytes =
    header instanceof Uint8Array ? header : Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const lengthField = Buffer.alloc(8);
  lengthField.writeBigUInt64LE(declaredBytes ?? BigInt(headerBytes.length));
  return Buffer.concat([lengthField, headerBytes, data]);
}

/** A tensor entry of a header. */
export function entry(dtype: string, shape: readonly number[], begin: number, end: number) {
  return { dtype, shape, data_offsets: [begin, end] };
}

/** Bytes 0, 1, 2, …, so that each has its own value as long as they are fewer than 256. */
export function countingBytes(count: number): Uint8Array {
  return Uint8Array.from({ length: count }, (_, index) => index);
}
