/**
 * The sentences that the bundled model was trained on. Every piece begins with a space, so that pieces are joined as
 * they are; none holds a line break.
 */

/** What a fact says of its key. */
export type FactKind = "number" | "word" | "uuid" | "code";

/** A fact as it stands in the haystack; `asked` when the answer needs it. */
export interface Fact {
  readonly text: string;
  readonly asked: boolean;
}

/** A piece of an answer; `isValue` when it is one of the values that are scored. */
export interface AnswerPiece {
  readonly text: string;
  readonly isValue: boolean;
}

/** A question, up to where the model takes over, and the answer it should give. */
export interface Question {
  readonly text: string;
  readonly answer: readonly AnswerPiece[];
}

const fixed = (text: string): AnswerPiece => ({ text, isValue: false });
const value = (text: string): AnswerPiece => ({ text: ` ${text}`, isValue: true });
const END = fixed(".");

/** ` One of the special magic numbers for adjective noun is: 1234567.`, or ` The code for adjective noun is 1234.` */
export function keyFact(kind: FactKind, key: string, factValue: string): string {
  return kind === "code"
    ? ` The code for ${key} is ${factValue}.`
    : ` One of the special magic ${kind}s for ${key} is: ${factValue}.`;
}

/** ` Road: adjective noun -> adjective noun.`; the last step of a walk leads to `home`. */
export const roadFact = (from: string, to: string): string => ` Road: ${from} -> ${to}.`;

/** ` VAR noun = VAR noun.` or ` VAR noun = 12345.` */
export const variableFact = (name: string, assigned: string): string => ` VAR ${name} = ${assigned}.`;

/** One key with one value: the question's end restates it and the answer is the value alone. */
export function askOne(kind: FactKind, key: string, factValue: string): Question {
  const subject = `special magic ${kind} for ${key}`;
  return {
    text: ` Question: What is the ${subject}? Answer: The ${subject} is:`,
    answer: [value(factValue), END],
  };
}

/** One key with several values: the answer repeats the key before each. */
export function askAllValues(kind: FactKind, key: string, values: readonly string[]): Question {
  return {
    text: ` Question: What are all the special magic ${kind}s for ${key}? Answer:`,
    answer: answerPairs(
      " is:",
      values.map((factValue) => ({ key, value: factValue })),
    ),
  };
}

/** Several keys with one value each, in the order asked. */
export function askMany(kind: FactKind, asked: readonly { readonly key: string; readonly value: string }[]): Question {
  const keys = joinKeys(asked.map(({ key }) => key));
  return kind === "code"
    ? { text: ` Question: List the codes for ${keys}. Answer:`, answer: answerPairs(" is", asked) }
    : {
        text: ` Question: What are the special magic ${kind}s for ${keys}? Answer:`,
        answer: answerPairs(" is:", asked),
      };
}

/** A walk from `stops[0]`; the answer names every further stop and `home`. */
export function askRoad(stops: readonly string[]): Question {
  const [start = "", ...rest] = stops;
  return {
    text: ` Question: Where does the road from ${start} lead? Answer: ${start}`,
    answer: [...[...rest, "home"].flatMap((stop) => [fixed(" ->"), value(stop)]), END],
  };
}

/** The value of a variable; the answer names every variable on the way. */
export function askVariable(names: readonly string[], assigned: string): Question {
  const [first = "", ...rest] = names;
  return {
    text: ` Question: What is the value of VAR ${first}? Answer: VAR ${first}`,
    answer: [...[...rest.map((name) => `VAR ${name}`), assigned].flatMap((right) => [fixed(" ="), value(right)]), END],
  };
}

function answerPairs(
  verb: " is" | " is:",
  pairs: readonly { readonly key: string; readonly value: string }[],
): AnswerPiece[] {
  const pieces = pairs.flatMap((pair, index) => [
    fixed(`${index === 0 ? "" : ";"} ${pair.key}${verb}`),
    value(pair.value),
  ]);
  return [...pieces, END];
}

/** `a`, `a and b`, `a, b and c`. */
function joinKeys(keys: readonly string[]): string {
  const last = keys.at(-1) ?? "";
  return keys.length < 2 ? last : `${keys.slice(0, -1).join(", ")} and ${last}`;
}
