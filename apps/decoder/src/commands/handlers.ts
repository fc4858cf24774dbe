import type { CommandHandlers } from "../cli/program.js";
import { runBench } from "./bench.js";
import { runChat } from "./chat.js";
import { runCompare } from "./compare.js";
import { runDemo } from "./demo.js";
import { runDoctor } from "./doctor.js";
import { runPlan } from "./plan.js";
import { runRun } from "./run.js";

/** What each command of `pariskv` does. */
export const commandHandlers: CommandHandlers = {
  demo: runDemo,
  run: runRun,
  chat: runChat,
  compare: runCompare,
  plan: runPlan,
  doctor: runDoctor,
  bench: runBench,
};
