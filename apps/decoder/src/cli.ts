#!/usr/bin/env node
import { main } from "./cli/run-cli.js";
import { runBench } from "./commands/bench.js";
import { runChat } from "./commands/chat.js";
import { runCompare } from "./commands/compare.js";
import { runDemo } from "./commands/demo.js";
import { runDoctor } from "./commands/doctor.js";
import { runPlan } from "./commands/plan.js";
import { runRun } from "./commands/run.js";

await main({
  demo: runDemo,
  run: runRun,
  chat: runChat,
  compare: runCompare,
  plan: runPlan,
  doctor: runDoctor,
  bench: runBench,
});
