import { drawKeys } from "./draw-keys.js";
import { drawValue } from "./draw-value.js";
import { createRandom } from "./random.js";
import { askAllValues, askMany, askOne, type Fact, type FactKind, keyFact } from "./sentences.js";
import { averageTokens, type PlanRequest, type TaskPlan } from "./task-plan.js";

/** Tokens kept free for the question and the answer of one look-up. */
const ONE_QUESTION_TOKENS = 60;

/** Tokens kept free for the words around a list. */
const LIST_FRAME_TOKENS = 30;

/** The longest list: codes have four digits, and those asked for are distinct and half of all at most. */
const MAX_LIST_LENGTH = 4096;

/** One fact, asked for. */
export const planSingle = (request: PlanRequest, kind: FactKind): TaskPlan => planLookup(request, kind, 1, 1);

/** One fact in every 150 tokens, one of them asked for. */
export const planMultikey = (request: PlanRequest): TaskPlan =>
  planLookup(request, "number", Math.max(2, Math.floor(request.contextTokens / 150)), 1);

/** As many facts as there is room for, one of them asked for. */
export function planMultikeyDense(request: PlanRequest): TaskPlan {
  const facts = Math.floor((request.contextTokens - ONE_QUESTION_TOKENS) / factTokens(request, "number"));
  return planLookup(request, "number", Math.max(2, facts), 1);
}

/** One fact in every 300 tokens, at least eight, four of them asked for. */
export const planMultiquery = (request: PlanRequest): TaskPlan =>
  planLookup(request, "number", Math.max(8, Math.floor(request.contextTokens / 300)), 4);

/** Look-ups of up to 64 keys in one answer; facts fill six tenths of the room. */
export const planList = (request: PlanRequest): TaskPlan =>
  planCodes(request, Math.min(64, Math.floor(request.contextTokens / 64)), 0.6);

/** Look-ups of one key in every 80 tokens in one answer; facts fill all the room. */
export const planListLong = (request: PlanRequest): TaskPlan =>
  planCodes(request, Math.min(MAX_LIST_LENGTH, Math.floor(request.contextTokens / 80)), 1);

/** Four values of one key, all asked for; one other key, of one to four values, in every 1,000 tokens. */
export function planMultivalue(request: PlanRequest): TaskPlan {
  const { random, contextTokens } = request;
  const [askedKey = "", ...otherKeys] = drawKeys(random, 1 + Math.floor(contextTokens / 1000), new Set());
  const used = new Set<string>();
  const draw = (key: string, asked: boolean) => {
    const value = drawValue(random, "number", used);
    used.add(value);
    return { value, text: keyFact("number", key, value), asked };
  };
  const drawn = Array.from({ length: 4 }, () => draw(askedKey, true));
  for (const key of otherKeys) {
    const values = random.between(1, 4);
    for (let index = 0; index < values; index++) drawn.push(draw(key, false));
  }
  const facts = random.shuffle(drawn);
  const values = facts.filter(({ asked }) => asked).map(({ value }) => value);
  return {
    facts: facts.map(({ text, asked }) => ({ text, asked })),
    question: askAllValues("number", askedKey, values),
  };
}

/**
 * Draws `factCount` facts, each of its own key, and asks for `askedCount` of them. No other fact has a value that is
 * asked for; the values asked for differ.
 */
export function planLookup(request: PlanRequest, kind: FactKind, factCount: number, askedCount: number): TaskPlan {
  const { random } = request;
  const keys = drawKeys(random, factCount, new Set());
  const asked = random.sample(keys, askedCount);
  const valueOfKey = new Map<string, string>();
  // A word of a key is no value: it would stand in the question.
  const forbidden = new Set(keys.flatMap((key) => key.split(" ")));
  for (const key of asked) {
    const value = drawValue(random, kind, forbidden);
    valueOfKey.set(key, value);
    forbidden.add(value);
  }
  const facts = keys.map((key): Fact => {
    const askedValue = valueOfKey.get(key);
    return {
      text: keyFact(kind, key, askedValue ?? drawValue(random, kind, forbidden)),
      asked: askedValue !== undefined,
    };
  });
  const pairs = asked.map((key) => ({ key, value: valueOfKey.get(key) as string }));
  const [first] = pairs;
  const question = askedCount === 1 && first ? askOne(kind, first.key, first.value) : askMany(kind, pairs);
  return { facts, question };
}

function planCodes(request: PlanRequest, askedCount: number, filledShare: number): TaskPlan {
  const answerTokens = averageTokens(
    request.countTokens,
    exampleText("code", (key, value) => ` ${key} is ${value};`),
  );
  const questionTokens = averageTokens(
    request.countTokens,
    exampleText("code", (key) => ` ${key},`),
  );
  const room = request.contextTokens - LIST_FRAME_TOKENS - askedCount * (answerTokens + questionTokens);
  const facts = Math.floor((room * filledShare) / factTokens(request, "code"));
  return planLookup(request, "code", Math.max(askedCount, facts), askedCount);
}

const factTokens = (request: PlanRequest, kind: FactKind): number =>
  averageTokens(
    request.countTokens,
    exampleText(kind, (key, value) => keyFact(kind, key, value)),
  );

/** Example sentences are the same for every seed. */
function exampleText(kind: FactKind, write: (key: string, value: string) => string): () => string {
  const random = createRandom("examples");
  const keys = new Set<string>();
  return () => write(drawKeys(random, 1, keys)[0] as string, drawValue(random, kind, new Set()));
}
