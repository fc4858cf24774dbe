export { candidateCount, paperShares, tierLimits } from "./budget.js";
export { findCalibration, noCalibration } from "./calibration.js";
export { errorBound } from "./error-bound.js";
export {
  BackendUnavailableError,
  DeviceError,
  DisposedError,
  InvalidArgumentError,
  ModelFileError,
  OutOfMemoryError,
  ParisKVError,
  SpecMismatchError,
  UnsupportedError,
} from "./errors.js";
export {
  decodeBfloat16,
  decodeFloat16,
  encodeBfloat16,
  encodeFloat16,
  fromBfloat16,
  fromFloat16,
  toBfloat16,
  toFloat16,
} from "./float-formats.js";
export { magnitudeLevels } from "./levels.js";
export { estimateRetrievedMass, leftOutLogSums } from "./mass.js";
export { createQuantizer } from "./quantizer.js";
export { attend } from "./reference/attend.js";
export { collide, excludeInvalidKeys } from "./reference/collide.js";
export { encodeKey, encodePage } from "./reference/encode.js";
export { probe, rotatedQueryCount, voteTableCount } from "./reference/probe.js";
export { estimate, keepTop, logSumExp, prioritize, rerank } from "./reference/rerank.js";
export { rotate } from "./reference/rotate.js";
export { select } from "./reference/select.js";
export { gradedTables, tieredTables } from "./reference/vote-tables.js";
export { retrieve } from "./retrieve.js";
export { rotationSigns } from "./signs.js";
export {
  CENTROIDS,
  CODE_SIGN_BIT,
  DEFAULT_SEED,
  MAGNITUDE_BITS,
  MAGNITUDE_LEVELS,
  MAX_HEAD_DIM,
  MAX_VOTE,
  NO_SCORE,
  PAGE_TOKENS,
  SCORE_BINS,
  SUBSPACE_DIM,
  summaryLayout,
  TIER_SHARES_PERCENT,
  WEIGHT_EXPONENT_BIAS,
  WEIGHT_SHIFT,
} from "./spec.js";
export { summarizeKeys } from "./summarize.js";
export { treeSum } from "./tree-sum.js";
export { requireInteger, requireLength, requireOneOf } from "./validate.js";
export { DECODED_WEIGHTS, decodeWeight, encodeWeight } from "./weight-byte.js";

// Types.

export type { BudgetShares } from "./budget.js";
export type { Calibration, CalibrationMode } from "./calibration.js";
export type { ErrorCause, ParisKVErrorCode } from "./errors.js";
export type { Levels } from "./levels.js";
export type { LeftOutLogSums, LeftOutParameters } from "./mass.js";
export type { Quantizer } from "./quantizer.js";
export type { AttendParameters, AttentionSegment } from "./reference/attend.js";
export type { EncodedKey } from "./reference/encode.js";
export type { GroupPolicy, ProbeParameters, VotePolicy } from "./reference/probe.js";
export type { RerankParameters } from "./reference/rerank.js";
export type { Retrieval, RetrieveOptions } from "./retrieve.js";
export type { SummaryLayout } from "./spec.js";
export type { KeySummaries } from "./summarize.js";
