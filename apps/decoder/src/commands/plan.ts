import { formatTable } from "@pariskv/evaluation";
import {
  fitMemory,
  kvBytesPerToken,
  longestContext,
  type MemoryLimits,
  type MemoryPlan,
  planMemory,
  summaryBytesPerToken,
} from "@pariskv/memory";
import type { CommandIo } from "../cli/command-io.js";
import { EXIT } from "../cli/exit-code.js";
import type { PlanOptions } from "../cli/options.js";
import { decoderMemoryRequest } from "../model/decoder-memory.js";
import { resolveModelPath } from "../model-files/model-folder.js";
import { readModelOutline } from "../model-files/model-outline.js";
import { memoryLimits, openContext, policyOf } from "./session.js";

/** What `pariskv plan --json` prints. */
interface PlanReport {
  readonly contextTokens: number;
  readonly sequences: number;
  readonly perToken: { readonly kvBytes: number; readonly summaryBytes: number };
  readonly lines: MemoryPlan["lines"];
  readonly bytes: MemoryPlan["bytes"];
  readonly pages: number;
  readonly limits: MemoryLimits;
  /** The longest context that fits, up to the model's maximum, in tokens; 0 when none does. */
  readonly longest: number;
  readonly fits: boolean;
}

/** Says whether a context fits, from config and headers alone. Exit code 3 when it does not. */
export async function runPlan(options: PlanOptions, io: CommandIo): Promise<number> {
  const { parallel: sequences, kvDtype } = options;
  const outline = readModelOutline(resolveModelPath(options.model, io.environment));
  const { maxPositions, weightDtype } = outline.config;
  const contextTokens = options.ctxSize === 0 ? maxPositions : options.ctxSize;
  using context = openContext(options.device);
  const request = decoderMemoryRequest(outline, {
    sequences,
    device: context.device,
    policy: policyOf(options),
    ...(kvDtype !== "auto" && { kvDtype }),
  });
  const { lines, bytes, pages } = planMemory({ ...request, contextTokens });
  const limits = memoryLimits(context);
  const report: PlanReport = {
    contextTokens,
    sequences,
    perToken: {
      kvBytes: kvBytesPerToken(request.geometry),
      summaryBytes: summaryBytesPerToken(request.geometry),
    },
    lines,
    bytes,
    pages,
    limits,
    longest: longestContext({ ...request, contextTokens }, limits, maxPositions),
    ...fitMemory({ lines, bytes, pages }, limits),
  };
  if (outline.origin === "config")
    io.writeNotice(`no weight files: weights are counted from config.json as ${weightDtype}\n`);
  if (contextTokens > maxPositions) io.writeNotice(`the model was made for ${maxPositions} tokens\n`);
  io.writeOutput(options.json ? `${JSON.stringify(report)}\n` : describe(report));
  return report.fits ? EXIT.ok : EXIT.doesNotFit;
}

function describe(report: PlanReport): string {
  const { contextTokens, sequences, perToken, lines, bytes, limits, fits } = report;
  const table = formatTable(
    [{ title: "what" }, { title: "where" }, { title: "MiB", align: "right" }],
    lines.map((line) => [line.purpose, line.kind, mebibytes(line.bytes)]),
  );
  const host = bytes.pinned + bytes.mapped;
  const part = (needed: number, free: number) => `${mebibytes(needed)} MiB of ${mebibytes(free)} MiB free`;
  const sum =
    "sharedBytes" in limits
      ? part(host + bytes.device, limits.sharedBytes)
      : `${part(bytes.device, limits.deviceBytes)} on the device, ${part(host, limits.hostBytes)} on the host`;
  const what = `${sequences} × ${contextTokens} tokens`;
  const kv = `${perToken.kvBytes} bytes of K and V and ${perToken.summaryBytes} bytes of summaries a token`;
  const verdict = fits ? `fits: ${sum}` : `does not fit: ${sum}; ${remedy(report)}`;
  return `${what}: ${kv}\n\n${table}\n\n${verdict}\n`;
}

function remedy({ longest, sequences }: PlanReport): string {
  if (longest > 0) return `--ctx-size ${longest} would fit`;
  return sequences > 1 ? "fewer sequences (--parallel) may fit" : "a smaller model is needed";
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}
