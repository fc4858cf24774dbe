import { availableMemory } from "node:process";
import { type Context, createContext, type DeviceName } from "@pariskv/kernels";
import { fitMemory, longestContext, type MemoryLimits } from "@pariskv/memory";
import { InvalidArgumentError, OutOfMemoryError, PAGE_TOKENS } from "@pariskv/quantizer";
import type { RetrievalPolicy } from "@pariskv/retrieval";
import type { CommandIo } from "../cli/command-io.js";
import { Progress } from "../cli/progress.js";
import { DecoderModel } from "../model/decoder-model.js";
import { type ModelFolder, openModelFolder, resolveModelPath } from "../model-files/model-folder.js";
import { TextTokenizer } from "../text/tokenizer.js";
import { decoderMemoryRequest, planDecoderMemory } from "./decoder-memory.js";

/** The flags that decide how a model is opened. */
export interface SessionOptions {
  readonly model: string | undefined;
  readonly device: string;
  readonly kvDtype: "auto" | "bf16" | "f16" | "f32";
  readonly policy: Partial<RetrievalPolicy>;
  /** Context in tokens; 0 means the model's maximum, or what fits. */
  readonly ctxSize: number;
  /** Tokens that the context must have room for. Default 1. */
  readonly neededTokens?: (tokenizer: TextTokenizer) => number;
  /** Sequences at the same time. Default 1. */
  readonly sequences?: number;
  /** Sequences that share one prefix need hardly more pages than one. Default false. */
  readonly sharedPrefix?: boolean;
}

/** A model on a device, with its tokenizer. */
export interface Session extends Disposable {
  readonly folder: ModelFolder;
  readonly tokenizer: TextTokenizer;
  readonly context: Context;
  readonly model: DecoderModel;
}

/** Pages that each further fork of a shared prefix may seal on its own. */
const OWN_PAGES_PER_FORK = 10;

/** The policy that the retrieval flags ask for. */
export function policyOf(flags: {
  readonly retrievalK: number;
  readonly votes: string;
  readonly group: string;
  readonly attention?: string;
}): Partial<RetrievalPolicy> {
  const modes = { auto: "auto", pariskv: "vote", dense: "dense" } as const;
  return {
    topK: flags.retrievalK,
    votes: flags.votes as RetrievalPolicy["votes"],
    group: flags.group as RetrievalPolicy["group"],
    mode: modes[(flags.attention ?? "auto") as keyof typeof modes],
  };
}

/** Makes the context that `--device` asks for. Throws BackendUnavailableError, InvalidArgumentError. */
export function openContext(device: string): Context {
  const [name, index] = device.split(":");
  if (index !== undefined && index !== "0") {
    throw new InvalidArgumentError({ argument: "--device", expected: "cuda or cuda:0", received: device });
  }
  return createContext({ device: name as DeviceName | "auto" });
}

/** What this process may still allocate. */
export function memoryLimits(): MemoryLimits {
  return { sharedBytes: availableMemory() };
}

/**
 * Opens a model folder, its tokenizer and a device, checks that all of it fits, and loads the weights with progress on
 * stderr.
 */
export function openSession(options: SessionOptions, io: CommandIo): Session {
  const folder = openModelFolder(resolveModelPath(options.model, io.environment));
  let context: Context | undefined;
  try {
    const tokenizer = TextTokenizer.open(folder.path);
    const contextTokens = chooseContext(folder, options, tokenizer, io);
    context = openContext(options.device);
    const progress = new Progress(io, "load", folder.weightBytes);
    const begin = performance.now();
    let shownBytes = 0;
    const { sequences = 1 } = options;
    const pagesOfOne = Math.ceil(contextTokens / PAGE_TOKENS);
    const model = DecoderModel.load(folder, {
      context,
      maxTokens: contextTokens,
      maxSequences: sequences,
      policy: options.policy,
      ...(options.kvDtype !== "auto" && { kvDtype: options.kvDtype }),
      ...(options.sharedPrefix && { capacityPages: pagesOfOne + (sequences - 1) * OWN_PAGES_PER_FORK }),
      onBytes: (bytes) => {
        progress.add(bytes - shownBytes);
        shownBytes = bytes;
      },
    });
    const seconds = (performance.now() - begin) / 1000;
    progress.finish(
      `${(model.weightBytes / 1e6).toFixed(0)} MB of weights in ${seconds.toFixed(2)} s on ${context.detail}`,
    );
    const { unappliedSettings } = folder.generationDefaults;
    if (unappliedSettings.length > 0)
      io.writeNotice(`not applied from generation_config.json: ${unappliedSettings.join(", ")}\n`);
    const used = context;
    const dispose = () => {
      model.dispose();
      used.dispose();
      folder.close();
    };
    return { folder, tokenizer, context, model, [Symbol.dispose]: dispose };
  } catch (error) {
    context?.dispose();
    folder.close();
    throw error;
  }
}

/** The context's length: what was asked for, checked, or the model's maximum cut to what fits, said in one line. */
function chooseContext(folder: ModelFolder, options: SessionOptions, tokenizer: TextTokenizer, io: CommandIo): number {
  const { maxPositions } = folder.config;
  const neededTokens = options.neededTokens?.(tokenizer) ?? 1;
  const wanted = options.ctxSize === 0 ? maxPositions : options.ctxSize;
  if (wanted > maxPositions) {
    throw new InvalidArgumentError({
      argument: "--ctx-size",
      expected: `at most ${maxPositions} tokens, the model's maximum`,
      received: wanted,
    });
  }
  if (neededTokens > wanted) {
    throw new InvalidArgumentError({
      argument: "the prompt",
      expected: `at most ${wanted} tokens long, the context's length`,
      received: neededTokens,
    });
  }
  const limits = memoryLimits();
  const request = decoderMemoryRequest(folder, { ...options, sequences: options.sharedPrefix ? 1 : options.sequences });
  const fit = fitMemory(planDecoderMemory(folder, request, wanted), limits);
  if (fit.fits) return wanted;
  const fitting = options.ctxSize === 0 ? longestContext({ ...request, contextTokens: wanted }, limits, wanted) : 0;
  if (fitting < neededTokens && fit.short) throw new OutOfMemoryError(fit.short);
  io.writeNotice(`context: ${fitting} of the model's ${maxPositions} tokens, which is what fits into free memory\n`);
  return fitting;
}
