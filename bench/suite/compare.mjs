// Two revisions of numaheap against each other: the working tree's allocator, and another commit's, built in a work tree of its own.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, symlinkSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { numaheapOf } from "./subjects.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));
const git = (...args) => execFileSync("git", args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();

/**
 * Both as subjects, the other revision in a rival's place.
 * @throws {Error} if git does not know the revision, or it cannot be built
 */
export async function compareRevisions(revision, told = () => {}) {
  const commit = resolved(revision);
  const tree = `${root}build/revisions/${commit}/`;
  if (!existsSync(`${tree}dist/heap.wasm`)) {
    told(`building ${revision}`);
    checkOut(tree, commit);
    execFileSync(process.execPath, ["assembly/build.mjs"], { cwd: tree, stdio: ["ignore", "ignore", "inherit"] });
  }
  const here = await numaheapOf(root);
  const there = await numaheapOf(tree, `numaheap-${commit.slice(0, 12)}`);
  return { subjects: [here, { ...there, title: `${revision} (${commit.slice(0, 7)})`, kind: "numaheap", role: "rival" }], missing: [] };
}

function resolved(revision) {
  try {
    return git("rev-parse", "--verify", "--quiet", `${revision}^{commit}`);
  } catch (cause) {
    throw new Error(`--compare ${revision}: git knows no such commit`, { cause });
  }
}

/** The files of a commit, with this tree's dependencies. */
function checkOut(tree, commit) {
  mkdirSync(tree, { recursive: true });
  const archive = execFileSync("git", ["archive", commit], { cwd: root, maxBuffer: 2 ** 30 });
  execFileSync("tar", ["-x", "-C", tree], { input: archive });
  if (!existsSync(`${tree}node_modules`)) symlinkSync(`${root}node_modules`, `${tree}node_modules`);
}
