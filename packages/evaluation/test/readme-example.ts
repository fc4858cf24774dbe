import { formatReport, runEvaluation, type TextModel } from "../src/index.js";

// Any model will do. This one reads no further than the first number.
const model: TextModel = {
  encode: (text) => (text.match(/ ?[a-z]+|\d|\S|\s/gi) ?? []).map((piece) => piece.length),
  generate: ({ prompt }) => ` ${prompt.match(/\d+/)}.`,
};

const tasks = ["single_num", "multikey"] as const;
const report = await runEvaluation({ model, tasks, contextTokens: [4096], samples: 20, seed: 42 });
console.log(formatReport(report));
