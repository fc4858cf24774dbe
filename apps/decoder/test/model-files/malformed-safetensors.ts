import { countingBytes, entry, type SafetensorsParts, safetensorsBytes } from "./safetensors-bytes.js";

/** A named file that must be refused, and a part of the sentence that must say why. */
interface MalformedCase {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly says: string;
}

const DATA = countingBytes(16);
const good = entry("F32", [4], 0, 16);

const file = (name: string, says: string, parts: SafetensorsParts): MalformedCase => ({
  name,
  says,
  bytes: safetensorsBytes({ data: DATA, ...parts }),
});
const text = (name: string, says: string, header: string) => file(name, says, { header });
const one = (name: string, says: string, tensor: unknown) => file(name, says, { header: { t: tensor } });
const named = (name: string, tensorName: string) =>
  file(name, "a usable tensor name", { header: { [tensorName]: good } });
const raw = (name: string, says: string, bytes: number[]): MalformedCase => ({
  name,
  says,
  bytes: Uint8Array.from(bytes),
});

const length: readonly MalformedCase[] = [
  raw("one byte", "at least 8 bytes", [1]),
  raw("seven bytes", "at least 8 bytes", [0, 0, 0, 0, 0, 0, 0]),
  raw("a length field and nothing else", "a header length", [2, 0, 0, 0, 0, 0, 0, 0]),
  raw("a header length of 0", "a header length", [0, 0, 0, 0, 0, 0, 0, 0, 123, 125]),
  raw("a header length of 1", "a header length", [1, 0, 0, 0, 0, 0, 0, 0, 123, 125]),
  file("a header length one above the file", "a header length", {
    header: "{}",
    data: new Uint8Array(0),
    declaredBytes: 3n,
  }),
  file("a header length of 99 MB in a small file", "a header length", { header: "{}", declaredBytes: 99_000_000n }),
  file("a header length one above the format's limit", "at most 100000000", {
    header: "{}",
    declaredBytes: 100_000_001n,
  }),
  file("a header length of 2^31", "at most 100000000", { header: "{}", declaredBytes: 2n ** 31n }),
  file("a header length of 2^53 + 1", "at most 100000000", { header: "{}", declaredBytes: 2n ** 53n + 1n }),
  file("a header length of 2^63", "at most 100000000", { header: "{}", declaredBytes: 2n ** 63n }),
  file("a header length of 2^64 - 1", "at most 100000000", { header: "{}", declaredBytes: 2n ** 64n - 1n }),
  file("a header length that cuts the header", "well-formed JSON", { header: { t: good }, declaredBytes: 20n }),
  file("a header length that takes data in", "well-formed JSON", { header: "{}", declaredBytes: 6n }),
];

const json: readonly MalformedCase[] = [
  text("an empty object with data behind it", "belong to no tensor", "{}"),
  text("an array", "begins with {", "[]"),
  text("a text", "begins with {", '"header"'),
  text("null", "begins with {", "null"),
  text("a space before the brace", "begins with {", " {}"),
  text("a byte order mark", "begins with {", "\uFEFF{}"),
  text("an unclosed brace", "well-formed JSON", '{"t":{}'),
  text("an unclosed string", "well-formed JSON", '{"t'),
  text("a bad escape", "well-formed JSON", '{"t\\q":1}'),
  text("a trailing comma", "well-formed JSON", '{"t":{},}'),
  text("a comment", "well-formed JSON", "{/* */}"),
  text("single quotes", "well-formed JSON", "{'t':1}"),
  text("text behind the object", "well-formed JSON", "{}x"),
  text("two objects", "well-formed JSON", "{}{}"),
  text("NaN", "well-formed JSON", '{"t":NaN}'),
  text("a NUL behind the object", "well-formed JSON", "{}\0"),
  text("a closing brace too many", "well-formed JSON", "{}}"),
  text("nesting of 4 levels", "at most 3 levels", '{"t":{"shape":[[1]]}}'),
  text("nesting of 100,000 levels", "at most 3 levels", `{"t":${"[".repeat(100_000)}`),
  file("bytes that are not UTF-8", "UTF-8 text", { header: Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d) }),
  file("an overlong UTF-8 form", "UTF-8 text", { header: Uint8Array.of(0x7b, 0x22, 0xc0, 0xaf, 0x22, 0x7d) }),
  file("a surrogate in UTF-8", "UTF-8 text", { header: Uint8Array.of(0x7b, 0x22, 0xed, 0xa0, 0x80, 0x22, 0x7d) }),
  text("a negative number", "whole numbers only", '{"t":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}'),
  text("a number with a point", "whole numbers only", '{"t":{"dtype":"F32","shape":[4.0],"data_offsets":[0,16]}}'),
  text("a number with an exponent", "whole numbers only", '{"t":{"dtype":"F32","shape":[4e0],"data_offsets":[0,16]}}'),
  text("the number 1e999", "whole numbers only", '{"t":{"dtype":"F32","shape":[1e999],"data_offsets":[0,16]}}'),
  text("two million values", "values", `{"t":[${"0,".repeat(3_000_000)}0]}`),
];

const duplicates: readonly MalformedCase[] = [
  text("a tensor twice", "duplicate keys", `{"t":${JSON.stringify(good)},"t":${JSON.stringify(good)}}`),
  text(
    "a tensor twice, once escaped",
    "duplicate keys",
    `{"t":${JSON.stringify(good)},"\\u0074":${JSON.stringify(good)}}`,
  ),
  text("a shape twice", "duplicate keys", '{"t":{"dtype":"F32","shape":[1],"shape":[4],"data_offsets":[0,16]}}'),
  text("a dtype twice", "duplicate keys", '{"t":{"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
  text(
    "data_offsets twice",
    "duplicate keys",
    '{"t":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"data_offsets":[0,16]}}',
  ),
  text("the metadata twice", "duplicate keys", '{"__metadata__":{},"__metadata__":{}}'),
  text("a metadata key twice", "duplicate keys", '{"__metadata__":{"a":"1","a":"2"}}'),
  text("a tensor named __proto__", "reserved keys", `{"__proto__":${JSON.stringify(good)}}`),
  text("an escaped __proto__", "reserved keys", `{"\\u005f_proto__":${JSON.stringify(good)}}`),
  text(
    "__proto__ in a tensor",
    "reserved keys",
    '{"t":{"__proto__":{"dtype":"F32"},"shape":[4],"data_offsets":[0,16]}}',
  ),
  text("__proto__ in the metadata", "reserved keys", '{"__metadata__":{"__proto__":"x"}}'),
];

const names: readonly MalformedCase[] = [
  named("an empty name", ""),
  named("a name with NUL", "a\0b"),
  named("a name with a line feed", "a\nb"),
  named("a name with an escape code", "a\u001b[31mb"),
  named("a name with a C1 control", "a\u0085b"),
  named("half a surrogate pair", "a\ud800"),
  named("the other half", "\udc00a"),
  named("a name that climbs", "../weights"),
  named("a name that climbs in the middle", "a/../../b"),
  named("a name that climbs the other way", "..\\weights"),
  named("two dots", ".."),
  named("an absolute name", "/etc/passwd"),
  named("a name of 1,025 characters", "n".repeat(1_025)),
  named("a name of a megabyte", "n".repeat(1_000_000)),
];

const entries: readonly MalformedCase[] = [
  one("null for a tensor", "as an object", null),
  one("a number for a tensor", "as an object", 7),
  one("an array for a tensor", "as an object", [1]),
  one("a text for a tensor", "as an object", "F32"),
  one("an empty tensor", "a dtype", {}),
  one("no dtype", "a dtype", { shape: [4], data_offsets: [0, 16] }),
  one("an unknown dtype", "a dtype", entry("F33", [4], 0, 16)),
  one("a dtype in small letters", "a dtype", entry("f32", [4], 0, 16)),
  one("the dtype constructor", "a dtype", entry("constructor", [4], 0, 16)),
  one("a dtype of four bits", "a dtype", entry("F4", [32], 0, 16)),
  one("a number for a dtype", "a dtype", { ...good, dtype: 32 }),
  one("no shape", "a shape", { dtype: "F32", data_offsets: [0, 16] }),
  one("null for a shape", "a shape", { ...good, shape: null }),
  one("an object for a shape", "a shape", { ...good, shape: { length: 1 } }),
  one("texts in a shape", "a shape", { ...good, shape: ["4"] }),
  one("true in a shape", "a shape", { ...good, shape: [true] }),
  one("null in a shape", "a shape", { ...good, shape: [null] }),
  one("2^53 in a shape", "a shape", entry("U8", [2 ** 53], 0, 16)),
  one("nine dimensions", "at most 8 dimensions", entry("F32", [1, 1, 1, 1, 1, 1, 1, 1, 4], 0, 16)),
  one("a shape whose product passes 2^53", "fewer than 2^53 bytes", entry("U8", [2 ** 27, 2 ** 27], 0, 16)),
  one("a shape whose product passes 2^64", "fewer than 2^53 bytes", entry("U8", [2 ** 32, 2 ** 32], 0, 0)),
  one(
    "a shape whose product passes 2^53 before a 0",
    "fewer than 2^53 bytes",
    entry("U8", [2 ** 32, 2 ** 32, 0], 0, 0),
  ),
  one("a shape whose bytes pass 2^53", "fewer than 2^53 bytes", entry("F64", [2 ** 51], 0, 16)),
  one("a shape smaller than the range", "12 bytes", entry("F32", [3], 0, 16)),
  one("a shape larger than the range", "20 bytes", entry("F32", [5], 0, 16)),
  one("a scalar with the bytes of four", "4 bytes", entry("F32", [], 0, 16)),
  one("a dtype smaller than the range", "8 bytes", entry("BF16", [4], 0, 16)),
  one("a dimension of 0 with bytes", "0 bytes", entry("F32", [4, 0], 0, 16)),
  one("a further key", "dtype, shape and data_offsets", { ...good, stride: [1] }),
  one("__metadata__'s look", "dtype, shape and data_offsets", { format: "pt" }),
  file("an array for the metadata", "__metadata__", { header: { __metadata__: [], t: good } }),
  file("null for the metadata", "__metadata__", { header: { __metadata__: null, t: good } }),
  file("a number in the metadata", "__metadata__", { header: { __metadata__: { n: 1 }, t: good } }),
  file("an object in the metadata", "__metadata__", { header: { __metadata__: { n: {} }, t: good } }),
];

const two = (name: string, says: string, a: readonly number[], b: readonly number[], data = DATA) => {
  const tensor = ([begin = 0, end = 0]: readonly number[]) => entry("U8", [end - begin], begin, end);
  return file(name, says, { header: { a: tensor(a), b: tensor(b) }, data });
};

const offsets: readonly MalformedCase[] = [
  one("no data_offsets", "data_offsets", { dtype: "F32", shape: [4] }),
  one("one data_offset", "two data_offsets", { ...good, data_offsets: [0] }),
  one("three data_offsets", "two data_offsets", { ...good, data_offsets: [0, 8, 16] }),
  one("no numbers in data_offsets", "two data_offsets", { ...good, data_offsets: [] }),
  one("texts in data_offsets", "data_offsets", { ...good, data_offsets: ["0", "16"] }),
  one("an object for data_offsets", "data_offsets", { ...good, data_offsets: { 0: 0, 1: 16 } }),
  one("offsets in the wrong order", "inside the 16 bytes", entry("F32", [4], 16, 0)),
  one("an end one behind the data", "inside the 16 bytes", entry("U8", [17], 0, 17)),
  one("an end far behind the data", "inside the 16 bytes", entry("U8", [2 ** 40], 0, 2 ** 40)),
  one("an end of 2^53 - 1", "inside the 16 bytes", entry("U8", [2 ** 53 - 1], 0, 2 ** 53 - 1)),
  one("an end of 2^53", "data_offsets", entry("U8", [16], 0, 2 ** 53)),
  one("an end of 2^64", "data_offsets", entry("U8", [16], 0, 2 ** 64)),
  one("a hole in front", "a hole", entry("U8", [15], 1, 16)),
  one("a rest of one byte", "1 bytes that belong to no tensor", entry("U8", [15], 0, 15)),
  two("a hole of one byte between two tensors", "a hole", [0, 7], [8, 16]),
  two("a hole at the front of two tensors", "a hole", [8, 12], [12, 16]),
  two("an overlap of one byte", "an overlap", [0, 9], [8, 16]),
  two("one range for two tensors", "an overlap", [0, 16], [0, 16]),
  two("a tensor inside another", "an overlap", [0, 16], [4, 8]),
  two("a tensor at another's beginning", "an overlap", [0, 16], [0, 4]),
  two("a tensor at another's end", "an overlap", [0, 16], [12, 16]),
  two("an empty tensor inside another", "an overlap", [0, 16], [8, 8]),
  two("an empty tensor behind the data", "inside the 16 bytes", [0, 16], [17, 17]),
  two("a rest behind two tensors", "belong to no tensor", [0, 4], [4, 8]),
  two("no data at all", "inside the 0 bytes", [0, 8], [8, 16], new Uint8Array(0)),
];

/** Every named malformed file, by what is wrong with it. */
export const MALFORMED = { length, json, duplicates, names, entries, offsets };
