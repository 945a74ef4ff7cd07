#!/usr/bin/env node
// Command line: `node cli.js photo.jpg` prints the label, one line per image.
//
// Exit code 0: success; 1: an image could not be read or has no answer, or the self-test failed; 2: wrong arguments.

import { parseArgs } from "node:util";

import { Classifier, ImageError, ModelError, NoAnswerError } from "./classifier.js";
import { describe } from "./self-test.js";

const USAGE = `usage: node cli.js IMAGE... [--top-k 3] [--json] [--threads N]
       node cli.js --self-test [--threads N]

  --top-k N     print the N most probable classes
  --json        print one JSON object per line
  --threads N   threads per inference; by default, every core of the process
  --self-test   run the golden samples and compare`;

const OPTIONS = {
  "top-k": { type: "string", default: "1" },
  json: { type: "boolean" },
  threads: { type: "string" },
  "self-test": { type: "boolean" },
  help: { type: "boolean", short: "h" },
};

class UsageError extends Error {}

async function main(args) {
  const { values, positionals: paths } = parse(args);
  if (values.help) return print(USAGE);
  const [topK, threads] = [wholeNumber("--top-k", values["top-k"]), wholeNumber("--threads", values.threads)];
  if (!values["self-test"] && paths.length === 0) throw new UsageError("no image given");
  if (values["self-test"] && paths.length > 0) throw new UsageError("the self-test takes no images");
  const classifier = await Classifier.open({ threads });
  if (values["self-test"]) await runSelfTest(classifier);
  else await classifyAll(classifier, paths, topK, values.json ? toJson : toText);
}

async function runSelfTest(classifier) {
  const outcome = await classifier.selfTest();
  print(describe(outcome, classifier));
  if (!outcome.passed) process.exitCode = 1;
}

/** Print one line per image. An unreadable image is reported on standard error, and the next one follows. */
async function classifyAll(classifier, paths, topK, format) {
  for (const path of paths) {
    try {
      const { probabilities } = await classifier.classify(path);
      print(format(path, rank(probabilities, classifier.labels).slice(0, topK)));
    } catch (error) {
      if (!(error instanceof ImageError || error instanceof NoAnswerError)) throw error;
      console.error(printable(error.message));
      process.exitCode = 1;
    }
  }
}

/** All classes, most probable first. */
function rank(probabilities, labels) {
  const classes = labels.map((label, index) => ({ label, index, probability: probabilities[index] }));
  return classes.sort((one, other) => other.probability - one.probability);
}

function toText(path, top) {
  const classes = top.map(({ label, probability }) => `${label} ${(100 * probability).toFixed(1)} %`);
  return printable(`${path}: ${classes.join(", ")}`);
}

/** The same fields as the JSON Lines of `onward predict`. */
function toJson(path, top) {
  return printable(JSON.stringify({ input: path, ...top[0], ...(top.length > 1 && { top }) }));
}

/** Escape line breaks, control characters and marks that turn the direction of text: a label may be any text. */
function printable(text) {
  const obeyed = /[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;
  return text.replace(obeyed, (character) => `\\u${character.codePointAt(0).toString(16).padStart(4, "0")}`);
}

function parse(args) {
  try {
    return parseArgs({ args, options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw new UsageError(error.message, { cause: error });
  }
}

function wholeNumber(option, text) {
  if (text === undefined || /^[1-9]\d{0,5}$/.test(text)) return text && Number(text);
  throw new UsageError(`${option} is ${text}, expected a whole number of at least 1`);
}

function print(text) {
  process.stdout.write(`${text}\n`);
}

process.stdout.on("error", (error) => process.exit(error.code === "EPIPE" ? 0 : 1)); // `head` closes the pipe early
try {
  await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof UsageError) {
    console.error(`${printable(error.message)}\n\n${USAGE}`);
    process.exitCode = 2;
  } else if (error instanceof ModelError) {
    console.error(printable(error.message));
    process.exitCode = 1;
  } else throw error;
}
