import { drawKeys } from "./draw-keys.js";
import { createRandom, type Random } from "./random.js";
import { askRoad, type Fact, roadFact } from "./sentences.js";
import { averageTokens, type PlanRequest, type TaskPlan } from "./task-plan.js";

/** Tokens kept free for the words around a walk. */
const WALK_FRAME_TOKENS = 60;

/** Steps of a chain that is not asked for, on average. */
const OTHER_CHAIN_STEPS = 40;

/** A chain of up to 100 steps; other chains fill half of the room. */
export const planWalk = (request: PlanRequest): TaskPlan =>
  planChains(request, Math.min(100, Math.floor(request.contextTokens / 40)), 0.5);

/** A chain of one step in every 24 tokens; other chains fill all the room. */
export const planWalkLong = (request: PlanRequest): TaskPlan =>
  planChains(request, Math.floor(request.contextTokens / 24), 1);

function planChains(request: PlanRequest, steps: number, filledShare: number): TaskPlan {
  const { random, countTokens, contextTokens } = request;
  const stepTokens = averageTokens(
    countTokens,
    exampleText((from, to) => roadFact(from, to)),
  );
  const answerTokens = averageTokens(
    countTokens,
    exampleText((from) => ` -> ${from}`),
  );
  const room = contextTokens - WALK_FRAME_TOKENS - steps * (stepTokens + answerTokens);
  const otherSteps = Math.max(2, Math.floor((filledShare * room) / stepTokens));

  const taken = new Set<string>();
  const chain = drawKeys(random, steps, taken);
  const others = cutIntoChains(random, drawKeys(random, otherSteps, taken), Math.floor(otherSteps / OTHER_CHAIN_STEPS));
  const facts = [...chainFacts(chain, true), ...others.flatMap((other) => chainFacts(other, false))];
  return { facts: random.shuffle(facts), question: askRoad(chain) };
}

/** Cuts keys at random places into chains of at least one step; at most half as many chains as keys. */
function cutIntoChains(random: Random, keys: readonly string[], chains: number): string[][] {
  const count = Math.max(1, Math.min(chains, Math.floor(keys.length / 2)));
  const places = Array.from({ length: keys.length - 1 }, (_, index) => index + 1);
  const cuts = [0, ...random.sample(places, count - 1).sort((a, b) => a - b), keys.length];
  return cuts.slice(1).map((end, index) => keys.slice(cuts[index], end));
}

const chainFacts = (chain: readonly string[], asked: boolean): Fact[] =>
  chain.map((key, index) => ({ text: roadFact(key, chain[index + 1] ?? "home"), asked }));

function exampleText(write: (from: string, to: string) => string): () => string {
  const random = createRandom("examples");
  const taken = new Set<string>();
  return () => {
    const [from = "", to = ""] = drawKeys(random, 2, taken);
    return write(from, to);
  };
}
