import type { Flag } from "./flag.js";
import {
  attentionFlags,
  benchFlags,
  chatFlags,
  contextFlags,
  demoFlags,
  deviceFlags,
  lengthFlags,
  outputFlags,
  planFlags,
  promptFlags,
  retrievalFlags,
  samplingFlags,
} from "./flags.js";

/** The flags of each command, by the names their values have in the command's options. */
export const commandFlags = {
  demo: { ...demoFlags, ...retrievalFlags, ...deviceFlags, kvDtype: contextFlags.kvDtype, ...outputFlags },
  run: {
    ...promptFlags,
    ...lengthFlags,
    ...samplingFlags,
    ...contextFlags,
    ...attentionFlags,
    ...retrievalFlags,
    ...deviceFlags,
    ...outputFlags,
  },
  chat: {
    ...chatFlags,
    ...lengthFlags,
    ...samplingFlags,
    ...contextFlags,
    ...attentionFlags,
    ...retrievalFlags,
    ...deviceFlags,
    ...outputFlags,
  },
  compare: { ...promptFlags, ...lengthFlags, ...contextFlags, ...retrievalFlags, ...deviceFlags, ...outputFlags },
  plan: { ...contextFlags, ...planFlags, ...retrievalFlags, ...deviceFlags, ...outputFlags },
  doctor: { ...deviceFlags, ...outputFlags },
  bench: { ...benchFlags, kvDtype: contextFlags.kvDtype, ...retrievalFlags, ...deviceFlags, ...outputFlags },
} as const satisfies Readonly<Record<string, Readonly<Record<string, Flag<unknown>>>>>;

/** The names of the commands. */
export type CommandName = keyof typeof commandFlags;

type Values<Flags> = { readonly [Name in keyof Flags]: Flags[Name] extends Flag<infer Value> ? Value : never };
type WithModel = {
  /** A folder or a repository id; nothing means the bundled model. */
  readonly model: string | undefined;
};

/** Options of `pariskv demo`; `ctxSize` in tokens, nothing meaning the demo's own choice. */
export type DemoOptions = Values<typeof commandFlags.demo>;
/** Options of `pariskv run`; exactly one of `prompt` and `file` is set. */
export type RunOptions = Values<typeof commandFlags.run> & WithModel;
/** Options of `pariskv chat`. */
export type ChatOptions = Values<typeof commandFlags.chat> & WithModel;
/** Options of `pariskv compare`; exactly one of `prompt` and `file` is set. */
export type CompareOptions = Values<typeof commandFlags.compare> & WithModel;
/** Options of `pariskv plan`. */
export type PlanOptions = Values<typeof commandFlags.plan> & WithModel;
/** Options of `pariskv doctor`. */
export type DoctorOptions = Values<typeof commandFlags.doctor>;
/** Options of `pariskv bench`; `lengths` in tokens. */
export type BenchOptions = Values<typeof commandFlags.bench> & WithModel;

/** The options of each command by its name. */
export interface CommandOptions {
  readonly demo: DemoOptions;
  readonly run: RunOptions;
  readonly chat: ChatOptions;
  readonly compare: CompareOptions;
  readonly plan: PlanOptions;
  readonly doctor: DoctorOptions;
  readonly bench: BenchOptions;
}
