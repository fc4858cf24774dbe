export type {
  Cache,
  CacheParams,
  Codec,
  Context,
  ContextOptions,
  CpuIsa,
  DenseOperators,
  DeviceBuffer,
  DeviceName,
  Dtype,
  Group,
  MemoryKind,
  Plan,
  PlanField,
  PlanParams,
  Ref,
  Rows,
  Stages,
  Step,
  Tape,
  VerbTime,
  Votes,
} from "./context.js";
export type { DeviceStatus } from "./create-context.js";
export { createContext, deviceStatus } from "./create-context.js";
export {
  ABI_VERSION,
  BUDGET,
  BUDGET_FIELDS,
  DTYPE,
  GROUP,
  MEMORY,
  MODE,
  PAGE_ADDRESS,
  PAGE_ADDRESS_FIELDS,
  ROW,
  ROW_FIELDS,
  STATS,
  STATS_FIELDS,
  VOTES,
} from "./layout.js";
export type { PlanFieldLayout, PlanShape } from "./plan-layout.js";
export { planLayout } from "./plan-layout.js";
