import { type DeviceName, type Dtype, planLayout, ROW_FIELDS } from "@pariskv/kernels";
import {
  type KvGeometry,
  type MemoryPlan,
  type MemoryPlanRequest,
  pageRecordBytes,
  pageSummaryBytes,
  planMemory,
  sealedPages,
} from "@pariskv/memory";
import { PAGE_TOKENS } from "@pariskv/quantizer";
import { DEFAULT_ZONES, defaultHotLines, planCapacity, type RetrievalPolicy, resolvePolicy } from "@pariskv/retrieval";
import type { ModelConfig } from "../model-files/config.js";
import { activationBytes } from "./activations.js";
import { requireSupportedShape } from "./supported-shape.js";

/** What the memory of a decoder depends on, beside the model and the context's length. */
export interface DecoderMemoryOptions {
  /** Sequences at the same time. Default 1. */
  readonly sequences?: number | undefined;
  /** Given when all sequences but one are forks of one prefix: the most tokens that each appends to it. */
  readonly forkTokens?: number | undefined;
  /** Element type of the stored K and V. Default `bf16`. */
  readonly kvDtype?: Dtype | undefined;
  readonly policy?: Partial<RetrievalPolicy> | undefined;
  /** Where the model will run. Default `cpu`. */
  readonly device?: DeviceName | undefined;
}

/** A request to the planner for contexts of any length. */
export type DecoderMemoryRequest = Omit<MemoryPlanRequest, "contextTokens">;

/**
 * What the planner has to know of a decoder: everything that `DecoderModel.load` allocates and its pages will.
 *
 * @throws UnsupportedError for a shape of attention that no backend computes; InvalidArgumentError for a wrong policy.
 */
export function decoderMemoryRequest(
  model: {
    readonly path: string;
    readonly config: ModelConfig;
    /** As `deviceWeightBytes` counts them. */
    readonly deviceWeightBytes: number;
  },
  options: DecoderMemoryOptions,
): DecoderMemoryRequest {
  const { config } = model;
  requireSupportedShape(config, model.path);
  const { sequences = 1, forkTokens, kvDtype = "bf16", device = "cpu" } = options;
  const { layers, kvHeads, queryHeads, headDim } = config;
  const geometry: KvGeometry = { layers, kvHeads, queryGroup: queryHeads / kvHeads, headDim, kvDtype };
  const policy = resolvePolicy(options.policy ?? {}, layers);
  const hotLines = defaultHotLines(policy, layers, device);
  const shared = { geometry, zones: DEFAULT_ZONES, countIds: policy.votes === "tiered", hotLines };
  const workspaceBytes = (contextTokens: number) =>
    stepBytes(config, geometry, policy, sequences, contextTokens) +
    (forkTokens === undefined ? 0 : forkBytes(shared, contextTokens, sequences, forkTokens));
  return {
    ...shared,
    sequences: forkTokens === undefined ? sequences : 1,
    weightBytes: model.deviceWeightBytes,
    workspaceBytes,
  };
}

/** Pages for one sequence of `contextTokens` and for what `sequences - 1` forks of it seal on their own. */
export function forkCapacityPages(contextTokens: number, sequences: number, forkTokens: number): number {
  const most = sealedPages(DEFAULT_ZONES, contextTokens);
  // The first page of a fork may be nearly full already.
  const ownPages = Math.min(most, Math.ceil(forkTokens / PAGE_TOKENS) + 1);
  return Math.max(1, most + (sequences - 1) * ownPages);
}

/** Workspaces of the stages, activations, row table and rotary frequencies of the steps of a decoder. */
function stepBytes(
  config: ModelConfig,
  geometry: KvGeometry,
  policy: RetrievalPolicy,
  sequences: number,
  contextTokens: number,
): number {
  const { layers, headDim } = config;
  const capacity = planCapacity(policy, layers, contextTokens);
  const plan = planLayout({ ...geometry, layers, group: policy.group, maxRows: sequences, ...capacity });
  const rows = Math.max(DEFAULT_ZONES.chunkTokens, sequences);
  const words = rows * ROW_FIELDS + headDim / 2;
  return plan.bytes + activationBytes(config, rows, sequences) + 4 * words;
}

/** What the forks of a sequence take: windows, tables and hot sets of their slots, and the pages that they seal on their own. */
function forkBytes(
  shared: Pick<MemoryPlanRequest, "geometry" | "zones" | "countIds" | "hotLines">,
  contextTokens: number,
  sequences: number,
  forkTokens: number,
): number {
  const { geometry } = shared;
  const slotBytes = (count: number) => slotLines(planMemory({ ...shared, contextTokens, sequences: count }));
  const ownPages = forkCapacityPages(contextTokens, sequences, forkTokens) - forkCapacityPages(contextTokens, 1, 0);
  return slotBytes(sequences) - slotBytes(1) + ownPages * (pageSummaryBytes(geometry) + pageRecordBytes(geometry));
}

function slotLines({ lines }: MemoryPlan): number {
  return lines
    .filter(({ purpose }) => ["window", "tables", "hot set"].includes(purpose))
    .reduce((sum, { bytes }) => sum + bytes, 0);
}
