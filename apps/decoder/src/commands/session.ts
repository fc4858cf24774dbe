import { type Context, createContext, type DeviceName, deviceStatus } from "@pariskv/kernels";
import { fitMemory, longestContext, type MemoryLimits, planMemory } from "@pariskv/memory";
import { InvalidArgumentError, OutOfMemoryError } from "@pariskv/quantizer";
import type { RetrievalPolicy } from "@pariskv/retrieval";
import type { CommandIo } from "../cli/command-io.js";
import { Progress } from "../cli/progress.js";
import {
  type DecoderMemoryOptions,
  type DecoderMemoryRequest,
  decoderMemoryRequest,
  forkCapacityPages,
} from "../model/decoder-memory.js";
import { DecoderModel } from "../model/decoder-model.js";
import { type ModelFolder, openModelFolder, resolveModelPath } from "../model-files/model-folder.js";
import { TextTokenizer } from "../text/tokenizer.js";

/** The flags that decide how a model is opened. */
export interface SessionOptions {
  /** A folder or a repository id; nothing means the bundled model. */
  readonly model: string | undefined;
  readonly device: string;
  readonly kvDtype: "auto" | "bf16" | "f16" | "f32";
  readonly policy: Partial<RetrievalPolicy>;
  /** Whether the statistics of each step estimate the attention mass that was left out. */
  readonly estimateMass?: boolean;
  /** Context in tokens; 0 means the model's maximum, or what fits. */
  readonly ctxSize: number;
  /** The prompt, when it is known already: the context must have room for it. */
  readonly prompt?: string;
  /** Sequences at the same time. Default 1. */
  readonly sequences?: number;
  /** Given when all sequences but one are forks of one prefix: the most tokens that each appends to it. */
  readonly forkTokens?: number;
}

/** A model on a device, with its tokenizer. */
export interface Session extends Disposable {
  readonly folder: ModelFolder;
  readonly tokenizer: TextTokenizer;
  /** The tokens of the prompt; empty when it was not known. */
  readonly promptIds: Uint32Array;
  readonly context: Context;
  readonly model: DecoderModel;
}

/** Memory that is left to the process beside the decoder's: tokenizer, JavaScript heap, buffers of files. */
const PROCESS_BYTES = 128 * 1024 * 1024;

/** The policy that the retrieval flags ask for. */
export function policyOf(flags: {
  readonly retrievalK: number;
  readonly votes: RetrievalPolicy["votes"];
  readonly group: RetrievalPolicy["group"];
  readonly attention?: "auto" | "pariskv" | "dense";
}): Partial<RetrievalPolicy> {
  const { retrievalK: topK, votes, group, attention = "auto" } = flags;
  return { topK, votes, group, mode: attention === "pariskv" ? "vote" : attention };
}

/** Makes the context that `--device` asks for. Throws BackendUnavailableError, InvalidArgumentError. */
export function openContext(device: string): Context {
  const [name, index] = device.split(":");
  if (index !== undefined && index !== "0") {
    throw new InvalidArgumentError({ argument: "--device", expected: "cuda or cuda:0", received: device });
  }
  return createContext({ device: name as DeviceName | "auto" });
}

/** What may still be allocated for a decoder on a context. */
export function memoryLimits(context: Context): MemoryLimits {
  const hostBytes = Math.max(0, context.availableBytes("mapped") - PROCESS_BYTES);
  if (context.device !== "cuda") return { sharedBytes: hostBytes };
  return { deviceBytes: context.availableBytes("device"), hostBytes };
}

/**
 * Opens a model folder, its tokenizer and a device, checks that prompt and memory fit, and loads the weights with
 * progress on stderr.
 *
 * @throws ModelFileError, UnsupportedError, BackendUnavailableError; InvalidArgumentError when the prompt is longer than
 * the context; OutOfMemoryError when the context does not fit; an AbortError after an interrupt. Nothing is leaked.
 */
export async function openSession(options: SessionOptions, io: CommandIo): Promise<Session> {
  const folder = openModelFolder(resolveModelPath(options.model, io.environment));
  let context: Context | undefined;
  try {
    const { unappliedSettings } = folder.generationDefaults;
    if (unappliedSettings.length > 0)
      io.writeNotice(`not applied from generation_config.json: ${unappliedSettings.join(", ")}\n`);
    const wanted = wantedContext(folder, options.ctxSize);
    const memory = memoryOptions(options);
    const tokenizer = TextTokenizer.open(folder.path);
    const promptIds =
      options.prompt === undefined ? new Uint32Array() : encodePrompt(tokenizer, options.prompt, wanted);
    const isCuttable = options.ctxSize === 0;
    context = openContext(options.device);
    const request = decoderMemoryRequest(folder, { ...memory, device: context.device });
    const limits = memoryLimits(context);
    const maxTokens = fitContext(request, limits, wanted, Math.max(1, promptIds.length), isCuttable, io);
    sayFallback(options.device, context, io);
    const model = await loadModel(
      folder,
      context,
      maxTokens,
      { ...memory, estimateMass: options.estimateMass ?? false },
      io,
    );
    const used = context;
    const dispose = () => {
      model.dispose();
      used.dispose();
      folder.close();
    };
    return { folder, tokenizer, promptIds, context, model, [Symbol.dispose]: dispose };
  } catch (error) {
    context?.dispose();
    folder.close();
    throw error;
  }
}

function memoryOptions({ sequences, forkTokens, kvDtype, policy }: SessionOptions): DecoderMemoryOptions {
  return { sequences, forkTokens, kvDtype: kvDtype === "auto" ? undefined : kvDtype, policy };
}

/** The length that is asked for, or the model's maximum. */
function wantedContext({ config }: ModelFolder, ctxSize: number): number {
  if (ctxSize <= config.maxPositions) return ctxSize === 0 ? config.maxPositions : ctxSize;
  throw new InvalidArgumentError({
    argument: "--ctx-size",
    expected: `at most ${config.maxPositions} tokens, the model's maximum`,
    received: ctxSize,
  });
}

function encodePrompt(tokenizer: TextTokenizer, prompt: string, maxTokens: number): Uint32Array {
  const ids = tokenizer.encodeAtMost(prompt, maxTokens);
  if (ids !== undefined && ids.length >= 1 && ids.length <= maxTokens) return ids;
  throw new InvalidArgumentError({
    argument: "the prompt",
    expected: ids?.length === 0 ? "at least 1 token long" : `at most ${maxTokens} tokens long, the context's length`,
    received: ids?.length ?? `a text of ${prompt.length} characters`,
  });
}

/** The length that fits into free memory: what is wanted, or less where it may be cut, which is then said in one line. */
function fitContext(
  request: DecoderMemoryRequest,
  limits: MemoryLimits,
  wanted: number,
  neededTokens: number,
  isCuttable: boolean,
  io: CommandIo,
): number {
  const { short } = fitMemory(planMemory({ ...request, contextTokens: wanted }), limits);
  if (!short) return wanted;
  const longest = longestContext({ ...request, contextTokens: wanted }, limits, wanted);
  if (!isCuttable || longest < neededTokens) {
    if (longest >= neededTokens) io.writeNotice(`--ctx-size ${longest} would fit\n`);
    throw new OutOfMemoryError(short);
  }
  io.writeNotice(`context: ${longest} of the model's ${wanted} tokens, which is what fits into free memory\n`);
  return longest;
}

/** Plain TypeScript in the place of native code is a fallback, and none is silent. */
function sayFallback(device: string, context: Context, io: CommandIo): void {
  if (device !== "auto" || context.device !== "reference") return;
  const cpu = deviceStatus().find((status) => status.device === "cpu");
  io.writeNotice(`plain TypeScript is used, which is slow: ${cpu?.available === false ? cpu.reason : "no CPU"}\n`);
}

async function loadModel(
  folder: ModelFolder,
  context: Context,
  maxTokens: number,
  options: DecoderMemoryOptions & { readonly estimateMass: boolean },
  io: CommandIo,
): Promise<DecoderModel> {
  const { sequences = 1, forkTokens, kvDtype, policy, estimateMass } = options;
  const progress = new Progress(io, "load", folder.weightBytes);
  const begin = performance.now();
  let shownBytes = 0;
  const model = await DecoderModel.load(folder, {
    context,
    maxTokens,
    maxSequences: sequences,
    ...(policy && { policy }),
    estimateMass,
    ...(kvDtype && { kvDtype }),
    ...(forkTokens !== undefined && { capacityPages: forkCapacityPages(maxTokens, sequences, forkTokens) }),
    onBytes: (bytes) => {
      progress.add(bytes - shownBytes);
      shownBytes = bytes;
    },
    signal: io.signal,
  });
  const seconds = (performance.now() - begin) / 1000;
  const megabytes = (model.bytes.weights / 1e6).toFixed(0);
  progress.finish(`${megabytes} MB of weights in ${seconds.toFixed(2)} s on ${context.detail}`);
  return model;
}
