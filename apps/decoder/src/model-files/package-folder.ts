import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ModelFileError } from "@pariskv/quantizer";

/**
 * The folder of this package, found from the sources as well as from the built files.
 *
 * @throws ModelFileError when the code has been taken out of its package.
 */
export function packageFolder(): string {
  const start = dirname(fileURLToPath(import.meta.url));
  let folder = start;
  while (!existsSync(join(folder, "package.json"))) {
    if (folder === dirname(folder)) {
      throw new ModelFileError({
        path: start,
        expected: "inside its package",
        received: "a folder outside any package",
      });
    }
    folder = dirname(folder);
  }
  return folder;
}
