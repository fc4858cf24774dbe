// Runs before any install of the workspace: another package manager would leave half of it behind without a word.
const agent = process.env.npm_config_user_agent ?? "";
if (agent && !agent.startsWith("pnpm/")) {
  console.error(
    `This is a pnpm workspace; ${agent.split(" ")[0]} cannot install it.\n` +
      "Run `npm run demo` or `npm test`, which bring the right pnpm, or `npx -y pnpm@10 install`.",
  );
  process.exit(1);
}
