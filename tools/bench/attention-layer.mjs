// One attention layer, one decode step: retrieval against our own dense attention, over caches larger than the
// processor's own, so that every step reads memory.
import { summarize } from "./machine.mjs";

/** 32 query heads, 8 KV heads, head_dim 128: one layer of an 8B model. */
export const SHAPE = { queryHeads: 32, kvHeads: 8, headDim: 128 };

/** Bytes of K and V, over all layers, that a step cycles through: more than any processor's cache. */
const COLD_BYTES = 1.5e9;
const WARM_ROUNDS = 1;
const VERBS = ["probe", "collide", "select", "rerank", "attend"];

/**
 * Times every policy at one length. Returns one row a policy.
 * @param {typeof import("../../packages/retrieval/src/index.js")} retrieval
 * @param {{ context: import("../../packages/kernels/src/index.js").Context, contextTokens: number, rounds: number,
 *   kvDtype?: "bf16" | "f16" | "f32",
 *   policies: { name: string, policy: Partial<import("../../packages/retrieval/src/index.js").RetrievalPolicy> }[] }} options
 */
export function benchAttentionLayer(retrieval, options) {
  const { context, contextTokens, rounds, policies, kvDtype = "bf16" } = options;
  const layerBytes = contextTokens * SHAPE.kvHeads * 2 * SHAPE.headDim * (kvDtype === "f32" ? 4 : 2);
  const layers = Math.max(2, Math.ceil(COLD_BYTES / layerBytes));
  const rows = [];
  for (const { name, policy } of policies) {
    const retriever = retrieval.createRetriever({
      context,
      shape: { ...SHAPE, layers },
      kvDtype,
      maxTokens: contextTokens + 1024,
      policy,
    });
    const sequence = retriever.createSequence();
    const random = createNoise(7);
    const { q, out } = fill(retriever, sequence, contextTokens, random);
    const step = retriever.beginStep([{ sequence }]);
    const tapes = Array.from({ length: layers }, (_, layer) =>
      context.record(() => {
        const plan = retriever.plan;
        if (policy.mode !== "dense") {
          context.probe({ plan, layer, step, q });
          context.collide({ plan, layer, step });
          context.select({ plan, layer, step });
          context.rerank({ plan, layer, step });
        }
        context.attend({ plan, layer, step, q, out });
      }),
    );
    const query = new Float32Array(SHAPE.queryHeads * SHAPE.headDim);
    const times = [];
    for (let round = 0; round < WARM_ROUNDS + rounds; round++) {
      if (round === WARM_ROUNDS) context.takeTimes();
      for (const tape of tapes) {
        random.fill(query);
        q.buffer.write(0, query);
        const begin = performance.now();
        tape.run();
        if (round >= WARM_ROUNDS) times.push((performance.now() - begin) * 1000);
      }
    }
    const stages = Object.fromEntries(
      [...context.takeTimes()]
        .filter(([verb]) => VERBS.includes(verb))
        .map(([verb, time]) => [verb, time.microseconds / (rounds * layers)]),
    );
    retriever.abortStep();
    rows.push({
      contextTokens,
      policy: name,
      layers,
      stepUs: summarize(times),
      stageUs: stages,
      bytes: bytesOf(retriever, sequence),
    });
    for (const tape of tapes) tape.dispose();
    retriever.dispose();
  }
  return rows;
}

/** Bytes that one step reads, by what they are, from the plan's own counts. */
function bytesOf(retriever, sequence) {
  const { kvHeads, headDim } = SHAPE;
  const read = (/** @type {"candidateCount" | "selectedCount"} */ name) => {
    const counts = new Int32Array(kvHeads);
    const { buffer, offsetBytes = 0 } = retriever.plan.field(name);
    buffer.read(offsetBytes, counts);
    return counts.reduce((sum, count) => sum + count, 0);
  };
  const { sink, zone, ring } = sequence.counts;
  const record = 2 * headDim * (retriever.memory.geometry.kvDtype === "f32" ? 4 : 2);
  const dense = retriever.mode(sequence, 0) === "dense";
  const subspaces = headDim / 8;
  const candidates = dense ? 0 : read("candidateCount");
  const selected = dense ? zone * kvHeads : read("selectedCount");
  return {
    ids: dense ? 0 : zone * kvHeads * subspaces,
    codesAndWeights: candidates * (headDim / 2 + subspaces),
    records: ((sink + ring) * kvHeads + selected) * record,
    candidates,
    selected,
  };
}

/** Appends random tokens to all layers, a chunk at a time. */
function fill(retriever, sequence, tokens, random) {
  const { context, memory, shape } = retriever;
  const rowsOf = (/** @type {number} */ heads) => {
    const rowStride = heads * shape.headDim;
    return { buffer: context.allocate(memory.zones.chunkTokens * rowStride * 4, "device"), rowStride };
  };
  const rows = {
    q: rowsOf(shape.queryHeads),
    k: rowsOf(shape.kvHeads),
    v: rowsOf(shape.kvHeads),
    out: rowsOf(shape.queryHeads),
  };
  const chunk = new Float32Array(memory.zones.chunkTokens * shape.kvHeads * shape.headDim);
  for (let first = 0; first < tokens; first += memory.zones.chunkTokens) {
    const count = Math.min(memory.zones.chunkTokens, tokens - first);
    const step = retriever.beginStep([{ sequence, tokens: count }]);
    for (let layer = 0; layer < shape.layers; layer++) {
      random.fill(chunk);
      rows.k.buffer.write(0, chunk);
      rows.v.buffer.write(0, chunk);
      context.append({ cache: memory.cache, layer, step, k: rows.k, v: rows.v });
    }
    retriever.endStep();
  }
  return rows;
}

/** Normal numbers: vectors are windows at random places of one long table, which is all that timing needs. */
function createNoise(/** @type {number} */ seed) {
  let state = seed;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  const table = Float32Array.from(
    { length: 1 << 21 },
    () => Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next()),
  );
  const width = SHAPE.headDim;
  return {
    fill(/** @type {Float32Array} */ target) {
      for (let at = 0; at < target.length; at += width) {
        const from = Math.floor(next() * (table.length - width));
        target.set(table.subarray(from, from + Math.min(width, target.length - at)), at);
      }
    },
  };
}
