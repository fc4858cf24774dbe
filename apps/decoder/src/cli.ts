#!/usr/bin/env node
import { main } from "./cli/run-cli.js";
import { commandHandlers } from "./commands/handlers.js";

await main(commandHandlers);
