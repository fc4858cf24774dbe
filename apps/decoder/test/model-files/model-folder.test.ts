import { mkdirSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { ModelFileError, UnsupportedError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { bundledModelPath } from "../../src/model-files/bundled-model.js";
import { findInHubCache, hubCachePath, isRepositoryId } from "../../src/model-files/hub-cache.js";
import { openModelFolder, resolveModelPath } from "../../src/model-files/model-folder.js";
import { temporaryFolder, write } from "./temporary-folder.js";
import { TINY_CONFIG, tinyWeights, writeTinyModel } from "./tiny-model.js";

const folder = temporaryFolder();

describe("openModelFolder", () => {
  it("opens the bundled model", () => {
    using model = openModelFolder(bundledModelPath());
    expect(model.config).toMatchObject({
      family: "llama",
      layers: 6,
      queryHeads: 4,
      kvHeads: 2,
      headDim: 128,
      vocabSize: 4_096,
    });
    expect(model.weightBytes).toBe(2 * 6_581_504); // bf16
    expect(model.eosTokenIds).toEqual([1]);
    const norm = new Uint8Array(512);
    model.weights.readTensorInto("model.norm.weight", norm);
    expect(norm.some((byte) => byte !== 0)).toBe(true);
  });

  it("opens a folder without generation_config.json as greedy, and one with it as it says", () => {
    const path = writeTinyModel(join(folder, "tiny"));
    using plain = openModelFolder(path);
    expect(plain.generationDefaults.temperature).toBe(0);
    write(path, "generation_config.json", { do_sample: true, temperature: 0.6, eos_token_id: [3, 4] });
    using sampled = openModelFolder(path);
    expect(sampled.generationDefaults.temperature).toBe(0.6);
    expect(sampled.eosTokenIds).toEqual([3, 4]);
  });

  it.each(["config.json", "tokenizer.json"])("says that %s is missing", (name) => {
    const path = writeTinyModel(join(folder, `without-${name}`));
    rmSync(join(path, name));
    expect(() => openModelFolder(path)).toThrow(`but received a folder without ${name}.`);
    expect(() => openModelFolder(path)).toThrow(ModelFileError);
  });

  it("says that weights are missing", () => {
    const path = writeTinyModel(join(folder, "weightless"));
    rmSync(join(path, "model.safetensors"));
    expect(() => openModelFolder(path)).toThrow("a folder without weights");
  });

  it("refuses a file, nothing, and names that no file can have", () => {
    const path = writeTinyModel(join(folder, "file"));
    expect(() => openModelFolder(join(path, "config.json"))).toThrow("but received something that is no folder.");
    for (const name of [join(folder, "none"), join(folder, "n".repeat(5_000)), "a\0b", ""]) {
      expect(() => openModelFolder(name), name).toThrow(ModelFileError);
    }
  });

  it("refuses weights that lack a tensor or have another shape than the config says", () => {
    const path = writeTinyModel(join(folder, "mismatch"));
    write(
      path,
      "model.safetensors",
      tinyWeights(TINY_CONFIG, (name) => name.endsWith("q_proj.weight")),
    );
    expect(() => openModelFolder(path)).toThrow(
      /q_proj.weight of shape \[8, 8\], as config.json says but received weights without it/,
    );
    write(path, "model.safetensors", tinyWeights({ ...TINY_CONFIG, intermediate_size: 13 }));
    expect(() => openModelFolder(path)).toThrow(/gate_proj.weight of shape \[12, 8\].* the shape \[13, 8\]/);
  });

  it("refuses a config that asks for more layers than there are, before anything is allocated", () => {
    const path = writeTinyModel(join(folder, "greedy"));
    const large = { ...TINY_CONFIG, num_hidden_layers: 1_024, hidden_size: 262_144, vocab_size: 4_194_304 };
    write(path, "config.json", large);
    const before = process.memoryUsage().arrayBuffers;
    expect(() => openModelFolder(path)).toThrow(ModelFileError);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1024 * 1024);
  });

  it("refuses a model it does not run", () => {
    const path = writeTinyModel(join(folder, "unsupported"));
    write(path, "config.json", { ...TINY_CONFIG, rope_scaling: { rope_type: "yarn" } });
    expect(() => openModelFolder(path)).toThrow(UnsupportedError);
  });
});

describe("the Hugging Face cache", () => {
  const COMMIT = "0123456789abcdef0123456789abcdef01234567";
  const cache = join(folder, "hub");
  const repository = join(cache, "models--org--name");
  mkdirSync(join(repository, "refs"), { recursive: true });
  write(join(repository, "refs"), "main", COMMIT);
  writeTinyModel(join(repository, "snapshots", COMMIT));

  it("is where the environment says", () => {
    expect(hubCachePath({ HF_HUB_CACHE: "/a", HF_HOME: "/b" })).toBe("/a");
    expect(hubCachePath({ HF_HOME: "/b" })).toBe(join("/b", "hub"));
    expect(hubCachePath({})).toBe(join(homedir(), ".cache", "huggingface", "hub"));
    expect(hubCachePath({ HF_HUB_CACHE: "" })).toBe(hubCachePath({}));
  });

  it("gives the snapshot that refs/main names", () => {
    const path = resolveModelPath("org/name", { HF_HUB_CACHE: cache });
    expect(path).toBe(join(repository, "snapshots", COMMIT));
    using model = openModelFolder(path);
    expect(model.config.layers).toBe(1);
  });

  it("says that a model has not been downloaded", () => {
    expect(() => resolveModelPath("org/other", { HF_HUB_CACHE: cache })).toThrow(
      /models--org--other to be the downloaded model org\/other .* received nothing in this cache/,
    );
  });

  it("refuses a ref that is no commit, or one whose snapshot is gone", () => {
    const refs = join(cache, "models--org--bad", "refs");
    mkdirSync(refs, { recursive: true });
    write(refs, "main", "../../../../etc");
    expect(() => findInHubCache("org/bad", { HF_HUB_CACHE: cache })).toThrow("a commit id of 40 digits");
    write(refs, "main", `${COMMIT}\n`);
    expect(() => findInHubCache("org/bad", { HF_HUB_CACHE: cache })).toThrow("the snapshot that refs/main names");
  });

  it.each(["org/name", "gpt2", "Qwen/Qwen3-0.6B", "a_b/c.d"])("takes %s for a repository id", (id) => {
    expect(isRepositoryId(id)).toBe(true);
  });

  it.each([
    "",
    "/abs/path",
    "./here",
    "../up",
    "a/b/c",
    "a/..",
    "org/na--me",
    "a b",
    "a\\b",
    "org/",
    "n".repeat(200),
    "a\n",
  ])("takes %j for a path", (text) => {
    expect(isRepositoryId(text)).toBe(false);
    expect(resolveModelPath(text, {})).toBe(text);
  });

  it("prefers a folder of that name", () => {
    const path = writeTinyModel(join(folder, "local"));
    expect(resolveModelPath(path, {})).toBe(path);
  });

  it("gives the bundled model when nothing is named", () => {
    expect(resolveModelPath(undefined, {})).toBe(bundledModelPath());
  });
});
