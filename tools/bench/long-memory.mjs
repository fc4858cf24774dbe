// A sequence as long as memory holds, through the memory manager: what it takes against what the planner said, how fast it
// was taken in, and decode steps of sampled layers against the CPU backend. Prints a JSON a line, and fails where a step or
// the planner is wrong.
//
//   node tools/bench/long-memory.mjs [--device cuda] [--layers 28] [--tokens 524288] [--check 0,13,27] [--queries 2]
//
// 8 KV heads of 128 in bf16, four query heads each. Keys and values are windows of one table of random numbers, at places
// that follow from layer and chunk: so the CPU can have any layer of them without the others.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const load = (/** @type {string} */ path) => import(join(root, path, "dist/index.js"));
const [kernels, memory, retrieval] = await Promise.all(
  ["packages/kernels", "packages/memory", "packages/retrieval"].map(load),
);
const { values: flags } = parseArgs({
  options: {
    device: { type: "string", default: "auto" },
    layers: { type: "string", default: "28" },
    tokens: { type: "string", default: "524288" },
    check: { type: "string", default: "0,13,27" },
    queries: { type: "string", default: "2" },
  },
});
const SHAPE = { kvHeads: 8, queryHeads: 32, headDim: 128 };
const GEOMETRY = { kvHeads: 8, queryGroup: 4, headDim: 128, kvDtype: "bf16" };
const POLICY = { ...retrieval.DEFAULT_POLICY, mode: "vote" };
const CHUNK_TOKENS = retrieval.DEFAULT_ZONES.chunkTokens;
const KV_WIDTH = SHAPE.kvHeads * SHAPE.headDim;
const QUERY_WIDTH = SHAPE.queryHeads * SHAPE.headDim;
const NOISE_FLOATS = 2 ** 24;
/** Attention of two backends that read the same bf16: sums of f32 in another order, and now and then a tied key. */
const ALLOWED_ERROR = 2e-3;
/** Furthest that allocated bytes may lie from predicted ones, as a share of the latter. */
const ALLOWED_OFF = { device: 0.02, host: 0.01 };
const MIB = 2 ** 20;

const print = (/** @type {object} */ line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const layers = Number(flags.layers);
const zoneTokens = Number(flags.tokens);
const { sinkTokens, localTokens } = retrieval.DEFAULT_ZONES;
/** The last page is sealed as its last token arrives; the steps to check are one token more. */
const filledTokens = sinkTokens + zoneTokens + localTokens;
const maxTokens = filledTokens + 1;
const noise = drawNoise();

/** Normal numbers from a fixed seed. */
function drawNoise() {
  let state = 1;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  const values = new Float32Array(NOISE_FLOATS);
  for (let at = 0; at < values.length; at += 2) {
    const radius = Math.sqrt(-2 * Math.log(uniform()));
    const angle = 2 * Math.PI * uniform();
    values[at] = radius * Math.cos(angle);
    values[at + 1] = radius * Math.sin(angle);
  }
  return values;
}

/** Where in the table the keys (0) or values (1) of a chunk of a layer begin: a multiple of 16 bytes. */
function placeOf(/** @type {number} */ layer, /** @type {number} */ chunk, /** @type {0 | 1} */ part) {
  let hash = Math.imul(layer * 2 + part + 1, 0x9e3779b1) ^ Math.imul(chunk + 1, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 15), 0xc2b2ae35);
  hash ^= hash >>> 16;
  return ((hash >>> 0) % ((NOISE_FLOATS - CHUNK_TOKENS * KV_WIDTH) / 4)) * 4;
}

/** Appends all tokens of some layers to a new sequence: layer `i` of the retriever is layer `real[i]`. */
function fill(retriever, table, real) {
  const { context } = retriever;
  const sequence = retriever.createSequence();
  for (let first = 0; first < filledTokens; first += CHUNK_TOKENS) {
    const tokens = Math.min(CHUNK_TOKENS, filledTokens - first);
    const step = retriever.beginStep([{ sequence, tokens }]);
    for (const [layer, realLayer] of real.entries()) {
      const rows = (/** @type {0 | 1} */ part) => ({
        buffer: table,
        offsetBytes: 4 * placeOf(realLayer, first / CHUNK_TOKENS, part),
        rowStride: KV_WIDTH,
      });
      context.append({ cache: retriever.memory.cache, layer, step, k: rows(0), v: rows(1) });
    }
    retriever.endStep();
  }
  context.synchronize();
  return sequence;
}

/** One decode step of a layer that is given up afterwards: what was chosen, and the attention. */
function look(retriever, sequence, table, layer, realLayer, query) {
  const { context, plan } = retriever;
  const q = context.allocate(QUERY_WIDTH * 4, "device");
  const out = context.allocate(QUERY_WIDTH * 4, "device");
  q.write(0, noise.subarray(query * QUERY_WIDTH, (query + 1) * QUERY_WIDTH));
  const step = retriever.beginStep([{ sequence }]);
  const row = (/** @type {0 | 1} */ part) => ({
    buffer: table,
    offsetBytes: 4 * placeOf(realLayer, 2 ** 20 + query, part),
    rowStride: KV_WIDTH,
  });
  retriever.queueDecode(layer, step, {
    k: row(0),
    v: row(1),
    q: { buffer: q, rowStride: QUERY_WIDTH },
    out: { buffer: out, rowStride: QUERY_WIDTH },
  });
  const field = (name, values, skip = 0) => {
    const { buffer, offsetBytes = 0 } = plan.field(name);
    buffer.read(offsetBytes + skip * values.byteLength, values);
    return values;
  };
  const { maxCandidates, maxTopK } = plan.params;
  const result = {
    candidateCount: field("candidateCount", new Int32Array(SHAPE.kvHeads), layer),
    candidates: field("candidates", new Uint32Array(SHAPE.kvHeads * maxCandidates)),
    priorities: field("priorities", new Float32Array(SHAPE.kvHeads * maxCandidates)),
    selectedCount: field("selectedCount", new Int32Array(SHAPE.kvHeads), layer),
    selected: field("selected", new Uint32Array(SHAPE.kvHeads * maxTopK)),
    out: new Float32Array(QUERY_WIDTH),
  };
  out.read(0, result.out);
  retriever.abortStep();
  q.dispose();
  out.dispose();
  return result;
}

/** How two looks at one layer differ. Keys may differ only where their priorities are as good as the same. */
function compare(want, got, maxCandidates, maxTopK) {
  let [candidatesDiffer, selectedDiffer, worstTie, selected] = [0, 0, 0, 0];
  for (let head = 0; head < SHAPE.kvHeads; head++) {
    const of = (look, name, width) => look[name].subarray(head * width, head * width + look[`${name}Count`][head]);
    const count = (name) => want[`${name}Count`][head] !== got[`${name}Count`][head];
    const wanted = want.candidates.subarray(head * maxCandidates, head * maxCandidates + want.candidateCount[head]);
    const given = got.candidates.subarray(head * maxCandidates, head * maxCandidates + got.candidateCount[head]);
    candidatesDiffer += Number(count("candidate")) + wanted.filter((key, index) => key !== given[index]).length;
    const keys = of(want, "selected", maxTopK);
    const others = new Set(of(got, "selected", maxTopK));
    const priority = (/** @type {number} */ key) => want.priorities[head * maxCandidates + wanted.indexOf(key)];
    const least = keys.reduce((smallest, key) => Math.min(smallest, priority(key)), Number.POSITIVE_INFINITY);
    const strays = [...keys.filter((key) => !others.has(key)), ...[...others].filter((key) => !keys.includes(key))];
    selected += keys.length;
    selectedDiffer += Number(count("selected")) + strays.length;
    for (const key of strays) worstTie = Math.max(worstTie, Math.abs(priority(key) - least) / least || 1);
  }
  let worstError = 0;
  for (let head = 0; head < SHAPE.queryHeads; head++) {
    let [squares, differences] = [0, 0];
    for (let at = head * SHAPE.headDim; at < (head + 1) * SHAPE.headDim; at++) {
      squares += want.out[at] ** 2;
      differences += (want.out[at] - got.out[at]) ** 2;
    }
    worstError = Math.max(worstError, Math.sqrt(differences / squares));
  }
  return { selected, candidatesDiffer, selectedDiffer, worstTie, worstError };
}

/** Counts the bytes of each kind that a context gives out from now on. */
function countBytes(context) {
  const given = { device: 0, pinned: 0, mapped: 0 };
  const allocate = context.allocate.bind(context);
  context.allocate = (bytes, kind) => {
    given[kind] += bytes;
    return allocate(bytes, kind);
  };
  return given;
}

/**
 * Bytes that the system says are in use; null where it does not say. The driver's own tool counts the device's. More than
 * was allocated: what driver and kernel keep for page-locked memory is in them.
 */
function usedBytes() {
  let device = null;
  try {
    const words = ["--query-gpu=memory.used", "--format=csv,noheader,nounits"];
    device = Number(execFileSync("nvidia-smi", words, { encoding: "utf8", stdio: "pipe" })) * MIB;
  } catch {}
  const info = readFileSync("/proc/meminfo", "utf8");
  const kibibytes = (/** @type {string} */ name) => Number(info.match(new RegExp(`${name}: *(\\d+)`))?.[1]);
  return { device, host: (kibibytes("MemTotal") - kibibytes("MemAvailable")) * 1024 };
}

/** What the planner says, from shapes alone, of what `createRetriever` takes on a device. */
function predict(device) {
  const geometry = { ...GEOMETRY, layers };
  const capacity = retrieval.planCapacity(POLICY, layers, maxTokens);
  const plan = memory.planMemory({
    geometry,
    zones: retrieval.DEFAULT_ZONES,
    contextTokens: maxTokens,
    sequences: 1,
    countIds: POLICY.votes === "tiered",
    hotLines: retrieval.defaultHotLines(POLICY, layers, device),
    workspaceBytes: kernels.planLayout({ ...geometry, group: POLICY.group, maxRows: 1, ...capacity }).bytes,
  });
  return { device: plan.bytes.device, host: plan.bytes.mapped + plan.bytes.pinned };
}

/** A table on a context, and a retriever of some layers. */
function place(context, layerCount, tokens) {
  const table = context.allocate(noise.byteLength, "device");
  table.write(0, noise);
  const retriever = retrieval.createRetriever({
    context,
    shape: { ...SHAPE, layers: layerCount },
    maxTokens: tokens,
    policy: POLICY,
  });
  return { table, retriever };
}

const context = kernels.createContext({ device: flags.device });
print({
  device: context.device,
  detail: context.detail,
  layers,
  zoneTokens,
  ...SHAPE,
  kvDtype: "bf16",
  policy: POLICY,
});
const table = context.allocate(noise.byteLength, "device");
table.write(0, noise);
// Kernels and libraries load at their first use: not what the memory of a sequence is.
const small = retrieval.createRetriever({ context, shape: { ...SHAPE, layers: 1 }, maxTokens: 4096, policy: POLICY });
const first = small.createSequence();
small.beginStep([{ sequence: first, tokens: 1 }]);
context.append({
  cache: small.memory.cache,
  layer: 0,
  step: small.step(1),
  k: { buffer: table, rowStride: KV_WIDTH },
  v: { buffer: table, rowStride: KV_WIDTH },
});
small.endStep();
look(small, first, table, 0, 0, 0);
small.dispose();

const before = usedBytes();
const given = countBytes(context);
const start = performance.now();
const retriever = retrieval.createRetriever({ context, shape: { ...SHAPE, layers }, maxTokens, policy: POLICY });
const sequence = fill(
  retriever,
  table,
  Array.from({ length: layers }, (_, layer) => layer),
);
const seconds = (performance.now() - start) / 1000;
const after = usedBytes();
const parts = { ...retriever.memory.bytes, workspaces: retriever.plan.bytes };
const predicted = predict(context.device);
// The backend takes workspaces itself.
const allocated = { device: given.device + parts.workspaces, host: given.pinned + given.mapped };
const measured = {
  device: before.device === null ? null : after.device - before.device,
  host: after.host - before.host,
};
print({
  tokens: sequence.tokens,
  zoneTokens: sequence.counts.zone,
  seconds,
  predictedBytes: predicted,
  allocatedBytes: allocated,
  measuredBytes: measured,
  partsBytes: parts,
});

const isPredicted = (/** @type {"device" | "host"} */ kind) =>
  Math.abs(allocated[kind] - predicted[kind]) <= ALLOWED_OFF[kind] * predicted[kind];
let right = sequence.counts.zone === zoneTokens && isPredicted("device") && isPredicted("host");
const processor = kernels.createContext({ device: "cpu" });
const { maxCandidates, maxTopK } = retriever.plan.params;
for (const layer of flags.check.split(",").map(Number)) {
  const looks = (of, at, on, keys) =>
    Array.from({ length: Number(flags.queries) }, (_, query) => look(on, of, keys, at, layer, query));
  const got = looks(sequence, layer, retriever, table);
  const { table: ownTable, retriever: own } = place(processor, 1, maxTokens);
  const want = looks(fill(own, ownTable, [layer]), 0, own, ownTable);
  own.dispose();
  ownTable.dispose();
  for (const [query, look] of want.entries()) {
    const difference = compare(look, got[query], maxCandidates, maxTopK);
    const equal =
      difference.candidatesDiffer === 0 && difference.worstTie < 1e-4 && difference.worstError < ALLOWED_ERROR;
    right &&= equal;
    print({ layer, query, equal, ...difference });
  }
}
print({ right });
retriever.dispose();
process.exitCode = right ? 0 : 1;
