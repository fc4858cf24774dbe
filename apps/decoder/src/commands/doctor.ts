import { readFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { availableMemory, constrainedMemory } from "node:process";
import { formatTable } from "@pariskv/evaluation";
import { type Context, deviceStatus } from "@pariskv/kernels";
import type { CommandIo } from "../cli/command-io.js";
import { EXIT } from "../cli/exit-code.js";
import type { DoctorOptions } from "../cli/options.js";
import { measureReadSpeeds, type ReadSpeed } from "./read-speeds.js";
import { openContext } from "./session.js";

/** Says what this machine offers, what was chosen, and why. Exit code 4 when the asked device is not there. */
export async function runDoctor(options: DoctorOptions, io: CommandIo): Promise<number> {
  const devices = deviceStatus();
  using context = openContext(options.device);
  const report = {
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    processor: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    memoryLimitBytes: memoryLimit(constrainedMemory()),
    availableBytes: availableMemory(),
    lockedMemoryLimit: lockedMemoryLimit(),
    devices,
    chosen: { device: context.device, detail: context.detail },
    reads: measureReadSpeeds(context),
  };
  if (options.json) {
    io.writeOutput(`${JSON.stringify(report)}\n`);
    return EXIT.ok;
  }
  const gibibytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  const { memoryLimitBytes: limit } = report;
  const group = limit !== null && limit < report.memoryBytes ? `, limited to ${gibibytes(limit)}` : "";
  const rows = [
    ["Node", `${report.node} on ${report.platform}`],
    ["processor", `${report.processor}, ${report.cores} cores`],
    ["memory", `${gibibytes(report.memoryBytes)}, ${gibibytes(report.availableBytes)} available${group}`],
    ["page-locked memory", report.lockedMemoryLimit],
    ...devices.map((status) => [status.device, status.available ? `yes  ${status.detail}` : `no   ${status.reason}`]),
    ["chosen", `${context.device} (${context.detail})`],
    ...report.reads.map((read) => [readName(context, read), readText(read)]),
  ];
  io.writeOutput(`${formatTable([{ title: "this machine" }, { title: "" }], rows)}\n`);
  return EXIT.ok;
}

/** The limit of the process's control group, or null: without one, Node says 0, nothing, or a number beyond all memory. */
export function memoryLimit(constrainedBytes: number | undefined): number | null {
  return constrainedBytes && constrainedBytes <= Number.MAX_SAFE_INTEGER ? constrainedBytes : null;
}

/** On a GPU there are two kinds of memory to read, and the host's is read in place. */
function readName({ device }: Context, { kind }: ReadSpeed): string {
  if (device !== "cuda") return "memory is read at";
  return kind === "device" ? "device memory is read at" : "mapped host memory is read at";
}

function readText(read: ReadSpeed): string {
  return "reason" in read ? `not measured: ${read.reason}` : `${(read.bytesPerSecond / 1e9).toFixed(1)} GB/s`;
}

/** The limit on page-locked memory, as the kernel says it: `unlimited`, bytes, or `unknown` where it does not say. */
function lockedMemoryLimit(): string {
  try {
    const line = readFileSync("/proc/self/limits", "utf8")
      .split("\n")
      .find((entry) => entry.startsWith("Max locked memory"));
    const [soft = "unknown"] = line?.slice("Max locked memory".length).trim().split(/\s+/) ?? [];
    return soft === "unlimited" || soft === "unknown" ? soft : `${soft} bytes`;
  } catch {
    return "unknown";
  }
}
