import { drawDigits } from "./draw-value.js";
import { askVariable, type Fact, variableFact } from "./sentences.js";
import type { PlanRequest, TaskPlan } from "./task-plan.js";
import { NOUNS } from "./words.js";

/** The longest chain of assignments. */
const MAX_HOPS = 4;

/** Assignments in the chain that a seed asks for: 1, 2, 3, 4, 1, … */
export const hopsOfSeed = (seed: number): number => (seed % MAX_HOPS) + 1;

/**
 * A chain of `hopsOfSeed(seed)` assignments, asked for, among one other chain of one to four in every 400 tokens, at
 * least three. Every variable has its own name, so long contexts hold fewer chains when the nouns run out.
 */
export function planVariables(request: PlanRequest): TaskPlan {
  const { random, contextTokens, seed } = request;
  const chains = Math.max(MAX_HOPS, Math.floor(contextTokens / 400));
  const names = random.sample(NOUNS, MAX_HOPS * chains);
  const hops = hopsOfSeed(seed);
  const chain = names.splice(0, hops);
  const assigned = drawDigits(random, 5);

  const facts = chainFacts(chain, assigned, true);
  for (let index = 1; index < chains; index++) {
    const other = names.splice(0, random.between(1, MAX_HOPS));
    if (other.length === 0) break;
    let otherAssigned = drawDigits(random, 5);
    while (otherAssigned === assigned) otherAssigned = drawDigits(random, 5);
    facts.push(...chainFacts(other, otherAssigned, false));
  }
  return { facts: random.shuffle(facts), question: askVariable(chain, assigned) };
}

const chainFacts = (names: readonly string[], assigned: string, asked: boolean): Fact[] =>
  names.map((name, index) => {
    const next = names[index + 1];
    return { text: variableFact(name, next === undefined ? assigned : `VAR ${next}`), asked };
  });
