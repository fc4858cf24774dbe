import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { SpecMismatchError } from "@pariskv/quantizer";
import { ABI_VERSION } from "../layout.js";
import { SPEC_FINGERPRINT } from "../spec-fingerprint.js";

/** An opaque value of the addon: context, buffer, cache, plan or tape. */
export type Handle = object;

/** Buffer handle and byte offset. */
type RefArguments = [buffer: Handle, offsetBytes: number];
/** The same, or null and 0 for what is left out. */
type OptionalRefArguments = [buffer: Handle | null, offsetBytes: number];
type RowsArguments = [buffer: Handle, offsetBytes: number, rowStride: number];
type StepArguments = [buffer: Handle, offsetBytes: number, rowCount: number];
type StageArguments = [context: Handle, plan: Handle, layer: number, ...step: StepArguments];
type PageArguments = [context: Handle, cache: Handle, slot: number, pageIndex: number, pageId: number];

/** The functions of `kernels.node`: positional arguments, numbers for every constant of `layout.ts`. */
export interface Addon {
  readonly abiVersion: number;
  readonly specFingerprint: number;

  probeDevice(device: number, threads: number, isa: string | null): [available: boolean, detail: string];
  createContext(device: number, threads: number, isa: string | null): Handle;
  disposeContext(context: Handle): void;
  contextDetail(context: Handle): string;
  synchronize(context: Handle): void;
  /** Triples of verb, calls and nanoseconds. */
  takeTimes(context: Handle): (string | number)[];

  availableBytes(context: Handle, kind: number): number;
  createBuffer(context: Handle, bytes: number, kind: number): Handle;
  disposeBuffer(buffer: Handle): void;
  bufferAddress(buffer: Handle): bigint;
  writeBuffer(buffer: Handle, offsetBytes: number, source: ArrayBufferView): void;
  readBuffer(buffer: Handle, offsetBytes: number, target: ArrayBufferView): void;
  /** Seconds. */
  timeReadBuffer(buffer: Handle): number;

  createCache(
    context: Handle,
    ...args: [
      layers: number,
      kvHeads: number,
      queryGroup: number,
      headDim: number,
      kvDtype: number,
      slots: number,
      sinkTokens: number,
      ringTokens: number,
      maxPages: number,
      pageCapacity: number,
      ...zoneTokens: RefArguments,
      ...pageTable: RefArguments,
      ...pageAddress: RefArguments,
      ...window: RefArguments,
      ...idCounts: OptionalRefArguments,
      ...invalidKeys: RefArguments,
      ...budget: RefArguments,
      ...calibration: RefArguments,
      hotLines: number,
      ...hotTags: OptionalRefArguments,
      ...hotRecords: OptionalRefArguments,
      signs: Float32Array,
      centres: Float32Array,
      thresholds: Float32Array,
    ]
  ): Handle;
  disposeCache(cache: Handle): void;
  createPlan(
    context: Handle,
    cache: Handle,
    maxRows: number,
    maxZoneTokens: number,
    maxCandidates: number,
    maxTopK: number,
    votes: number,
    group: number,
    estimateMass: number,
  ): Handle;
  disposePlan(plan: Handle): void;
  planBuffer(plan: Handle): [buffer: Handle, bytes: number];
  planField(plan: Handle, field: number): number;

  recordBegin(context: Handle): void;
  recordEnd(context: Handle): Handle;
  recordCancel(context: Handle): void;
  runTape(tape: Handle): void;
  runTapeAsync(tape: Handle): Promise<void>;
  disposeTape(tape: Handle): void;

  copy(context: Handle, ...args: [...from: RefArguments, ...to: RefArguments, bytes: number]): void;
  append(
    context: Handle,
    cache: Handle,
    layer: number,
    ...args: [...step: StepArguments, ...k: RowsArguments, ...v: RowsArguments]
  ): void;
  probe(context: Handle, plan: Handle, layer: number, ...args: [...step: StepArguments, ...q: RowsArguments]): void;
  collide(...args: StageArguments): void;
  select(...args: StageArguments): void;
  rerank(...args: StageArguments): void;
  attend(...args: [...StageArguments, ...q: RowsArguments, ...out: RowsArguments]): void;
  encode(...args: PageArguments): void;
  offload(...args: PageArguments): void;
  commit(...args: PageArguments): void;

  embed(
    context: Handle,
    ...args: [
      ...tokens: RefArguments,
      ...weight: RefArguments,
      dtype: number,
      vocab: number,
      width: number,
      rowCount: number,
      ...out: RowsArguments,
    ]
  ): void;
  rmsnorm(
    context: Handle,
    ...args: [
      ...x: RowsArguments,
      ...weight: RefArguments,
      eps: number,
      width: number,
      groups: number,
      rowCount: number,
      ...out: RowsArguments,
    ]
  ): void;
  linear(
    context: Handle,
    ...args: [
      ...x: RowsArguments,
      ...weight: RefArguments,
      dtype: number,
      ...bias: OptionalRefArguments,
      inWidth: number,
      outWidth: number,
      rowCount: number,
      accumulate: boolean,
      ...out: RowsArguments,
    ]
  ): void;
  rope(
    context: Handle,
    ...args: [...x: RowsArguments, heads: number, headDim: number, ...frequencies: RefArguments, ...step: StepArguments]
  ): void;
  swiglu(context: Handle, ...args: [...x: RowsArguments, width: number, rowCount: number, ...out: RowsArguments]): void;
  argmax(context: Handle, ...args: [...x: RowsArguments, width: number, rowCount: number, ...out: RefArguments]): void;
  attendCausal(
    context: Handle,
    cache: Handle,
    layer: number,
    ...args: [...step: StepArguments, firstRow: number, rowCount: number, ...q: RowsArguments, ...out: RowsArguments]
  ): void;
}

/** What became of the search for the addon. */
export type AddonSearch =
  | { readonly addon: Addon; readonly path: string }
  | {
      readonly addon: undefined;
      /** Why there is none, for people. */
      readonly reason: string;
      /** Set when an addon was there but was built from other constants. */
      readonly mismatch: SpecMismatchError | undefined;
    };

let found: AddonSearch | undefined;

/**
 * Finds and loads `kernels.node`, once: the file that PARISKV_ADDON names and no other, or else the platform package with
 * CUDA, the one without, and what a build inside an installed package left in `prebuilds/`. An addon that was built from
 * other constants is not used.
 */
export function findAddon(): AddonSearch {
  found ??= search();
  return found;
}

function search(): AddonSearch {
  const require = createRequire(import.meta.url);
  const refusals: string[] = [];
  let mismatch: SpecMismatchError | undefined;
  for (const candidate of candidates()) {
    try {
      const path = require.resolve(candidate);
      const addon = require(path) as Addon;
      mismatch = mismatchOf(addon);
      if (mismatch === undefined) return { addon, path };
      refusals.push(`${candidate}: ${mismatch.message}`);
    } catch (error) {
      const notFound = (error as NodeJS.ErrnoException).code === "MODULE_NOT_FOUND";
      refusals.push(`${candidate}: ${notFound ? "not found" : (error as Error).message.split("\n")[0]}`);
    }
  }
  const why = buildReason();
  const reason = why === undefined ? "no loadable addon" : `no addon, because ${why}`;
  return { addon: undefined, reason: `${reason} (${refusals.join("; ")})`, mismatch };
}

function candidates(): string[] {
  const forced = process.env.PARISKV_ADDON;
  if (forced) return [forced];
  const platform = `${process.platform}-${process.arch}`;
  const names = [`${platform}-cuda`, platform];
  return [
    ...names.map((name) => `@pariskv/kernels-${name}/kernels.node`),
    ...names.map((name) => join(packageRoot(), "prebuilds", name, "kernels.node")),
  ];
}

function mismatchOf(addon: Addon): SpecMismatchError | undefined {
  const describe = (abi: number, fingerprint: number) => `ABI ${abi} with fingerprint ${fingerprint.toString(16)}`;
  const expected = describe(ABI_VERSION, SPEC_FINGERPRINT);
  const received = describe(addon.abiVersion, addon.specFingerprint);
  return expected === received ? undefined : new SpecMismatchError({ expected, received });
}

/** What `scripts/build-native.mjs` noted when it could not build. */
function buildReason(): string | undefined {
  const path = join(packageRoot(), "build", "why.txt");
  return existsSync(path) ? readFileSync(path, "utf8").trim() : undefined;
}

/** The folder of this package, from `src/native/` as from `dist/`. */
function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json")) && folder !== dirname(folder)) folder = dirname(folder);
  return folder;
}
