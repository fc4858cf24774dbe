// Answers of the bundled model with dense attention and with retrieval, and dense against recorded outputs of another
// implementation. Writes docs/benchmarks/quality.json and prints docs/benchmarks/quality.md from it.
//   node tools/bench/quality.mjs --fixtures eval_prompts.json.gz [--lengths 4096,16384,32768] [--samples 20,20,8]
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import { describeRun } from "./machine.mjs";
import { qualityPage } from "./quality-page.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const load = (/** @type {string} */ path) => import(join(root, path, "dist/index.js"));
const [kernels, decoder, evaluation] = await Promise.all(
  ["packages/kernels", "apps/decoder", "packages/evaluation"].map(load),
);
const { values: flags } = parseArgs({
  options: {
    fixtures: { type: "string" },
    lengths: { type: "string", default: "4096,16384,32768" },
    samples: { type: "string", default: "20,20,8" },
    device: { type: "string", default: "auto" },
    tasks: { type: "string", default: "single_num,multikey,multiquery,vt" },
    share: { type: "string" },
    out: { type: "string", default: "docs/benchmarks" },
    // Where to write the dense tokens of the recorded prompts, for tools/bench/verify-tokens.py.
    tokens: { type: "string" },
  },
});
const say = (/** @type {string} */ text) => process.stderr.write(`${text}\n`);

const SPARE_TOKENS = 8;
/**
 * Logit margin below which two correct implementations may choose differently. The recorded outputs come from bf16
 * arithmetic throughout, where logits of 16 to 32 are 0.125 apart: four such steps.
 */
const MARGIN = 0.5;

const folder = decoder.openModelFolder(decoder.bundledModelPath());
const tokenizer = decoder.TextTokenizer.open(folder.path);
const context = kernels.createContext({ device: flags.device });
const policy = { mode: "vote", topK: 100, group: "max", ...(flags.share && { candidateShare: Number(flags.share) }) };
const modelFor = async (/** @type {number} */ maxTokens) =>
  decoder.DecoderModel.load(folder, {
    context,
    maxTokens,
    maxSequences: 3,
    policy,
    capacityPages: maxTokens / 512 + 40,
  });

const argmax = (/** @type {Float32Array} */ logits) =>
  logits.reduce((best, value, id) => (value > logits[best] ? id : best), 0);
/** Greedy continuation, with the margin between the two largest logits at every token. */
async function greedy(model, sequence, firstLogits, maxTokens) {
  const tokens = [];
  const margins = [];
  let readShare = 0;
  let steps = 0;
  const choose = (/** @type {Float32Array} */ logits) => {
    const best = argmax(logits);
    let second = Number.NEGATIVE_INFINITY;
    for (let id = 0; id < logits.length; id++) if (id !== best && logits[id] > second) second = logits[id];
    margins.push(logits[best] - second);
    return best;
  };
  const onStep = () => {
    readShare += model.retriever.statistics.read()[0].readShare;
    steps++;
  };
  const run = decoder.generate(model, sequence, {
    firstLogits,
    maxTokens,
    endTokenIds: folder.eosTokenIds,
    choose,
    onStep,
  });
  for await (const token of run) tokens.push(token);
  return { tokens, margins, readShare: steps ? readShare / steps : 1 };
}
/** Reads a prompt once and answers it both ways. */
async function both(model, promptIds, maxTokens) {
  const prompt = model.createSequence();
  const firstLogits = await decoder.prefill(model, prompt, promptIds);
  const answer = async (/** @type {"dense" | "policy"} */ mode) => {
    const sequence = prompt.fork();
    sequence.mode = mode;
    const result = await greedy(model, sequence, firstLogits, maxTokens);
    sequence.dispose();
    return result;
  };
  const answers = { dense: await answer("dense"), retrieval: await answer("policy") };
  prompt.dispose();
  return answers;
}

/** Recorded chains of `vt` are one value from the first name to the number, ours one value a hop. */
function scoreRecorded(text, sample) {
  const score = evaluation.scoreValues(text, sample);
  return sample.task === "vt" ? score.foundShare : score.inPlaceShare;
}

const recorded = [];
const denseTokens = [];
if (flags.fixtures) {
  const { items } = JSON.parse(gunzipSync(readFileSync(flags.fixtures)).toString("utf8"));
  const short = items.filter((item) => item.L === 4096);
  const model = await modelFor(8192);
  for (const task of new Set(short.map((item) => item.task))) {
    const row = {
      task,
      prompts: 0,
      equal: 0,
      closeCalls: 0,
      wrong: 0,
      parted: [],
      values: 0,
      denseRight: 0,
      retrievalRight: 0,
      recordedRight: 0,
      readShare: 0,
    };
    for (const item of short.filter((entry) => entry.task === task).slice(0, 20)) {
      const { dense, retrieval } = await both(model, item.prompt_ids, item.greedy_ids.length + SPARE_TOKENS);
      denseTokens.push({ task, seed: item.seed, prompt: item.prompt_ids, answer: dense.tokens });
      const ids = item.greedy_ids.filter((id) => !folder.eosTokenIds.includes(id));
      // An output that was cut at its limit has no end token: then only what was recorded is compared.
      const ended = ids.length < item.greedy_ids.length;
      const at = ids.findIndex((id, index) => dense.tokens[index] !== id);
      const first = at < 0 && ended && dense.tokens.length !== ids.length ? ids.length : at;
      row.prompts++;
      if (first < 0) row.equal++;
      else if (dense.margins[first] < MARGIN) row.closeCalls++;
      else row.wrong++;
      if (first >= 0) row.parted.push({ seed: item.seed, token: first, margin: dense.margins[first] });
      const sample = { task, values: item.values, expectedText: item.expected_text };
      const right = (/** @type {ArrayLike<number>} */ tokens) =>
        Math.round(scoreRecorded(tokenizer.decode(tokens), sample) * item.values.length);
      row.values += item.values.length;
      row.denseRight += right(dense.tokens);
      row.retrievalRight += right(retrieval.tokens);
      row.recordedRight += right(ids);
      row.readShare += retrieval.readShare;
    }
    row.readShare /= row.prompts;
    recorded.push(row);
    say(JSON.stringify(row));
  }
  model.dispose();
}

if (flags.tokens) writeFileSync(flags.tokens, JSON.stringify(denseTokens));

const answers = [];
const samples = flags.samples.split(",").map(Number);
for (const [index, contextTokens] of flags.lengths.split(",").map(Number).entries()) {
  const model = await modelFor(contextTokens + 1024);
  for (const task of flags.tasks.split(",")) {
    const row = {
      task,
      contextTokens,
      samples: samples[index],
      values: 0,
      denseRight: 0,
      retrievalRight: 0,
      readShare: 0,
    };
    for (let seed = 0; seed < samples[index]; seed++) {
      const sample = evaluation.buildSample({ task, contextTokens, seed, tokenizer });
      const promptIds = tokenizer.encode(sample.prompt);
      const { dense, retrieval } = await both(model, promptIds, sample.answerTokens + SPARE_TOKENS);
      const right = (/** @type {ArrayLike<number>} */ tokens) =>
        Math.round(evaluation.scoreValues(tokenizer.decode(tokens), sample).inPlaceShare * sample.values.length);
      row.values += sample.values.length;
      row.denseRight += right(dense.tokens);
      row.retrievalRight += right(retrieval.tokens);
      row.readShare += retrieval.readShare / samples[index];
    }
    answers.push(row);
    say(JSON.stringify(row));
  }
  model.dispose();
}

const result = {
  run: { ...describeRun(), backend: `${context.device}, ${context.detail}` },
  margin: MARGIN,
  policy,
  recorded,
  answers,
};
writeFileSync(join(root, flags.out, "quality.json"), `${JSON.stringify(result, null, 1)}\n`);
writeFileSync(join(root, flags.out, "quality.md"), qualityPage(result));
say(`wrote quality.json and quality.md to ${flags.out}`);
context.dispose();
folder.close();
