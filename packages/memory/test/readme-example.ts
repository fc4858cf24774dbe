import { longestContext, planMemory } from "../src/index.js";

// The shape of Llama-3.1-8B, its weights, and where tokens are to live.
const geometry = { layers: 32, kvHeads: 8, queryGroup: 4, headDim: 128, kvDtype: "bf16" } as const;
const zones = { sinkTokens: 64, localTokens: 256, chunkTokens: 512 };
const weightBytes = 16_060_522_496;
const request = { geometry, zones, contextTokens: 131_072, sequences: 1, countIds: false, weightBytes };

for (const { purpose, kind, bytes } of planMemory(request).lines) {
  console.log(`${purpose}: ${(bytes / 2 ** 30).toFixed(3)} GiB, ${kind}`);
}
const limits = { deviceBytes: 24 * 2 ** 30, hostBytes: 64 * 2 ** 30 };
console.log(`${longestContext(request, limits, 1_048_576)} tokens fit in 24 GiB with 64 GiB of host memory`);
