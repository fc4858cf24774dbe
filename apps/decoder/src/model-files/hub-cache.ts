import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { ModelFileError } from "@pariskv/quantizer";
import { readTextFile } from "./json-file.js";

const REPOSITORY_ID = /^[A-Za-z0-9][\w.-]{0,95}(\/[A-Za-z0-9][\w.-]{0,95})?$/;
const COMMIT = /^[0-9a-f]{40}$/;

/** The environment variables that say where the cache is. */
export type CacheEnvironment = Readonly<Partial<Record<"HF_HUB_CACHE" | "HF_HOME", string>>>;

/** Whether `text` has the form of a repository id, such as `org/name`. */
export function isRepositoryId(text: string): boolean {
  return REPOSITORY_ID.test(text) && !text.includes("..") && !text.includes("--");
}

/** The folder of the Hugging Face cache: `$HF_HUB_CACHE`, `$HF_HOME/hub` or `~/.cache/huggingface/hub`. */
export function hubCachePath(environment: CacheEnvironment): string {
  if (environment.HF_HUB_CACHE) return environment.HF_HUB_CACHE;
  if (environment.HF_HOME) return join(environment.HF_HOME, "hub");
  return join(homedir(), ".cache", "huggingface", "hub");
}

/**
 * The folder of a repository's `main` revision in the Hugging Face cache.
 *
 * @throws ModelFileError when the cache does not hold it.
 */
export function findInHubCache(repositoryId: string, environment: CacheEnvironment): string {
  const repositoryPath = join(hubCachePath(environment), `models--${repositoryId.replace("/", "--")}`);
  const refPath = join(repositoryPath, "refs", "main");
  if (!existsSync(refPath)) {
    throw new ModelFileError({
      path: repositoryPath,
      expected: `the downloaded model ${repositoryId} (fetch it with the Hugging Face tools first)`,
      received: "nothing in this cache",
    });
  }
  const commit = readTextFile(refPath, 256).trim();
  if (!COMMIT.test(commit)) {
    throw new ModelFileError({ path: refPath, expected: "a commit id of 40 digits", received: JSON.stringify(commit) });
  }
  const snapshotPath = join(repositoryPath, "snapshots", commit);
  if (!existsSync(snapshotPath)) {
    throw new ModelFileError({
      path: snapshotPath,
      expected: "the snapshot that refs/main names",
      received: "nothing",
    });
  }
  return snapshotPath;
}
