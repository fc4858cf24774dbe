// The parts of docs/benchmarks/h200.md that come from whole programs: long sequences, and the bundled model.
import { NOT_MEASURED, table } from "./h200-table.mjs";

const GB = 1e9;
const gigabytes = (/** @type {number | null} */ bytes) => (bytes === null ? "–" : (bytes / GB).toFixed(2));
const share = (/** @type {number | undefined} */ value) => (value === undefined ? "–" : value.toFixed(2));
/** Null where there is none, and missing in earlier runs. */
const percent = (/** @type {number | null | undefined} */ value) =>
  value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)} %`;

/** How far a figure is from a predicted one. */
const off = (/** @type {number | null} */ bytes, /** @type {number} */ predicted) =>
  bytes === null ? "–" : `${((100 * (bytes - predicted)) / predicted).toFixed(2)} %`;

/** What was allocated on device and host. Earlier runs counted by purpose; of those parts only the records are the host's. */
function allocatedBytes({ allocatedBytes: allocated }) {
  if (allocated.host !== undefined) return allocated;
  const { records, ...others } = allocated;
  return { device: Object.values(others).reduce((sum, bytes) => sum + bytes, 0), host: records };
}

export function largePart({ longMemory }) {
  const runs = longMemory.filter(({ ingest }) => ingest);
  const name = ({ setting, ingest }) =>
    `${setting.layers} layers × ${setting.kvHeads} KV heads × ${ingest.zoneTokens / 1024}K`;
  const rows = runs.flatMap((run) =>
    ["device", "host"].map((kind) => {
      const { predictedBytes, measuredBytes, seconds } = run.ingest;
      const [predicted, allocated, measured] = [predictedBytes, allocatedBytes(run.ingest), measuredBytes].map(
        (bytes) => bytes[kind],
      );
      return [
        name(run),
        kind,
        gigabytes(predicted),
        gigabytes(allocated),
        off(allocated, predicted),
        gigabytes(measured),
        off(measured, predicted),
        seconds.toFixed(1),
      ];
    }),
  );
  const looks = runs.map(({ setting, looks, right }) => {
    const layers = [...new Set(looks.map(({ layer }) => layer))].join(", ");
    const worst = Math.max(0, ...looks.map(({ worstError }) => worstError));
    const sum = (/** @type {string} */ key) => looks.reduce((total, look) => total + look[key], 0);
    const verdict = right ? "equal" : "NOT equal, or cut short";
    return `- ${setting.layers} layers of ${setting.zoneTokens / 1024}K: ${verdict}; steps of layer ${layers}: ${sum("candidatesDiffer")} candidates and ${sum("selectedDiffer")} of ${sum("selected")} fetched keys differ, the worst error of attention is ${worst.toExponential(1)}`;
  });
  return `## Long sequences in page-locked host memory

Through the memory manager (\`tools/bench/long-memory.mjs\`): GB that the planner predicts from shapes, GB that were allocated by our own
count, GB that the system says are gone, each of the latter two with how far it is off the prediction, and the seconds in which arenas
were taken and all keys entered. The design's bounds, 2 % (device) and 1 % (page-locked host), are for predicted against allocated, and
the bench fails beyond them. What the system says is not judged: what driver and kernel keep for page-locked memory, their page tables
among it, is in it.

${
  rows.length > 0
    ? `${table(["sequence", "memory", "predicted", "allocated", "off", "measured", "off", "s"], rows, 2)}\n
Decode steps of sampled layers against the CPU backend, which had the same tokens:\n\n${looks.join("\n")}\n`
    : NOT_MEASURED
}`;
}

export function modelPart({ demo, listLong }) {
  const answer = (run, mode) => run.modes.find((entry) => entry.mode === mode);
  const demoRows = demo.flatMap((run) =>
    run.modes.map((mode) => [
      run.device,
      mode.mode,
      `${mode.valuesRight} of ${run.values.length}`,
      mode.tokensPerSecond?.toFixed(0) ?? "–",
      run.prefill.tokensPerSecond.toFixed(0),
    ]),
  );
  const [cuda, cpu] = ["cuda", "cpu"].map((device) => demo.find((run) => run.device === device));
  const same = cuda && cpu && cuda.modes.every(({ mode, text }) => answer(cpu, mode)?.text === text);
  const groups = [...new Set(listLong.map((row) => `${row.task}, ${row.contextTokens / 1024}K, ${row.device}`))];
  return `## The bundled model

### The demo

${
  demo.length > 0
    ? `${table(["device", "attention", "values right", "tokens/s", "prefill tokens/s"], demoRows, 2)}\n${
        cuda && cpu
          ? `\nThe answers on both devices are ${same ? "the same, letter by letter" : "not the same"}.\n`
          : ""
      }`
    : NOT_MEASURED
}
### Long answers

Hundreds of look-ups in one answer, thousands of generated tokens with pages sealed on the way (\`tools/bench/list-long.mjs\`). The share of
values in place, greedily, then with the right answer given up to each value. \`mean\` is the paper's policy; \`-0-2\` has layers 0 to 2 dense.
"Hot set hits" is the share of the searched and fetched keys that were still on the device.

${groups.length > 0 ? groups.map((group) => `${group}:\n\n${longTable(listLong, group)}`).join("\n") : NOT_MEASURED}`;
}

function longTable(listLong, group) {
  const rows = listLong.filter((row) => `${row.task}, ${row.contextTokens / 1024}K, ${row.device}` === group);
  const cells = rows.map(({ seed, policy, inPlaceShares, readShare, hotShare, answerTokens }) => [
    `${seed}`,
    policy,
    share(inPlaceShares.dense),
    share(inPlaceShares.retrieval),
    share(inPlaceShares.forced),
    percent(readShare),
    percent(hotShare),
    `${answerTokens}`,
  ]);
  const titles = ["sample", "policy", "dense", "retrieval", "answer given", "keys read", "hot set hits", "tokens"];
  return `${table(titles, cells, 2)}\n`;
}
