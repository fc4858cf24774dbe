import { ArraySteps, createRetriever } from "../src/index.js";

const shape = { layers: 1, queryHeads: 2, kvHeads: 1, headDim: 64 };
using retriever = createRetriever({ device: "reference", shape, maxTokens: 8192 });
using steps = new ArraySteps(retriever);
using sequence = retriever.createSequence();

// Keys and values of 6,000 tokens, and a token whose two query heads look for number 1,234.
const k = Float32Array.from({ length: 6000 * 64 }, (_, i) => Math.sin(1e4 * Math.sin(i)));
steps.prefill(sequence, 6000, () => ({ k, v: k }));
const needle = k.subarray(1234 * 64, 1235 * 64);
const q = Float32Array.from([...needle, ...needle], (x) => 8 * x);
const none = new Float32Array(64);
const output = steps.decode([sequence], () => ({ q, k: none, v: none }));

console.log(`read ${(100 * (retriever.statistics.read()[0]?.readShare ?? 1)).toFixed(1)} % of K and V`);
console.log(`found: ${output.every((x, i) => Math.abs(x - (needle[i % 64] ?? 0)) < 0.01)}`);
