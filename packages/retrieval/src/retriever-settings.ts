import type { Dtype } from "@pariskv/kernels";
import type { ZoneShape } from "@pariskv/memory";
import type { RetrievalPolicy } from "./policy.js";
import type { AttentionShape } from "./shape.js";

/** Options of a retriever that are not its context. */
export interface RetrieverSettings {
  readonly shape: AttentionShape;
  /** Element type of the stored K and V. Default `bf16`. */
  readonly kvDtype?: Dtype;
  /** Longest sequence. */
  readonly maxTokens: number;
  /** Sequences at the same time. Default 1. */
  readonly maxSequences?: number;
  /** Sink, local window and chunk. Default {@link DEFAULT_ZONES}. */
  readonly zones?: Partial<ZoneShape>;
  /** How keys are found. Default `DEFAULT_POLICY`. */
  readonly policy?: Partial<RetrievalPolicy>;
  /** Whether each step estimates the attention mass that it left out, for its statistics; default false. */
  readonly estimateMass?: boolean;
  /** Seed of the rotation's signs. Pages can be shared only between equal seeds. */
  readonly seed?: number;
  /** mu and D of every layer and KV head, `[layers, kvHeads, 2, headDim] f32`. Default: mu = 0, D = 1. */
  readonly calibration?: Float32Array;
  /**
   * Lines of the hot set of each KV head: records that stay on the device after they were fetched from host memory. 0 or a
   * power of two. Default: `defaultHotLines` of the policy on a device that is not its own host, else none.
   */
  readonly hotLines?: number;
  /** Pages of all sequences together. Default: enough for `maxSequences` sequences of `maxTokens`. */
  readonly capacityPages?: number;
}

/** Sink, local window and chunk of a retriever that is not told otherwise. */
export const DEFAULT_ZONES: ZoneShape = { sinkTokens: 64, localTokens: 256, chunkTokens: 512 };
