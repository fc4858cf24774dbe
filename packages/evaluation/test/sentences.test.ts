import { describe, expect, it } from "vitest";
import {
  askAllValues,
  askMany,
  askOne,
  askRoad,
  askVariable,
  keyFact,
  type Question,
  roadFact,
  variableFact,
} from "../src/sentences.js";

const answerText = (question: Question): string => question.answer.map(({ text }) => text).join("");
const values = (question: Question): string[] =>
  question.answer.filter(({ isValue }) => isValue).map(({ text }) => text);

describe("sentences are those the bundled model was trained on", () => {
  it("facts", () => {
    expect(keyFact("number", "dressed mind", "4709692")).toBe(
      " One of the special magic numbers for dressed mind is: 4709692.",
    );
    expect(keyFact("word", "neither evolution", "planner")).toBe(
      " One of the special magic words for neither evolution is: planner.",
    );
    expect(keyFact("uuid", "actual store", "0b8344df-db0c")).toBe(
      " One of the special magic uuids for actual store is: 0b8344df-db0c.",
    );
    expect(keyFact("code", "contained show", "8196")).toBe(" The code for contained show is 8196.");
    expect(roadFact("restricted finish", "loaded pipe")).toBe(" Road: restricted finish -> loaded pipe.");
    expect(variableFact("page", "VAR hair")).toBe(" VAR page = VAR hair.");
    expect(variableFact("hair", "88590")).toBe(" VAR hair = 88590.");
  });

  it("a single look-up restates the question and answers with the value", () => {
    const question = askOne("number", "declared comma", "4999154");
    expect(question.text).toBe(
      " Question: What is the special magic number for declared comma? Answer: The special magic number for declared comma is:",
    );
    expect(answerText(question)).toBe(" 4999154.");
    expect(values(question)).toEqual([" 4999154"]);
  });

  it("several values of a key", () => {
    const question = askAllValues("number", "proper colors", ["7683778", "6460406"]);
    expect(question.text).toBe(" Question: What are all the special magic numbers for proper colors? Answer:");
    expect(answerText(question)).toBe(" proper colors is: 7683778; proper colors is: 6460406.");
    expect(values(question)).toEqual([" 7683778", " 6460406"]);
  });

  it("several keys", () => {
    const question = askMany("number", [
      { key: "connected effort", value: "4514960" },
      { key: "greenish gain", value: "8349472" },
      { key: "involved guarantee", value: "7474967" },
    ]);
    expect(question.text).toBe(
      " Question: What are the special magic numbers for connected effort, greenish gain and involved guarantee? Answer:",
    );
    expect(answerText(question)).toBe(
      " connected effort is: 4514960; greenish gain is: 8349472; involved guarantee is: 7474967.",
    );
  });

  it("a list of codes", () => {
    const question = askMany("code", [
      { key: "involved links", value: "2942" },
      { key: "situated reality", value: "9999" },
    ]);
    expect(question.text).toBe(" Question: List the codes for involved links and situated reality. Answer:");
    expect(answerText(question)).toBe(" involved links is 2942; situated reality is 9999.");
    expect(values(question)).toEqual([" 2942", " 9999"]);
  });

  it("a walk", () => {
    const question = askRoad(["tropical interest", "remaining idea", "suitable border"]);
    expect(question.text).toBe(" Question: Where does the road from tropical interest lead? Answer: tropical interest");
    expect(answerText(question)).toBe(" -> remaining idea -> suitable border -> home.");
    expect(values(question)).toEqual([" remaining idea", " suitable border", " home"]);
  });

  it("a variable", () => {
    const question = askVariable(["noise", "market", "spring"], "59618");
    expect(question.text).toBe(" Question: What is the value of VAR noise? Answer: VAR noise");
    expect(answerText(question)).toBe(" = VAR market = VAR spring = 59618.");
    expect(values(question)).toEqual([" VAR market", " VAR spring", " 59618"]);
    expect(answerText(askVariable(["sale"], "88590"))).toBe(" = 88590.");
  });
});
