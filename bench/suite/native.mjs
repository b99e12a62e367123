// The same loops natively, with each allocator that Debian has: how far WebAssembly is from what a machine can do.
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { installedNative } from "../rivals/installed.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));
const program = `${root}build/bench/native`;
/** Cells whose loops the native driver has. */
const CELLS = "abcdefhijkls";

/** Builds the native driver; false without a C compiler. */
export function buildNative() {
  mkdirSync(`${root}build/bench`, { recursive: true });
  try {
    const source = `${root}bench/drivers/native.c`;
    execFileSync("gcc", ["-O3", "-fno-builtin", "-pthread", "-w", source, "-o", program], { stdio: ["ignore", "ignore", "inherit"] });
    return true;
  } catch (error) {
    if (error.code === "ENOENT") return false;
    throw error;
  }
}

/** One round: [{ cell, subject, value }] in nanoseconds a round of the loop. */
export function nativeRound(cells, { ms, warmUpMs }, allocators = installedNative()) {
  return cells
    .filter(({ cell }) => CELLS.includes(cell.letter))
    .flatMap(({ cell, threads, id }) =>
      allocators.map(({ id: subject, preload }) => {
        const env = { ...process.env, ...(preload && { LD_PRELOAD: preload }) };
        const said = execFileSync(program, [cell.letter, String(threads), String(ms + warmUpMs)], { env, encoding: "utf8" });
        return { cell: id, subject, value: Number(said) };
      }),
    );
}
