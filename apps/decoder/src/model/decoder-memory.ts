import { planLayout } from "@pariskv/kernels";
import { type MemoryPlan, type MemoryPlanRequest, planMemory } from "@pariskv/memory";
import { DEFAULT_ZONES, planCapacity, type RetrievalPolicy, resolvePolicy } from "@pariskv/retrieval";
import { activationBytes } from "../model/activations.js";
import type { ModelFolder } from "../model-files/model-folder.js";

/** What the memory of a decoder depends on, beside the model and the context's length. */
export interface DecoderMemoryOptions {
  readonly sequences?: number | undefined;
  readonly kvDtype: "auto" | "bf16" | "f16" | "f32";
  readonly policy: Partial<RetrievalPolicy>;
}

/** A request to the planner without the context's length and the workspaces that depend on it. */
export type DecoderMemoryRequest = Omit<MemoryPlanRequest, "contextTokens" | "workspaceBytes"> & {
  readonly policy: RetrievalPolicy;
};

/** What the planner has to know of a model, from its config and headers alone. */
export function decoderMemoryRequest(folder: ModelFolder, options: DecoderMemoryOptions): DecoderMemoryRequest {
  const { layers, kvHeads, queryHeads, headDim } = folder.config;
  const policy = resolvePolicy(options.policy, layers);
  return {
    geometry: {
      layers,
      kvHeads,
      queryGroup: queryHeads / kvHeads,
      headDim,
      kvDtype: options.kvDtype === "auto" ? "bf16" : options.kvDtype,
    },
    zones: DEFAULT_ZONES,
    sequences: options.sequences ?? 1,
    countIds: policy.votes === "tiered",
    weightBytes: folder.weightBytes,
    policy,
  };
}

/** What the decoder will allocate for contexts of `contextTokens`. */
export function planDecoderMemory(
  folder: ModelFolder,
  request: DecoderMemoryRequest,
  contextTokens: number,
): MemoryPlan {
  const { geometry, zones, sequences, policy } = request;
  const plan = planLayout({
    ...geometry,
    group: policy.group,
    maxRows: sequences,
    ...planCapacity(policy, geometry.layers, contextTokens),
  });
  const rows = Math.max(zones.chunkTokens, sequences);
  const workspaceBytes = plan.bytes + activationBytes(folder.config, rows, sequences);
  return planMemory({ ...request, contextTokens, workspaceBytes });
}
