// What is done to the allocator to see whether the scenarios notice: rules over its linear text, and over the statements of its
// recovery. Each change is a mutant with a name that stays the same while its function does.

import { readFileSync } from "node:fs";
import { Kind, isWrite, mapInstructions, parseOperation, withDefinitions } from "./linear.mjs";

const shortName = (fn) => fn.replace("$assembly/", "");
/** Calls that take a lock, or release it: of the address they are given, or of the lock they are called after. */
const ACQUIRE = /^\s*call \$assembly\/lock\/acquire(PageHeap|Topology)?$/;
const RELEASE = /^\s*call \$assembly\/lock\/release(PageHeap|Topology)?$/;
const LOCK_FILE = /^\$assembly\/lock\//;

/**
 * All mutants of the release's linear text: { name, fn, line: its memory operation or the one that follows, make(): its linear text }.
 * `fn` is as in the points of an instrumented module.
 */
export function textMutants(lines) {
  const instructions = readInstructions(lines);
  const out = [];
  const counts = new Map();
  const add = ({ fn, name, point }, what, edits, definitions = []) => {
    const stem = `${what} in ${shortName(fn)}`;
    counts.set(stem, (counts.get(stem) ?? 0) + 1);
    const make = () =>
      withDefinitions(
        lines.flatMap((line, i) => edits.get(i) ?? [line]),
        definitions,
      );
    out.push({ name: `${stem} #${counts.get(stem)}`, fn: name, line: point, make });
  };
  const functions = new Map(instructions.map(({ fn }) => [fn, []]));
  for (const instruction of instructions) functions.get(instruction.fn).push(instruction);
  const writers = writingFunctions(functions);
  for (const list of functions.values()) {
    list.forEach((instruction, i) => {
      const { op, index } = instruction;
      if (!op) return;
      if (op.kind === Kind.Rmw || op.kind === Kind.Cas || op.kind === Kind.Add) {
        const { call, definition } = split(instruction);
        add(instruction, `split ${op.name}${at(op)}`, new Map([[index, [call]]]), definition);
      }
      if (op.kind === Kind.Add) add(instruction, `skip ${op.name}${at(op)}`, new Map([[index, ["drop"]]]));
      if (op.kind === Kind.Store) add(instruction, `skip ${op.name}${at(op)}`, new Map([[index, ["drop", "drop"]]]));
      if (op.kind === Kind.Notify) add(instruction, `drop ${op.name}`, new Map([[index, ["drop", "drop", "i32.const 0"]]]));
      const next = isStore(op) ? nextWrite(list, i, writers) : null;
      if (next && (op.kind === Kind.Store || next.op?.kind === Kind.Store || next.op?.kind === Kind.Grow))
        add(instruction, `swap ${op.name}${at(op)} with the write after it`, swap(lines, instruction, next));
    });
    lockMutants(list, add);
  }
  return out;
}

const at = ({ offset }) => (offset ? ` offset=${offset}` : "");
const isStore = ({ kind }) => kind === Kind.Store || kind === Kind.PlainStore;

/** Every instruction: { fn, index, line, op: its memory operation, if it has one, point: line of the next one of its function that has, or null }. */
function readInstructions(lines) {
  const start = new Map();
  const out = [];
  mapInstructions(lines, (line, name, index) => {
    if (/^\s*\(local /.test(line)) return;
    if (!start.has(name))
      start.set(
        name,
        lines.findLastIndex((other, i) => i < index && other.startsWith(" (func ")),
      );
    const fn = /^ \(func (\S+)/.exec(lines[start.get(name)])[1];
    out.push({ fn, name, index, line, op: parseOperation(line, lines[index + 1]), start: start.get(name) });
  });
  let next = { fn: null, index: null };
  for (const instruction of out.toReversed()) {
    if (instruction.op) next = instruction;
    instruction.point = next.fn === instruction.fn ? next.index : null;
  }
  return out;
}

/** Functions that write to the memory, themselves or by what they call. */
function writingFunctions(functions) {
  const writers = new Set();
  for (let before = -1; before !== writers.size;) {
    before = writers.size;
    for (const [fn, list] of functions)
      if (list.some(({ op, line }) => (op && isWrite(op.kind)) || writers.has(calleeOf(line)))) writers.add(fn);
  }
  return writers;
}

const calleeOf = (line) => /^\s*call (\S+)/.exec(line)?.[1];

/** The write after instruction `i` of a function that is reached whenever it is, if there is one. */
function nextWrite(list, i, writers) {
  for (const other of list.slice(i + 1)) {
    if (/^\s*(block|loop|if|else|end|br|br_if|br_table|return|unreachable)\b/.test(other.line)) return null;
    if ((other.op && isWrite(other.op.kind)) || writers.has(calleeOf(other.line))) return other;
  }
  return null;
}

/** The store is made after the write that follows it. */
function swap(lines, { index, op, line, start }, next) {
  const header = [lines[start], " (local $delayed.p i32)", ` (local $delayed.v ${op.operands[0]})`];
  const late = ["local.get $delayed.p", "local.get $delayed.v", line];
  return new Map([
    [start, header],
    [index, ["local.set $delayed.v", "local.set $delayed.p"]],
    [next.index, [lines[next.index], ...late]],
  ]);
}

/** A read-modify-write as a load and a store: what calls it, and the function that does it. */
function split({ op, index }) {
  const type = op.result;
  const word = `${type}.atomic`;
  const name = `$split.${index}`;
  const cas = op.kind === Kind.Cas;
  const change = op.name.split(".").at(-1);
  const value = cas ? ["local.get $1"] : change === "xchg" ? ["local.get $0"] : ["local.get $old", "local.get $0", `${type}.${change}`];
  const store = ["local.get $p", ...value, `${word}.store${at(op)}`];
  const body = [
    "local.get $p",
    `${word}.load${at(op)}`,
    "local.set $old",
    ...(cas ? ["local.get $old", "local.get $0", `${type}.eq`, "if", ...store, "end"] : store),
    "local.get $old",
  ];
  const params = op.operands.map((operand, i) => `(param $${i} ${operand})`).join(" ");
  const head = [` (func ${name} (param $p i32) ${params} (result ${type})`, `  (local $old ${type})`];
  return { call: `call ${name}`, definition: [...head, ...body, " )"] };
}

/** A section without its lock; where a function takes several, each is only not taken. A lock that stays held. */
function lockMutants(list, add) {
  if (LOCK_FILE.test(list[0].fn)) return;
  const acquires = list.filter(({ line }) => ACQUIRE.test(line));
  const releases = list.filter(({ line }) => RELEASE.test(line));
  /** What leaves the call out, with the address it is given. */
  const without = ({ line }, call) => (call.exec(line)[1] ? [] : ["drop"]);
  for (const acquire of acquires) {
    const edits = new Map([[acquire.index, [...without(acquire, ACQUIRE), "i32.const 1"]]]);
    if (acquires.length === 1) for (const release of releases) edits.set(release.index, without(release, RELEASE));
    add(acquire, "do without the lock", edits);
  }
  for (const release of releases) add(release, "drop release", new Map([[release.index, without(release, RELEASE)]]));
}

// ---- statements of what is done after a death

/** [file, functions]: recovery, where each statement has its reason. */
const RECOVERY = {
  "assembly/reap.ts": /^(reap|reapAll|repair|repairLists|finishReturns|repairTopology|finishLargeFree|voidCarry|isListed|bury)$/,
  "assembly/page-source.ts": /^recoverGrowth$/,
  "assembly/page-heap.ts": /^(rebuildPageHeap|rebuildRuns)$/,
  "assembly/central.ts": /^rebuildCentral$/,
};
const STATEMENT =
  /^\s+(?!return|const|let|\/\/|for .*\{$|import|\*)(?:if \(.*\) |for \(.*\) )*(?:[\w.]+(?:<\w+>)?\(.*\)|[\w.]+ (?:[-+]?=) .*|return true);$/;

/** Mutants of the sources: { name, fn, sources: for compile() }, each without one statement of the recovery. */
export function sourceMutants() {
  return Object.entries(RECOVERY).flatMap(([path, wanted]) => {
    const lines = readFileSync(new URL(`../../${path}`, import.meta.url), "utf8").split("\n");
    const counts = new Map();
    let inside = null;
    let elsewhere = false;
    return lines.flatMap((line, i) => {
      inside = /^(?:export )?function (\w+)/.exec(line)?.[1] ?? (line === "}" ? null : inside);
      // What only another build has is not in the code under test.
      elsewhere = /^ {2}if \(isDefined\(\w+_BUILD\)\) \{$/.test(line) || (elsewhere && line !== "  }");
      if (!inside || elsewhere || !wanted.test(inside) || !STATEMENT.test(line)) return [];
      const stem = `without \`${line.trim()}\` in ${path.slice("assembly/".length, -3)}/${inside}`;
      counts.set(stem, (counts.get(stem) ?? 0) + 1);
      const text = lines.with(i, "").join("\n");
      return [{ name: `${stem} #${counts.get(stem)}`, fn: inside, sources: { [path]: text } }];
    });
  });
}
