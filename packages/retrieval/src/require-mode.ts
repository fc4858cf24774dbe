import { sealedPages } from "@pariskv/memory";
import { InvalidArgumentError, PAGE_TOKENS, requireOneOf } from "@pariskv/quantizer";
import { layerPolicy, type Mode } from "./policy.js";
import type { Retriever } from "./retriever.js";

/**
 * Makes sure that a sequence of `retriever` can take `mode`, now and at any length.
 *
 * @throws InvalidArgumentError for an unknown mode, a search where every layer is dense by policy, and `scan` where the
 * plan has too little room for candidates.
 */
export function requireMode({ policy, shape, memory, plan }: Retriever, mode: Mode | "policy"): void {
  requireOneOf<Mode | "policy">("mode", mode, ["policy", "dense", "scan", "vote"]);
  if (mode === "policy" || mode === "dense") return;
  const refuse = (expected: string): never => {
    throw new InvalidArgumentError({ argument: "mode", expected, received: mode });
  };
  const layers = Array.from({ length: shape.layers }, (_, layer) => layerPolicy(policy, layer));
  if (layers.every((layer) => layer.mode === "dense")) {
    refuse('"policy" or "dense", because every layer is dense by policy,');
  }
  const zoneTokens = sealedPages(memory.zones, memory.maxTokens) * PAGE_TOKENS;
  const { maxCandidates } = plan.params;
  if (mode === "scan" && maxCandidates < zoneTokens) {
    refuse(
      `"policy", "dense" or "vote", because "scan" takes up to ${zoneTokens} candidates and the plan holds ${maxCandidates},`,
    );
  }
}
