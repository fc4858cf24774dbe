import { readFileSync } from "node:fs";
import { createHaystack, type Haystack } from "./haystack.js";

let loaded: Haystack | undefined;

/**
 * The haystack that comes with the package: about 78,000 tokens of the King James Bible and of WordNet glosses, without
 * a digit. It is read once; see `data/NOTICE.md` for its sources.
 */
export function loadHaystack(): Haystack {
  // `src/` and `dist/` are both beside `data/`.
  loaded ??= createHaystack({
    name: "@pariskv/evaluation/haystack@1",
    text: readFileSync(new URL("../data/haystack.txt", import.meta.url), "utf8"),
  });
  return loaded;
}
