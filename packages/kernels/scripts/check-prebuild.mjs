// prepack of every platform package: an empty package, or one with a binary of another system, is never published.
import { existsSync, readFileSync } from "node:fs";
import { basename } from "node:path";

const name = basename(process.cwd()); // "linux-x64", "linux-x64-cuda"
const MAGIC = new Map([
  [0x7f454c46, "linux"], // ELF
  [0xcffaedfe, "darwin"], // Mach-O, 64 bits
]);

function complaint() {
  if (!existsSync("kernels.node")) return "kernels.node is missing: run build:native on that platform first";
  const system = MAGIC.get(readFileSync("kernels.node").readUInt32BE(0)) ?? "an unknown system";
  return name.startsWith(system) ? "" : `kernels.node is a binary for ${system}`;
}

const found = complaint();
if (found) console.error(`npm/${name}: ${found}`);
process.exitCode = found ? 1 : 0;
