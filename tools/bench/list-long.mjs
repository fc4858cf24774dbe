// Long answers of the bundled model: hundreds of look-ups in one text, thousands of generated tokens, with pages sealed on
// the way. Dense attention and retrieval go on side by side from one prompt, greedily, and retrieval once more with the
// right answer given, which separates its slips from their consequences. Prints a JSON a line as each sample ends.
//
//   node tools/bench/list-long.mjs [--device cuda] [--fixtures eval_prompts.json.gz] [--context 32768] [--samples 2]
//     [--policies default,mean,...] [--tokens N]
//
// With --fixtures the recorded prompts of that length are taken, else samples of our own generator.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const load = (/** @type {string} */ path) => import(join(root, path, "dist/index.js"));
const [kernels, decoder, evaluation] = await Promise.all(
  ["packages/kernels", "apps/decoder", "packages/evaluation"].map(load),
);
const { values: flags } = parseArgs({
  options: {
    device: { type: "string", default: "auto" },
    fixtures: { type: "string" },
    task: { type: "string", default: "list_long" },
    context: { type: "string", default: "32768" },
    samples: { type: "string", default: "2" },
    policies: { type: "string", default: "default,mean,default-0-2,mean-0-2" },
    // Most tokens of an answer, for a quick look.
    tokens: { type: "string", default: "1000000" },
  },
});

/** The paper: tiered votes on the mean query of a group, its shares of candidates. */
const PAPER = { mode: "vote", votes: "tiered", group: "mean", candidateShare: "paper" };
const FIRST_LAYERS_DENSE = { layers: Object.fromEntries([0, 1, 2].map((layer) => [layer, { mode: "dense" }])) };
const POLICIES = {
  default: { mode: "vote" },
  mean: PAPER,
  "default-0-2": { mode: "vote", ...FIRST_LAYERS_DENSE },
  "mean-0-2": { ...PAPER, ...FIRST_LAYERS_DENSE },
};
const SPARE_TOKENS = 8;
/** Reading the statistics of a step waits for the device: every so many steps are enough for a mean. */
const STATISTICS_STEPS = 64;

const contextTokens = Number(flags.context);
const folder = decoder.openModelFolder(decoder.bundledModelPath());
const tokenizer = decoder.TextTokenizer.open(folder.path);

/** @typedef {{ seed: number, promptIds: number[], expectedIds: number[], expectedText: string, values: string[],
 *   ranges: { begin: number, end: number }[] }} Question */

/** @returns {Question[]} */
function questions() {
  const count = Number(flags.samples);
  if (flags.fixtures) {
    const { items } = JSON.parse(gunzipSync(readFileSync(flags.fixtures)).toString("utf8"));
    return items
      .filter((item) => item.task === flags.task && item.L === contextTokens)
      .slice(0, count)
      .map((item) => ({
        seed: item.seed,
        promptIds: item.prompt_ids,
        expectedIds: item.expected_ids,
        expectedText: item.expected_text,
        values: item.values,
        ranges: item.value_spans.map(([begin, end]) => ({ begin, end })),
      }));
  }
  return Array.from({ length: count }, (_, seed) => {
    const sample = evaluation.buildSample({ task: flags.task, contextTokens, seed, tokenizer });
    return {
      seed,
      promptIds: [...tokenizer.encode(sample.prompt)],
      expectedIds: [...tokenizer.encode(sample.expectedText)],
      expectedText: sample.expectedText,
      values: sample.values,
      ranges: evaluation.valueTokenRanges({ tokenizer, sample }),
    };
  });
}

/**
 * Decodes rows of one prompt together until each has ended. Gives tokens and predictions of each, what it took, and what
 * the retrieving row read: of the context, and of the keys that it searched and fetched from the hot set.
 */
function decodeTogether(model, rows, mostTokens) {
  let active = rows;
  let steps = 0;
  const reads = [];
  let [selected, hotHits] = [0, 0];
  const start = performance.now();
  while (active.length > 0) {
    const tokens = active.map((row) => row.next(row.predicted.at(-1)));
    active = active.filter((_, index) => tokens[index] !== undefined);
    if (active.length === 0 || steps === mostTokens) break;
    model.decode(
      active.map((row) => row.sequence),
      Int32Array.from(tokens.filter((token) => token !== undefined)),
    );
    const best = model.readBest(active.length);
    for (const [index, row] of active.entries()) row.predicted.push(best[index]);
    steps++;
    const searching = active.findIndex((row) => row.name === "retrieval");
    if (steps % STATISTICS_STEPS === 0 && searching >= 0) {
      const { readShare, layers } = model.retriever.statistics.read()[searching];
      reads.push(readShare);
      for (const layer of layers.filter(({ mode }) => mode !== "dense")) {
        selected += layer.selected;
        hotHits += layer.hotHits;
      }
    }
  }
  const seconds = (performance.now() - start) / 1000;
  const hasHotSet = model.retriever.memory.bytes.hotSet > 0;
  return {
    steps,
    seconds,
    readShare: reads.reduce((sum, share) => sum + share, 0) / Math.max(1, reads.length),
    hotShare: hasHotSet && selected > 0 ? hotHits / selected : null,
  };
}

/** The share of the values whose every token was predicted, given the right answer before it. */
const forcedShare = (question, predicted) =>
  evaluation.scoreTeacherForced({
    expectedIds: question.expectedIds,
    predictedIds: predicted,
    ranges: question.ranges.filter(({ end }) => end <= predicted.length),
  });

async function answer(model, name, question, withDense) {
  const prompt = model.createSequence();
  const prefillStart = performance.now();
  const firstLogits = await decoder.prefill(model, prompt, Uint32Array.from(question.promptIds));
  const prefillSeconds = (performance.now() - prefillStart) / 1000;
  const first = decoder.mostLikely(firstLogits);
  const free = (/** @type {number} */ predicted) => (folder.eosTokenIds.includes(predicted) ? undefined : predicted);
  let given = 0;
  const rows = [
    ...(withDense ? [{ name: "dense", mode: "dense", next: free }] : []),
    { name: "retrieval", mode: "policy", next: free },
    { name: "forced", mode: "policy", next: () => question.expectedIds[given++] },
  ].map((row) => {
    const sequence = prompt.fork();
    sequence.mode = row.mode;
    return { ...row, sequence, predicted: [first] };
  });
  const mostTokens = Math.min(Number(flags.tokens), question.expectedIds.length + SPARE_TOKENS);
  const result = decodeTogether(model, rows, mostTokens);
  const shares = Object.fromEntries(
    rows.map(({ name: row, predicted }) => [
      row,
      row === "forced"
        ? forcedShare(question, predicted)
        : evaluation.scoreValues(tokenizer.decode(predicted.filter((id) => !folder.eosTokenIds.includes(id))), {
            task: flags.task,
            ...question,
          }).inPlaceShare,
    ]),
  );
  for (const { sequence } of rows) sequence.dispose();
  prompt.dispose();
  const line = {
    task: flags.task,
    contextTokens,
    seed: question.seed,
    policy: name,
    device: model.context.device,
    promptTokens: question.promptIds.length,
    answerTokens: question.expectedIds.length,
    values: question.values.length,
    inPlaceShares: shares,
    readShare: result.readShare,
    hotShare: result.hotShare,
    rows: rows.length,
    steps: result.steps,
    decodeSeconds: result.seconds,
    prefillSeconds,
  };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const all = questions();
const longest = Math.max(...all.map(({ promptIds, expectedIds }) => promptIds.length + expectedIds.length));
const maxTokens = longest + 2 * SPARE_TOKENS;
const context = kernels.createContext({ device: flags.device });
for (const [index, name] of flags.policies.split(",").entries()) {
  if (!(name in POLICIES)) throw new Error(`Expected a policy of ${Object.keys(POLICIES)} but received ${name}.`);
  const model = await decoder.DecoderModel.load(folder, {
    context,
    maxTokens,
    maxSequences: 4,
    policy: POLICIES[name],
    capacityPages: decoder.forkCapacityPages(maxTokens, 4, longest - Math.min(...all.map((q) => q.promptIds.length))),
  });
  for (const question of all) await answer(model, name, question, index === 0);
  model.dispose();
}
context.dispose();
folder.close();
