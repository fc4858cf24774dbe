import { existsSync } from "node:fs";
import { join } from "node:path";
import { ModelFileError } from "@pariskv/quantizer";
import { packageFolder } from "./package-folder.js";

/**
 * The folder of the model that comes with this package.
 *
 * @throws ModelFileError when the package is incomplete.
 */
export function bundledModelPath(): string {
  const path = join(packageFolder(), "models", "needle");
  if (!existsSync(path)) {
    throw new ModelFileError({ path, expected: "the bundled model", received: "nothing: install the package again" });
  }
  return path;
}
