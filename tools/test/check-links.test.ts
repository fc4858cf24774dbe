import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkLinks } from "../check-links.mjs";

let root = "";
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "pariskv links "));
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

function put(path: string, text: string): void {
  mkdirSync(join(root, dirname(path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

describe("links in Markdown", () => {
  it("accepts files, folders, headings, and addresses of the web", () => {
    put("docs/a.md", "# A page: `code` & more\n[self](#a-page-code--more)");
    put("README.md", "[a](docs/a.md) [b](docs) [c](docs/a.md#a-page-code--more) [d](https://example.invalid/x)");
    expect(checkLinks(root)).toEqual([]);
  });

  it("finds a missing file and a missing heading", () => {
    put("docs/a.md", "# A\n[up](../README.md#nothing)");
    put("README.md", "# B\n[a](a.md)");
    expect(checkLinks(root)).toEqual([
      "README.md: the link a.md leads nowhere",
      "docs/a.md: the link ../README.md#nothing names a heading that is not there",
    ]);
  });

  it("leaves blocks of code and other people's files alone", () => {
    put("README.md", "```md\n[a](a.md)\n```\n[b](b.md)");
    put("node_modules/x/README.md", "[a](a.md)");
    expect(checkLinks(root)).toEqual(["README.md: the link b.md leads nowhere"]);
  });
});
