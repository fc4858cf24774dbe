/**
 * Answers a prompt by searching its text, independently of the code that wrote it.
 */
export function oracleAnswer(prompt: string): string {
  const at = prompt.lastIndexOf(" Question: ");
  const text = prompt.slice(0, at);
  const question = prompt.slice(at);
  const all = (pattern: RegExp): string[] => [...text.matchAll(pattern)].map((match) => match[1] as string);
  const matched = (pattern: RegExp): string | undefined => question.match(pattern)?.[1];

  const start = matched(/^ Question: Where does the road from (.+) lead\?/);
  if (start !== undefined) {
    let answer = "";
    for (let stop: string | undefined = start; stop !== undefined && stop !== "home"; ) {
      stop = all(new RegExp(` Road: ${stop} -> ([a-z ]+)\\.`, "g"))[0];
      answer += ` -> ${stop}`;
    }
    return `${answer}.`;
  }
  const variable = matched(/^ Question: What is the value of VAR (.+)\?/);
  if (variable !== undefined) {
    let answer = "";
    for (let right: string | undefined = `VAR ${variable}`; right?.startsWith("VAR "); ) {
      right = all(new RegExp(` ${right} = ([A-Za-z0-9 ]+)\\.`, "g"))[0];
      answer += ` = ${right}`;
    }
    return `${answer}.`;
  }
  const single = matched(/^ Question: What is the (special magic [a-z]+ for [a-z ]+)\?/);
  if (single !== undefined) {
    const [kind, key] = single.slice("special magic ".length).split(" for ");
    return ` ${all(new RegExp(` magic ${kind}s for ${key} is: ([^.]+)\\.`, "g"))[0]}.`;
  }
  const several = matched(/^ Question: What are all the special magic numbers for ([a-z ]+)\?/);
  if (several !== undefined) {
    const values = all(new RegExp(` magic numbers for ${several} is: (\\d+)\\.`, "g"));
    return `${values.map((value) => ` ${several} is: ${value}`).join(";")}.`;
  }
  const isList = question.startsWith(" Question: List the codes for ");
  const keys = matched(isList ? / the codes for ([a-z, ]+)\./ : / the special magic numbers for ([a-z, ]+)\?/);
  const entries = (keys ?? "").split(/, | and /).map((key) => {
    const fact = isList ? ` The code for ${key} is (\\d+)\\.` : ` magic numbers for ${key} is: (\\d+)\\.`;
    return ` ${key} is${isList ? "" : ":"} ${all(new RegExp(fact, "g"))[0]}`;
  });
  return `${entries.join(";")}.`;
}
