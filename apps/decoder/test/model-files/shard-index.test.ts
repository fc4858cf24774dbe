import { mkdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { InvalidArgumentError, ModelFileError, UnsupportedError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { ModelWeights } from "../../src/model-files/model-weights.js";
import { readShardIndex } from "../../src/model-files/shard-index.js";
import { countingBytes, entry, safetensorsBytes } from "./safetensors-bytes.js";
import { temporaryFolder, write } from "./temporary-folder.js";

const folder = temporaryFolder();
const INDEX = "model.safetensors.index.json";
const A = "model-00001-of-00002.safetensors";
const B = "model-00002-of-00002.safetensors";

function writeIndex(weightMap: unknown): string {
  return write(folder, "index.json", { metadata: { total_size: 6 }, weight_map: weightMap });
}

describe("readShardIndex", () => {
  it("gives each tensor its shard and each shard once", () => {
    const { shardOfTensor, shardNames } = readShardIndex(writeIndex({ x: A, y: B, z: A }));
    expect([...shardOfTensor]).toEqual([
      ["x", A],
      ["y", B],
      ["z", A],
    ]);
    expect(shardNames).toEqual([A, B]);
  });

  it.each([
    "../model.safetensors",
    "../../etc/passwd",
    "/etc/passwd.safetensors",
    "sub/model.safetensors",
    "sub\\model.safetensors",
    "..\\model.safetensors",
    "C:model.safetensors",
    "..",
    ".",
    "",
    ".safetensors",
    "..safetensors",
    "model.bin",
    "model.safetensors.gz",
    "mo\0del.safetensors",
    "mo\ndel.safetensors",
    "mo\ud800del.safetensors",
    `${"m".repeat(300)}.safetensors`,
    7,
    null,
    true,
    [],
    {},
  ])("refuses %j as a shard's name", (name) => {
    expect(() => readShardIndex(writeIndex({ x: name }))).toThrow(ModelFileError);
    expect(() => readShardIndex(writeIndex({ x: name }))).toThrow("a .safetensors file beside it");
  });

  it.each([
    ["no weight_map", {}],
    ["null", { weight_map: null }],
    ["a list", { weight_map: [A] }],
    ["a text", { weight_map: A }],
    ["nothing in it", { weight_map: {} }],
  ])("refuses an index with %s", (_, content) => {
    expect(() => readShardIndex(write(folder, "index.json", content))).toThrow(ModelFileError);
  });

  it("refuses a tensor that is named twice", () => {
    const text = `{"weight_map":{"x":"${A}","x":"${B}"}}`;
    expect(() => readShardIndex(write(folder, "index.json", text))).toThrow("duplicate");
  });

  it("takes 512 shards and not one more", () => {
    const map = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`t${i}`, `s${i}.safetensors`]));
    expect(readShardIndex(writeIndex(map(512))).shardNames).toHaveLength(512);
    expect(() => readShardIndex(writeIndex(map(513)))).toThrow("1 to 512 shards but received 513");
  });
});

describe("ModelWeights", () => {
  const model = (name: string, weightMap?: unknown): string => {
    const path = join(folder, name);
    mkdirSync(path, { recursive: true });
    const shard = (header: object) => safetensorsBytes({ header, data: countingBytes(4) });
    write(path, A, shard({ x: entry("BF16", [2], 0, 4) }));
    write(path, B, shard({ y: entry("F32", [1], 0, 4) }));
    if (weightMap !== undefined) write(path, INDEX, { weight_map: weightMap });
    return path;
  };

  it("reads tensors from the shards that hold them", () => {
    using weights = ModelWeights.open(model("sharded", { x: A, y: B }));
    expect([...weights.names]).toEqual(["x", "y"]);
    expect(weights.tensor("y")).toMatchObject({ elementType: "F32", shape: [1] });
    const target = new Uint8Array(4);
    weights.readTensorInto("y", target);
    expect([...target]).toEqual([0, 1, 2, 3]);
    expect(() => weights.readTensorInto("z", target)).toThrow(InvalidArgumentError);
  });

  it("prefers one whole file to an index", () => {
    const path = model("both", { x: "none.safetensors" });
    write(
      path,
      "model.safetensors",
      safetensorsBytes({ header: { w: entry("U8", [4], 0, 4) }, data: countingBytes(4) }),
    );
    using weights = ModelWeights.open(path);
    expect([...weights.names]).toEqual(["w"]);
  });

  it("says which shard is missing", () => {
    const path = model("missing", { x: A, y: B });
    rmSync(join(path, B));
    expect(() => ModelWeights.open(path)).toThrow(
      new RegExp(`Expected .*${B} to be a readable file but received nothing by that name`),
    );
  });

  it("says which shard lacks a tensor that the index puts there", () => {
    expect(() => ModelWeights.open(model("swapped", { x: B, y: B }))).toThrow(
      /00002.* a shard with the tensor "x", as the index says/,
    );
  });

  it("refuses a shard that is malformed", () => {
    const path = model("broken", { x: A, y: B });
    write(path, B, "not safetensors");
    expect(() => ModelWeights.open(path)).toThrow(ModelFileError);
  });

  it("follows a shard that is a link, as the Hugging Face cache has them", () => {
    const path = model("linked", { x: A, y: B });
    rmSync(join(path, A));
    symlinkSync(join(model("linked-target"), A), join(path, A));
    using weights = ModelWeights.open(path);
    expect(weights.tensor("x")?.sizeBytes).toBe(4);
  });

  it("refuses a folder without weights", () => {
    const path = join(folder, "without");
    mkdirSync(path);
    expect(() => ModelWeights.open(path)).toThrow("a folder without weights");
  });

  it("sums the bytes of the expected tensors and refuses missing, misshapen and integer ones", () => {
    using weights = ModelWeights.open(model("expected", { x: A, y: B }));
    expect(
      weights.requireTensors([
        { name: "x", shape: [2] },
        { name: "y", shape: [1] },
      ]),
    ).toBe(8);
    expect(() => weights.requireTensors([{ name: "z", shape: [2] }])).toThrow(
      /weights with z of shape \[2\].* weights without it/,
    );
    expect(() => weights.requireTensors([{ name: "x", shape: [1, 2] }])).toThrow(
      /x of shape \[1, 2\].* the shape \[2\]/,
    );
    const path = join(folder, "integers");
    mkdirSync(path);
    write(
      path,
      "model.safetensors",
      safetensorsBytes({ header: { w: entry("I8", [4], 0, 4) }, data: countingBytes(4) }),
    );
    using integers = ModelWeights.open(path);
    expect(() => integers.requireTensors([{ name: "w", shape: [4] }])).toThrow(UnsupportedError);
  });
});
