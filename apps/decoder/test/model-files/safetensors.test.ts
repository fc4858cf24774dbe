import { execFileSync } from "node:child_process";
import { appendFileSync, chmodSync, mkdirSync, symlinkSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { ModelFileError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { MAX_TENSORS_PER_FILE } from "../../src/model-files/limits.js";
import { SafetensorsFile } from "../../src/model-files/safetensors.js";
import { parseSafetensorsHeader, type TensorEntry } from "../../src/model-files/safetensors-header.js";
import { MALFORMED } from "./malformed-safetensors.js";
import { countingBytes, entry, safetensorsBytes } from "./safetensors-bytes.js";
import { temporaryFolder, write } from "./temporary-folder.js";

const folder = temporaryFolder();

const VALID = safetensorsBytes({
  header: {
    __metadata__: { format: "pt" },
    second: entry("BF16", [2, 3], 4, 16),
    first: entry("U8", [4], 0, 4),
    empty: entry("F64", [0, 5], 16, 16),
    scalar: entry("I64", [], 16, 24),
  },
  data: countingBytes(24),
});

function refusal(open: () => unknown): ModelFileError {
  try {
    open();
  } catch (error) {
    if (error instanceof ModelFileError) return error;
    throw error;
  }
  throw new Error("the file was accepted");
}

function readAll(path: string): Map<string, Uint8Array> {
  using file = SafetensorsFile.open(path);
  const tensors = new Map<string, Uint8Array>();
  for (const { name, sizeBytes } of file.tensors.values()) {
    const target = new Uint8Array(sizeBytes);
    file.readTensorInto(name, target);
    tensors.set(name, target);
  }
  return tensors;
}

describe("a valid file", () => {
  const path = write(folder, "valid.safetensors", VALID);

  it("lists its tensors in the order of their bytes", () => {
    using file = SafetensorsFile.open(path);
    expect([...file.tensors.keys()]).toEqual(["first", "second", "empty", "scalar"]);
    expect(file.tensors.get("second")).toMatchObject({ elementType: "BF16", shape: [2, 3], sizeBytes: 12 });
    expect([...file.metadata]).toEqual([["format", "pt"]]);
  });

  it("gives each tensor its own bytes", () => {
    const tensors = readAll(path);
    expect([...(tensors.get("first") ?? [])]).toEqual([0, 1, 2, 3]);
    expect([...(tensors.get("second") ?? [])]).toEqual([4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    expect(tensors.get("empty")).toHaveLength(0);
    expect([...(tensors.get("scalar") ?? [])]).toEqual([16, 17, 18, 19, 20, 21, 22, 23]);
  });

  it("reports every byte that arrives, in chunks of at most 8 MiB", () => {
    const sizeBytes = 20 * 1024 * 1024;
    const data = new Uint8Array(sizeBytes);
    const large = write(
      folder,
      "large.safetensors",
      safetensorsBytes({ header: { t: entry("U8", [sizeBytes], 0, sizeBytes) }, data }),
    );
    using file = SafetensorsFile.open(large);
    const arrived: number[] = [];
    file.readTensorInto("t", new Uint8Array(sizeBytes), (bytes) => arrived.push(bytes));
    expect(arrived.length).toBeGreaterThanOrEqual(3);
    expect(Math.max(...arrived)).toBeLessThanOrEqual(8 * 1024 * 1024);
    expect(arrived.reduce((sum, bytes) => sum + bytes, 0)).toBe(sizeBytes);
  });

  it("may pad its header with spaces and hold no tensor", () => {
    expect(readAll(write(folder, "padded.safetensors", safetensorsBytes({ header: "{}      " }))).size).toBe(0);
  });

  it("takes names such as constructor, toString and hasOwnProperty for what they are", () => {
    const header = {
      constructor: entry("U8", [1], 0, 1),
      toString: entry("U8", [1], 1, 2),
      hasOwnProperty: entry("U8", [1], 2, 3),
    };
    const tensors = readAll(write(folder, "names.safetensors", safetensorsBytes({ header, data: countingBytes(3) })));
    expect([...tensors.entries()].map(([name, bytes]) => [name, bytes[0]])).toEqual([
      ["constructor", 0],
      ["toString", 1],
      ["hasOwnProperty", 2],
    ]);
  });

  it("may hold 65,536 tensors and not one more", () => {
    const header = (count: number) => {
      const one = JSON.stringify(entry("U8", [0], 0, 0));
      return `{${Array.from({ length: count }, (_, index) => `"t${index}":${one}`).join(",")}}`;
    };
    const atLimit = write(folder, "many.safetensors", safetensorsBytes({ header: header(MAX_TENSORS_PER_FILE) }));
    using file = SafetensorsFile.open(atLimit);
    expect(file.tensors.size).toBe(MAX_TENSORS_PER_FILE);
    const above = write(folder, "more.safetensors", safetensorsBytes({ header: header(MAX_TENSORS_PER_FILE + 1) }));
    expect(refusal(() => SafetensorsFile.open(above)).message).toContain("at most 65536 tensors");
  });

  it("may have 8 dimensions and names of 1,024 characters", () => {
    const name = "n".repeat(1_024);
    const bytes = safetensorsBytes({
      header: { [name]: entry("U8", [1, 1, 1, 1, 1, 1, 2, 2], 0, 4) },
      data: countingBytes(4),
    });
    expect(readAll(write(folder, "limits.safetensors", bytes)).get(name)).toHaveLength(4);
  });
});

describe.each(Object.entries(MALFORMED))("malformed files: %s", (kind, cases) => {
  it.each(cases.map((malformed) => [malformed.name, malformed] as const))(
    "%s is refused in one sentence",
    (name, malformed) => {
      const path = write(folder, `${kind}-malformed.safetensors`, malformed.bytes);
      const error = refusal(() => SafetensorsFile.open(path));
      expect(error.message, name).toContain(malformed.says);
      expect(error.message).toMatch(/^Expected [^\n\0]{1,500} but received [^\n\0]{1,300}\.$/);
      expect(error.path).toBe(path);
      expect(error.offsetBytes).toBeGreaterThanOrEqual(0);
      expect(error.offsetBytes).toBeLessThanOrEqual(malformed.bytes.length);
    },
  );
});

it("there are more than a hundred named malformed files, each with its own name", () => {
  const names = Object.values(MALFORMED).flatMap((cases) => cases.map(({ name }) => name));
  expect(new Set(names).size).toBe(names.length);
  expect(names.length).toBeGreaterThan(100);
});

it("a header length that lies costs no memory", () => {
  const bytes = safetensorsBytes({ header: "{}", declaredBytes: 99_000_000n });
  const path = write(folder, "lying.safetensors", bytes);
  const before = process.memoryUsage().arrayBuffers;
  for (let round = 0; round < 100; round += 1) refusal(() => SafetensorsFile.open(path));
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1024 * 1024);
});

it("the error names the byte at which a tensor's entry stands", () => {
  const header =
    '{"é":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"bad":{"dtype":"U8","shape":[2],"data_offsets":[1,2]}}';
  const bytes = safetensorsBytes({ header, data: countingBytes(2) });
  const error = refusal(() => SafetensorsFile.open(write(folder, "place.safetensors", bytes)));
  expect(error.offsetBytes).toBe(Buffer.from(bytes).indexOf('"bad"'));
});

describe("truncation and bit flips of a valid file of 1 KiB", () => {
  const data = Uint8Array.from({ length: 640 }, (_, index) => (index * 7) & 0xff);
  const bytes = (() => {
    const header = JSON.stringify({
      "model.embed_tokens.weight": entry("BF16", [8, 16], 0, 256),
      "model.layers.0.self_attn.q_proj.weight": entry("F32", [8, 8], 256, 512),
      "model.norm.weight": entry("F16", [64], 512, 640),
    });
    return safetensorsBytes({ header: header.padEnd(1_024 - 8 - 640, " "), data });
  })();
  const headerEnd = bytes.length - data.length;

  it("is 1,024 bytes long and readable", () => {
    expect(bytes).toHaveLength(1_024);
    expect(readAll(write(folder, "kibibyte.safetensors", bytes)).size).toBe(3);
  });

  it("every truncation is refused", () => {
    const path = join(folder, "truncated.safetensors");
    write(folder, "truncated.safetensors", bytes);
    for (let length = bytes.length - 1; length >= 0; length -= 1) {
      truncateSync(path, length);
      expect(refusal(() => SafetensorsFile.open(path)).message, `${length} bytes`).toMatch(
        /^Expected .* but received .*\.$/,
      );
    }
  });

  const flip = (bit: number): Uint8Array => {
    const flipped = Uint8Array.from(bytes);
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    return flipped;
  };

  it("every bit flip of the length field is refused", () => {
    const path = join(folder, "flipped.safetensors");
    for (let bit = 0; bit < 64; bit += 1) {
      write(folder, "flipped.safetensors", flip(bit));
      expect(refusal(() => SafetensorsFile.open(path)).message, `bit ${bit}`).toContain("but received");
    }
  });

  it("every bit flip of the header is refused or leaves all bytes in place", () => {
    let accepted = 0;
    for (let bit = 64; bit < headerEnd * 8; bit += 1) {
      const flipped = flip(bit);
      let entries: TensorEntry[];
      try {
        entries = [
          ...parseSafetensorsHeader(flipped.subarray(8, headerEnd), "flipped", flipped.length).tensors.values(),
        ];
      } catch (error) {
        expect(error, `bit ${bit}`).toBeInstanceOf(ModelFileError);
        continue;
      }
      accepted += 1;
      // Only a name, a type of the same size or a shape of the same product can have changed: the bytes cannot.
      const parts = entries.map(({ offsetBytes, sizeBytes }) => flipped.subarray(offsetBytes, offsetBytes + sizeBytes));
      expect(Buffer.concat(parts).equals(data), `bit ${bit}`).toBe(true);
    }
    expect(accepted).toBeGreaterThan(0);
    expect(accepted).toBeLessThan((headerEnd - 8) * 8);
  });
});

describe("what is no regular file", () => {
  it("a missing file is refused", () => {
    expect(refusal(() => SafetensorsFile.open(join(folder, "none"))).message).toContain("nothing by that name");
  });

  it("an empty file is refused", () => {
    expect(refusal(() => SafetensorsFile.open(write(folder, "empty", ""))).message).toContain("an empty file");
  });

  it("a folder is refused", () => {
    mkdirSync(join(folder, "folder.safetensors"));
    expect(refusal(() => SafetensorsFile.open(join(folder, "folder.safetensors"))).message).toContain("a folder");
  });

  it("a device is refused", (ctx) => {
    ctx.skip(process.platform === "win32", "no /dev/null here");
    expect(refusal(() => SafetensorsFile.open("/dev/null")).message).toContain("a device");
  });

  it("a named pipe is refused without waiting for a writer", (ctx) => {
    ctx.skip(process.platform === "win32", "no named pipes in folders here");
    execFileSync("mkfifo", [join(folder, "pipe")]);
    expect(refusal(() => SafetensorsFile.open(join(folder, "pipe"))).message).toContain("a named pipe");
  });

  it("a name with NUL is refused", () => {
    expect(refusal(() => SafetensorsFile.open("a\0b")).message).toContain("a NUL character");
  });

  it("a name that is too long is refused", () => {
    expect(refusal(() => SafetensorsFile.open(join(folder, "n".repeat(5_000)))).message).toContain("too long");
  });

  it("links in a circle are refused", () => {
    symlinkSync(join(folder, "circle-b"), join(folder, "circle-a"));
    symlinkSync(join(folder, "circle-a"), join(folder, "circle-b"));
    expect(refusal(() => SafetensorsFile.open(join(folder, "circle-a"))).message).toContain("in a circle");
  });

  it("a file without permission is refused", (ctx) => {
    ctx.skip(process.getuid?.() === 0 || process.platform === "win32", "this user may read every file");
    const path = write(folder, "secret.safetensors", VALID);
    chmodSync(path, 0);
    expect(refusal(() => SafetensorsFile.open(path)).message).toContain("permission");
  });

  it("a link to a regular file is followed, as the Hugging Face cache needs", () => {
    const target = write(folder, "blob", VALID);
    symlinkSync(target, join(folder, "link.safetensors"));
    expect(readAll(join(folder, "link.safetensors")).size).toBe(4);
  });
});

describe("misuse", () => {
  it("a tensor that is not there, a wrong length and a closed file are refused", () => {
    const file = SafetensorsFile.open(write(folder, "misuse.safetensors", VALID));
    expect(() => file.readTensorInto("none", new Uint8Array(4))).toThrow(
      /Expected name to be a tensor of .* received "none"/,
    );
    expect(() => file.readTensorInto("first", new Uint8Array(3))).toThrow("4 bytes for tensor first but received 3");
    expect(() => file.readTensorInto("first", new Uint8Array(5))).toThrow("received 5");
    file.close();
    file.close();
    expect(() => file.readTensorInto("first", new Uint8Array(4))).toThrow("disposed");
  });

  it("a file that grows or shrinks while it is open is refused", () => {
    const path = write(folder, "changing.safetensors", VALID);
    using grown = SafetensorsFile.open(path);
    appendFileSync(path, "more");
    expect(refusal(() => grown.readTensorInto("first", new Uint8Array(4))).message).toContain(
      "unchanged while it is read",
    );
    using shrunk = SafetensorsFile.open(write(folder, "changing.safetensors", VALID));
    truncateSync(path, 30);
    expect(refusal(() => shrunk.readTensorInto("scalar", new Uint8Array(8))).message).toContain("became shorter");
  });
});
