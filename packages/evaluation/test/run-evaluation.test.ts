import { describe, expect, it } from "vitest";
import { formatReport, formatTable, runEvaluation, TASKS, type TextModel } from "../src/index.js";
import { createRandom } from "../src/random.js";
import { oracleAnswer } from "./oracle.js";
import { wordTokenizer } from "./word-tokenizer.js";

const modelOf = (answer: (prompt: string) => string | Promise<string>): TextModel => ({
  encode: wordTokenizer.encode,
  generate: ({ prompt }) => answer(prompt),
});
const evaluate = (model: TextModel, samples = 2) =>
  runEvaluation({ model, tasks: TASKS, contextTokens: [1024, 2048], samples, seed: 42 });

describe("runEvaluation", () => {
  it("gives a solver that searches the text everything, for every task and length", async () => {
    const report = await evaluate(modelOf(async (prompt) => oracleAnswer(prompt)));
    expect(report.cells).toHaveLength(2 * TASKS.length);
    for (const cell of report.cells) {
      expect(cell).toMatchObject({ samples: 2, inPlaceShare: 1, foundShare: 1, exactShare: 1, emptyAnswers: 0 });
    }
  });

  it("gives an empty answer nothing and counts it", async () => {
    const report = await evaluate(modelOf(() => " \n"));
    for (const cell of report.cells) {
      expect(cell).toMatchObject({ inPlaceShare: 0, foundShare: 0, exactShare: 0, emptyAnswers: 2 });
    }
  });

  it("gives random numbers less than one value in a hundred", async () => {
    const random = createRandom("guesses");
    const guess = () => ` ${Array.from({ length: 4 }, () => `x is: ${random.between(1000, 9_999_999)}`).join("; ")}.`;
    const report = await evaluate(modelOf(guess));
    const mean = report.cells.reduce((sum, cell) => sum + cell.foundShare, 0) / report.cells.length;
    expect(mean).toBeLessThan(0.01);
  });

  it("says what is needed to repeat it", async () => {
    const report = await runEvaluation({
      model: modelOf(oracleAnswer),
      tasks: ["vt"],
      contextTokens: [1024],
      samples: 1,
      seed: 7,
    });
    expect(report).toMatchObject({
      suite: "ruler-style",
      generator: "@pariskv/evaluation/needle@1",
      haystack: "@pariskv/evaluation/haystack@1",
      seed: 7,
    });
  });

  it("leaves the model room for its answer and tells of every answer in order", async () => {
    const told: number[] = [];
    const room: number[] = [];
    const model: TextModel = {
      encode: wordTokenizer.encode,
      generate: ({ prompt, maxNewTokens }) => {
        room.push(maxNewTokens);
        return oracleAnswer(prompt);
      },
    };
    const onAnswer = ({ sample }: { sample: { seed: number } }) => told.push(sample.seed);
    await runEvaluation({ model, tasks: ["single_num"], contextTokens: [1024], samples: 3, seed: 5, onAnswer });
    expect(told).toEqual([5, 6, 7]);
    // A space, seven digits, a full stop, the end token, and eight to spare.
    expect(room).toEqual([18, 18, 18]);
  });

  it("passes on what the model throws", async () => {
    const failing = modelOf(() => Promise.reject(new Error("out of order")));
    await expect(evaluate(failing)).rejects.toThrow("out of order");
  });

  it("refuses no samples", async () => {
    await expect(evaluate(modelOf(oracleAnswer), 0)).rejects.toThrow(
      "Expected samples to be a whole number from 1 to 10000 but received 0.",
    );
  });
});

describe("tables", () => {
  it("align their columns and end no line with a space", () => {
    const table = formatTable(
      [{ title: "name" }, { title: "n", align: "right" }, { title: "note" }],
      [
        ["a", "1000", "long note"],
        ["abcdef", "1"],
      ],
    );
    expect(table).toBe(
      ["name       n  note", "------  ----  ---------", "a       1000  long note", "abcdef     1"].join("\n"),
    );
  });

  it("without rows are a line of titles and a rule", () => {
    expect(formatTable([{ title: "task" }], [])).toBe("task\n----");
  });

  it("show a report in per cent", () => {
    const report = {
      suite: "ruler-style",
      generator: "g",
      haystack: "h",
      seed: 0,
      cells: [
        {
          task: "list",
          contextTokens: 4096,
          samples: 8,
          inPlaceShare: 0.98765,
          foundShare: 1,
          exactShare: 0.5,
          emptyAnswers: 0,
        },
      ],
    } as const;
    expect(formatReport(report)).toBe(
      [
        "task  tokens  samples  in place %  found %  exact %  empty",
        "----  ------  -------  ----------  -------  -------  -----",
        "list    4096        8        98.8    100.0     50.0      0",
      ].join("\n"),
    );
  });
});
